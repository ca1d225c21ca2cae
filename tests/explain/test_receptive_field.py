"""Effective receptive fields compared with derivatives worked out by hand, and with one backward pass per channel."""

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

import foveal
from foveal.errors import FovealError
from foveal.explain import (
    EffectiveReceptiveField,
    Layer,
    branch_layers,
    effective_receptive_field,
    stage_layers,
)

KERNEL = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])


def conv(weight: Tensor, stride: int = 1) -> nn.Conv2d:
    """A convolution with a weight (C_out, C_in, k, k), without bias, padded by k // 2."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, weight.shape[2] // 2, bias=False)
    layer.weight = nn.Parameter(weight.clone())
    return layer


def image(height: int, width: int, batch: int = 1, channels: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def field_of(net: nn.Module, x: Tensor, place: Layer | None = None, **options) -> np.ndarray:
    """The (H, W) field of one layer, by default the output of the whole network."""
    fields = effective_receptive_field(net, [x], {"layer": place or Layer(net)}, **options)
    return fields.contributions[0]


def around(values: np.ndarray, centre: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Zeros of (H, W), with an odd square of values around a pixel."""
    whole, reach = np.zeros(size, np.float32), len(values) // 2
    whole[centre[0] - reach : centre[0] + reach + 1, centre[1] - reach : centre[1] + reach + 1] = values
    return whole


def small(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **options).eval()


def small_swin() -> nn.Module:
    return small("swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(2, 2, 2, 2), embed_dim=24)


def small_convnext() -> nn.Module:
    return small("convnext_tiny", depths=(1, 1, 2, 1), dims=(16, 32, 64, 128), ls_init_value=0.5)


# --- values known by hand


def test_one_convolution_shows_its_kernel_around_the_centre():
    np.testing.assert_array_equal(
        field_of(conv(KERNEL[None, None]), image(8, 8, channels=1)), around(KERNEL, (4, 4), (8, 8))
    )


def test_channels_are_summed_before_and_colours_after_absolute_values_or_positive_parts_are_taken():
    """Two outputs of three colours: the derivative by colour c is w[0, c] + w[1, c] = 3, -1, 2."""
    weight = torch.tensor([[1.0, 1.0, -2.0], [2.0, -2.0, 4.0]])[..., None, None]
    assert field_of(conv(weight), image(5, 5)).tolist() == around(np.array([[6.0]]), (2, 2), (5, 5)).tolist()
    assert field_of(conv(weight), image(5, 5), sign="positive")[2, 2] == 5


def test_two_box_convolutions_give_the_product_of_triangles():
    net = nn.Sequential(*(conv(torch.ones(1, 1, 3, 3)) for _ in range(2)))
    triangle = np.array([1, 2, 3, 2, 1])
    expected = around(np.outer(triangle, triangle), (4, 4), (9, 9))
    np.testing.assert_array_equal(field_of(net, image(9, 9, channels=1)), expected)


def test_binomial_convolutions_give_binomial_coefficients():
    rows = torch.tensor([1.0, 2.0, 1.0])
    net = nn.Sequential(*(conv(torch.outer(rows, rows)[None, None]) for _ in range(3)))
    coefficients = np.array([1, 6, 15, 20, 15, 6, 1])
    expected = around(np.outer(coefficients, coefficients), (4, 4), (9, 9))
    np.testing.assert_array_equal(field_of(net, image(9, 9, channels=1)), expected)


def test_a_strided_pair_spreads_the_second_kernel_by_the_stride():
    """On an axis of 16 pixels, 3 wide with stride 2 twice: the map has 4 tokens, and its centre, 2, sees the tokens
    3, 4, 5 of the map before, each of them the pixels 2i - 1, 2i, 2i + 1. So 5 to 11 are seen 1, 1, 2, 1, 2, 1, 1
    times."""
    net = nn.Sequential(*(conv(torch.ones(1, 1, 3, 3), stride=2) for _ in range(2)))
    axis = np.array([1, 1, 2, 1, 2, 1, 1])
    np.testing.assert_array_equal(
        field_of(net, image(16, 16, channels=1)), around(np.outer(axis, axis), (8, 8), (16, 16))
    )


def test_global_average_pooling_sees_every_pixel_alike():
    np.testing.assert_allclose(field_of(nn.AdaptiveAvgPool2d(1), image(6, 10)), 3 / 60, rtol=1e-6)


def test_rectangular_maps_have_their_centre_at_half_of_each_side():
    field = field_of(conv(KERNEL[None, None]), image(6, 11, channels=1))
    np.testing.assert_array_equal(field, around(KERNEL, (3, 5), (6, 11)))


def test_fields_are_means_over_images():
    """The derivative of x^2 is 2 x: the field at the centre is the mean of its absolute values."""

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x

    images = [torch.full((1, 3, 3), value) for value in (1.0, 2.0, -3.0)]
    fields = effective_receptive_field(net := Square(), images, {"square": Layer(net)})
    assert fields.images == 3
    assert fields.contributions[0].tolist() == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


# --- layers


def test_a_channels_last_layer_gives_the_field_of_its_map_and_not_of_a_transposed_one():
    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv(torch.ones(4, 1, 3, 3))
            self.turned = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.turned(self.conv(x).permute(0, 2, 3, 1))

    net, x = ChannelsLast(), image(8, 8, channels=1)
    np.testing.assert_array_equal(field_of(net, x, Layer("turned", "NHWC")), field_of(net, x, Layer(net.conv)))
    assert field_of(net, x, Layer("turned", "NHWC")).sum() == 4 * 9
    assert field_of(net, x, Layer("turned", "NCHW")).sum() != 4 * 9


def test_a_layer_whose_output_is_overwritten_in_place_is_taken_before():
    net = nn.Sequential(conv(-torch.ones(1, 1, 3, 3)), nn.ReLU(inplace=True))
    field = field_of(net, torch.ones(1, 1, 5, 5), Layer("0"), sign="absolute")
    assert field.sum() == 9  # the ReLU would have removed them


def test_the_input_of_a_module_can_be_taken():
    net = nn.Sequential(conv(KERNEL[None, None]), nn.AvgPool2d(2))
    x = image(8, 8, channels=1)
    np.testing.assert_array_equal(field_of(net, x, Layer("1", side="input")), field_of(net, x, Layer("0")))


def by_channel(centre, x: Tensor) -> np.ndarray:
    """Absolute values of the sum over channels of one derivative each, in the network's precision."""
    pixels = x.clone().requires_grad_()
    channels = centre(pixels)
    total = sum(torch.autograd.grad(value, pixels, retain_graph=True)[0] for value in channels)
    return total.abs().sum((0, 1)).numpy()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_stages_of_transnext_are_the_sums_of_derivatives_by_channel(stage):
    net, x = small("transnext_atto"), image(64, 96)

    def centre(pixels: Tensor) -> Tensor:
        tokens = net.stages[:stage](pixels)
        tokens = net.stages[stage].blocks(net.stages[stage].downsample(tokens))
        return tokens[0, tokens.shape[1] // 2, tokens.shape[2] // 2]

    fields = effective_receptive_field(net, [x])
    expected = by_channel(centre, x)
    assert fields.layers[stage] == f"stage {stage + 1}"
    assert fields.maps[stage] == (64 // 2 ** (stage + 2), 96 // 2 ** (stage + 2))
    np.testing.assert_allclose(fields.contributions[stage], expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_branches_of_the_d_mixer_are_the_maps_that_its_formula_joins():
    """Equation 2: the output is STE(concat(IDConv, OSRA)), and STE(x) = proj(x) + x."""
    net, x = small("transxnet_atto"), image(64, 64)
    block, seen = net.stages[2].blocks[-1], []
    handle = block.token_mixer.register_forward_pre_hook(lambda _, args: seen.append(args))
    places = branch_layers(net)
    fields = effective_receptive_field(net, [x], places)

    def mixed(pixels: Tensor, part: str) -> Tensor:
        seen.clear()
        net.forward_features(pixels)
        mixer, (local, distant) = block.token_mixer, seen[0][0].chunk(2, dim=1)
        maps = {"IDConv": mixer.local_unit(local), "OSRA": mixer.global_unit(distant, seen[0][1])}
        joined = torch.cat(list(maps.values()), dim=1)
        maps["STE"] = mixer.proj(joined) + joined
        return maps[part][0, :, 2, 2]

    for name, field in zip(fields.layers, fields.contributions, strict=True):
        expected = by_channel(lambda pixels, name=name: mixed(pixels, name), x)
        np.testing.assert_allclose(field, expected, rtol=1e-3, atol=1e-4 * expected.max(), err_msg=name)
    handle.remove()
    assert fields.layers == ("IDConv", "OSRA", "STE")
    assert fields.maps == ((4, 4),) * 3


@pytest.mark.parametrize("build", [small_swin, small_convnext, lambda: small("transxnet_atto")])
def test_networks_of_timm_give_the_derivatives_of_their_intermediate_maps(build):
    net, x = build(), image(64, 64)

    def centre(pixels: Tensor) -> Tensor:
        last = net.forward_intermediates(pixels, indices=[2], output_fmt="NCHW", intermediates_only=True)[0]
        return last[0, :, 2, 2]

    fields = effective_receptive_field(net, [x])
    expected = by_channel(centre, x)
    assert fields.maps == ((16, 16), (8, 8), (4, 4), (2, 2))
    np.testing.assert_allclose(fields.contributions[2], expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_a_window_of_swin_is_all_that_its_first_block_sees():
    """Tokens 8 to 11 of 16 share a window of 4 with the centre token, 8: pixels 32 to 47."""
    net = small_swin()
    field = field_of(net, image(64, 64), Layer(net.layers[0].blocks[0], "NHWC"), sign="absolute")
    expected = np.zeros((64, 64), bool)
    expected[32:48, 32:48] = True
    np.testing.assert_array_equal(field > 0, expected)


# --- sums that are kept


def test_a_batch_is_the_sum_of_its_images():
    net, x = small("transnext_atto"), image(64, 64, batch=3)
    together, apart = EffectiveReceptiveField(net), EffectiveReceptiveField(net)
    together.add(x)
    for one in x:
        apart.add(one)
    assert together.counted == apart.counted == ("0", "1", "2")
    expected = apart.result().contributions
    np.testing.assert_allclose(together.result().contributions, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_the_same_images_give_the_same_bytes(tmp_path):
    x = image(64, 64, batch=2)
    for path in (tmp_path / "a.npz", tmp_path / "b.npz"):
        field = EffectiveReceptiveField(small("transnext_atto"))
        field.add(x, ["a.jpg", "b.jpg"])
        field.save(path)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("build", [lambda: small("transnext_atto"), small_swin])
def test_a_resumed_sum_equals_an_uninterrupted_one(build, tmp_path):
    x, names = image(64, 64, batch=4), ["a", "b", "c", "d"]
    straight = EffectiveReceptiveField(build())
    for one, name in zip(x, names, strict=True):
        straight.add(one, [name])
    first = EffectiveReceptiveField(build())
    first.add(x[0], ["a"])
    first.add(x[1], ["b"])
    first.save(tmp_path / "sums.npz")
    second = EffectiveReceptiveField(build())
    second.load(tmp_path / "sums.npz")
    assert second.counted == ("a", "b")
    for one, name in zip(x, names, strict=True):
        if name not in second.counted:
            second.add(one, [name])
    assert second.result().images == 4
    np.testing.assert_array_equal(second.result().contributions, straight.result().contributions)


def test_sums_of_another_network_layers_or_sign_are_refused(tmp_path):
    path = tmp_path / "sums.npz"
    field = EffectiveReceptiveField(small("transnext_atto"))
    field.add(image(64, 64))
    field.save(path)
    torch.manual_seed(1)
    others = [
        EffectiveReceptiveField(timm.create_model("transnext_atto", num_classes=0)),
        EffectiveReceptiveField(small("transnext_atto"), sign="positive"),
        EffectiveReceptiveField(net := small("transnext_atto"), {"stage 1": stage_layers(net)["stage 1"]}),
    ]
    for other in others:
        with pytest.raises(FovealError, match="another network, weights, layers or sign"):
            other.load(path)
        assert other.counted == ()


def test_a_file_that_holds_no_sums_is_refused_in_one_sentence(tmp_path):
    field = EffectiveReceptiveField(small("transnext_atto"))
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", sums=np.zeros(3))
    np.savez(tmp_path / "objects.npz", format=np.array([object()]))
    for name in ("text.npz", "other.npz", "objects.npz"):
        with pytest.raises(FovealError, match="does not hold a receptive field"):
            field.load(tmp_path / name)
    with pytest.raises(FovealError, match="could not be read"):
        field.load(tmp_path / "missing.npz")


def test_an_image_is_counted_once_and_a_refused_batch_not_at_all():
    net = conv(torch.ones(1, 3, 3, 3))
    field = EffectiveReceptiveField(net, {"conv": Layer(net)})
    field.add(image(5, 5, batch=2), ["a", "b"])
    before = field.result().contributions
    for names in (["c", "a"], ["c", "c"], ["c"]):
        with pytest.raises(FovealError):
            field.add(image(5, 5, batch=2), names)
    with pytest.raises(FovealError, match="resize all to one size"):
        field.add(image(6, 6), ["c"])
    assert field.counted == ("a", "b")
    np.testing.assert_array_equal(field.result().contributions, before)


# --- the network, and errors


def test_the_network_is_left_as_it_was():
    net = small("transnext_atto", drop_path_rate=0.5)
    net.stages[0].train()
    frozen = net.stages[1].downsample.proj.weight.requires_grad_(False)
    kept = torch.ones_like(net.stages[0].downsample.proj.bias)
    net.stages[0].downsample.proj.bias.grad = kept
    modes = [module.training for module in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    field = EffectiveReceptiveField(net)
    x = image(64, 64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        field.add(x)
    with pytest.raises(FovealError):
        field.add(torch.full((1, 3, 64, 64), float("nan")))
    assert [module.training for module in net.modules()] == modes
    assert [p is frozen for p in net.parameters() if not p.requires_grad] == [True]
    assert [p.grad is kept for p in net.parameters() if p.grad is not None] == [True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not x.requires_grad
    plain = EffectiveReceptiveField(net.eval())
    plain.add(x)
    np.testing.assert_array_equal(field.result().contributions, plain.result().contributions)


def test_training_after_a_field_still_reaches_the_position_bias():
    net = small("transnext_atto")
    effective_receptive_field(net, [image(64, 64)])
    net.forward_features(image(64, 64)).square().sum().backward()
    assert net.stages[0].blocks[0].attn.cpb_fc1.weight.grad.abs().sum() > 0


def test_a_channel_sum_that_is_constant_is_refused_instead_of_drawn_as_noise():
    net = small("transnext_atto")
    with pytest.raises(FovealError, match="does not depend on the image"):
        effective_receptive_field(net, [image(64, 64)], {"after the norm": Layer(net.stages[2])})
    with torch.no_grad():
        net.stages[2].norm.weight.uniform_(0.5, 1.5)  # as in a trained network
    assert effective_receptive_field(net, [image(64, 64)], {"norm": Layer(net.stages[2])}).contributions.max() > 0


def test_errors_say_what_to_do():
    net = nn.Sequential(conv(torch.ones(1, 3, 3, 3)), nn.Flatten())
    x = image(5, 5)
    with pytest.raises(FovealError, match="pass layers"):
        EffectiveReceptiveField(net)
    with pytest.raises(FovealError, match="no module '7'"):
        EffectiveReceptiveField(net, {"seven": Layer("7")})
    with pytest.raises(FovealError, match="not a part"):
        EffectiveReceptiveField(net, {"other": Layer(nn.Identity())})
    with pytest.raises(FovealError, match="four dimensions"):
        effective_receptive_field(net, [x], {"flat": Layer("1")})
    with pytest.raises(FovealError, match="floating-point images"):
        effective_receptive_field(net, [x.byte()], {"conv": Layer("0")})
    with pytest.raises(FovealError, match="at least one"):
        effective_receptive_field(net, [], {"conv": Layer("0")})
    with pytest.raises(FovealError, match="No layers"):
        EffectiveReceptiveField(net, {})
    with pytest.raises(FovealError, match='"positive" or "absolute"'):
        EffectiveReceptiveField(net, {"conv": Layer("0")}, sign="negative")


def test_a_network_folded_for_inference_is_measured_or_refused_but_never_wrong():
    net, x = small("transnext_atto"), image(64, 64)
    expected = effective_receptive_field(net, [x]).contributions
    folded = foveal.optimize(net)
    try:
        fields = effective_receptive_field(folded, [x])
    except FovealError:
        return
    np.testing.assert_allclose(fields.contributions, expected, rtol=1e-2, atol=1e-3 * expected.max())
