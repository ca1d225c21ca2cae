"""Any image of at least 32 x 32 works in every mode and order; other inputs raise a one-line error."""

import itertools

import pytest
import torch
from torch import Tensor

from support import plain_transnext, plain_transxnet
from support.accuracy import GRADIENT, OUTPUT, assert_same, relative_error
from support.nets import atto, gradients, image, in_double

SIZES = [(32, 32), (33, 47), (47, 33), (64, 64), (100, 32), (32, 224), (64, 100), (47, 47), (224, 224), (100, 33)]
WINDOWS = [3, 5, 7, 9, 1, (9, 7, 5, 3)]
MODES = {
    "normal": {},
    "linear": dict(pool_size=1),
    "linear, pool 7": dict(pool_size=7, img_size=256),
    "interpolate": dict(position_bias="interpolate", img_size=(96, 64)),
    "linear, interpolate": dict(pool_size=2, img_size=128, position_bias="interpolate"),
    "without length scaling": dict(length_scaling=False),
}


def fresh(net, family, **options):
    """A copy of the model that has not run at any other size."""
    twin = atto(family, **options)
    twin.load_state_dict(net.state_dict())
    return twin


@pytest.mark.parametrize("window", [3, (9, 7, 5, 3)], ids=str)
@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_changing_sizes_give_the_output_of_a_fresh_model(mode, window):
    options = dict(window_size=window, **MODES[mode])
    net = atto("transnext", **options)
    for height, width in SIZES:
        out = net(image(height, width))
        assert out.isfinite().all()
        assert torch.equal(out, fresh(net, "transnext", **options)(image(height, width))), (height, width)


@torch.no_grad()
def test_changing_sizes_give_the_output_of_a_fresh_transxnet():
    net = atto("transxnet")
    for height, width in SIZES:
        out = net(image(height, width))
        assert out.isfinite().all()
        assert torch.equal(out, fresh(net, "transxnet")(image(height, width))), (height, width)


def plain_settings(window=3, **options) -> plain_transnext.Settings:
    if "img_size" in options and isinstance(options["img_size"], int):
        options["img_size"] = (options["img_size"],) * 2
    windows = (window,) * 4 if isinstance(window, int) else window
    return plain_transnext.Settings(**{"img_size": (64, 64), **options, "window_size": windows})


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("size", [(33, 47), (64, 96), (100, 32)], ids=str)
@torch.no_grad()
def test_every_window_size_equals_the_plain_form(window, size):
    net = atto("transnext", window_size=window)
    expected = plain_transnext.logits(in_double(net), image(*size).double(), plain_settings(window))
    assert relative_error(net(image(*size)), expected) <= OUTPUT


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(32, 32), (47, 33), (64, 100)], ids=str)
@torch.no_grad()
def test_every_mode_equals_the_plain_form(mode, size):
    net = atto("transnext", **MODES[mode])
    expected = plain_transnext.logits(in_double(net), image(*size).double(), plain_settings(**MODES[mode]))
    assert relative_error(net(image(*size)), expected) <= OUTPUT


@pytest.mark.parametrize("size", [(33, 47), (64, 96)], ids=str)
@torch.no_grad()
def test_four_aggregated_stages_equal_the_plain_form(size):
    options = dict(token_mixers="AAAA", sr_ratios=(16, 8, 4, 2), pretrain_size=256)
    net = atto("transnext", **options)
    settings = plain_settings(**{**options, "pretrain_size": (256, 256)})
    expected = plain_transnext.logits(in_double(net), image(*size).double(), settings)
    assert relative_error(net(image(*size)), expected) <= OUTPUT


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 64), (100, 96)], ids=str)
@torch.no_grad()
def test_transxnet_equals_the_plain_form(size):
    net = atto("transxnet")
    expected = plain_transxnet.logits(in_double(net), image(*size).double())
    assert relative_error(net(image(*size)), expected) <= OUTPUT


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_every_mode_equals_the_plain_form_in_double_precision(mode):
    """Reveals an epsilon or an approximation that float32 would hide."""
    net = atto("transnext", window_size=(3, 5, 3, 3), **MODES[mode]).double()
    x = image(47, 64).double()
    expected = plain_transnext.logits(net.state_dict(), x, plain_settings((3, 5, 3, 3), **MODES[mode]))
    assert_same(net(x), expected, reduction=1_000_000)


@torch.no_grad()
def test_transxnet_equals_the_plain_form_in_double_precision():
    net = atto("transxnet").double()
    x = image(47, 64).double()
    assert_same(net(x), plain_transxnet.logits(net.state_dict(), x), reduction=1_000_000)


def assert_gradients_equal(found: dict[str, Tensor], plain: Tensor, state: dict[str, Tensor]) -> None:
    """Compare every parameter's gradient, with the output weighting of `gradients`."""
    weighting = torch.randn(plain.shape, generator=torch.Generator().manual_seed(2)).double()
    (plain * weighting).sum().backward()
    expected = {name: t.grad for name, t in state.items() if t.requires_grad}
    assert found.keys() == expected.keys()
    # A bias followed by mean subtraction has a gradient of exactly 0: compare it on the scale of its layer.
    for name, gradient in expected.items():
        layer = name.rpartition(".")[0]
        scale = max(g.abs().max().item() for n, g in expected.items() if n.rpartition(".")[0] == layer)
        assert relative_error(found[name], gradient, floor=scale) <= GRADIENT, name


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_every_parameter_equal_those_of_the_plain_form(mode):
    net = atto("transnext", window_size=(3, 5, 3, 3), **MODES[mode]).train()
    state = in_double(net, gradients=True)
    x = image(47, 64, batch=2)
    plain = plain_transnext.logits(state, x.double(), plain_settings((3, 5, 3, 3), **MODES[mode]))
    assert_gradients_equal(gradients(net, x), plain, state)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_and_statistics_of_transxnet_equal_those_of_the_plain_form(training):
    net = atto("transxnet").train(training)
    state = in_double(net, gradients=True)
    x = image(100, 96, batch=3)
    plain = plain_transxnet.logits(state, x.double(), training=training)
    found = gradients(net, x)
    for name, buffer in net.named_buffers():
        assert relative_error(buffer, state[name]) <= OUTPUT, name
    assert_gradients_equal(found, plain, state)


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1), (0, 64)], ids=str)
def test_smaller_images_raise_a_one_line_error(family, size):
    with pytest.raises(ValueError, match=f"at least 32 x 32 pixels, got {size[0]} x {size[1]}"):
        atto(family)(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
@torch.no_grad()
def test_samples_of_a_batch_are_independent(family):
    net = atto(family)
    together = net(image(64, 47, batch=3))
    for i in range(3):
        alone = net(image(64, 47, batch=3)[i : i + 1])
        assert relative_error(alone, together[i : i + 1]) <= OUTPUT


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
@torch.no_grad()
def test_memory_formats_do_not_change_the_output(family):
    net, x = atto(family), image(64, 47, batch=2)
    strided = torch.stack([x, x], -1)[..., 0]
    assert all(torch.equal(net(t), net(x)) for t in (x.contiguous(memory_format=torch.channels_last), strided))


@pytest.mark.parametrize("window", [0, 2, 4, -3, (3, 3, 4, 3)], ids=str)
def test_an_invalid_window_size_raises_a_one_line_error(window):
    with pytest.raises(ValueError, match="window_size must be odd"):
        atto(window_size=window)


@pytest.mark.parametrize("windows", [(3, 3), (3, 3, 3, 3, 3)], ids=str)
def test_window_size_must_be_one_number_or_one_per_stage(windows):
    with pytest.raises(ValueError, match="one number or 4"):
        atto(window_size=windows)


@pytest.mark.parametrize(("pool", "img_size"), [(16, 64), (4, 64), (7, 112), ((1, 14), 224), (100, 224)], ids=str)
def test_a_pool_size_as_large_as_a_map_raises_a_one_line_error(pool, img_size):
    with pytest.raises(ValueError, match=r"pool_size .* must be smaller than .* map") as error:
        atto(pool_size=pool, img_size=img_size)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pool", [0, -1, (2, 0)], ids=str)
def test_an_empty_pool_is_rejected(pool):
    with pytest.raises(ValueError, match="pool_size must be at least 1"):
        atto(pool_size=pool)


def test_an_unknown_position_bias_is_rejected():
    with pytest.raises(ValueError, match='position_bias must be "extrapolate" or "interpolate", got \'nearest\''):
        atto(position_bias="nearest")
    with pytest.raises(ValueError, match="position_bias must be"):
        atto().set_input_size(position_bias="nearest")


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
@pytest.mark.parametrize("size", [31, (64, 16), 0], ids=str)
def test_a_reference_size_below_32_is_rejected(family, size):
    with pytest.raises(ValueError, match="img_size must be at least 32 x 32"):
        atto(family, img_size=size)


@pytest.mark.parametrize("windows", list(itertools.permutations((1, 3, 9), 2)), ids=str)
def test_window_sizes_are_set_per_stage(windows):
    first, second = windows
    net = atto(window_size=(first, second, 3, 3))
    assert net.stages[0].blocks[0].attn.learnable_tokens.shape[-1] == first**2
    assert net.stages[1].blocks[0].attn.relative_pos_bias_local.shape[-1] == second**2


def test_a_batch_of_one_cannot_train_batch_norms_and_the_error_says_what_can():
    net = atto("transxnet").train()
    for side in (32, 96):
        with pytest.raises(
            ValueError, match=r"cannot be trained on a batch of one image.*pass several images, or call"
        ):
            net(torch.zeros(1, 3, side, side))
    assert net(torch.randn(2, 3, 32, 32)).isfinite().all()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # frozen
    assert net(torch.zeros(1, 3, 32, 32)).isfinite().all()
    assert net.eval()(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_one_large_image_trains_batch_norms_where_nothing_is_pooled_to_one_value():
    net = atto("transxnet", local_mixer="dwconv").train()
    assert net(torch.randn(1, 3, 64, 64)).isfinite().all()
    with pytest.raises(ValueError, match="cannot be trained on a batch of one image"):
        net(torch.randn(1, 3, 32, 32))
