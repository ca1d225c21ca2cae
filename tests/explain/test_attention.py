"""Attention maps compared with loops over the keys (math.md) and with the output of the operator."""

import math

import numpy as np
import pytest
import timm
import torch
from torch import nn

import foveal
from foveal.errors import FovealError
from foveal.explain import foveal_peripheral_attention, watch_attention


def make_net(**options) -> nn.Module:
    """A small model whose biases, embeddings and temperatures are far enough from zero to matter."""
    torch.manual_seed(0)
    net = timm.create_model("transnext_atto", num_classes=0, **options).eval()
    attention = net.stages[2].blocks[-1].attn
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return net


def image(height: int, width: int) -> torch.Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(1))


def attention_input(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Input of the last attention layer of stage 3, shape (1, H, W, C), from running the modules one by one."""
    x = net.stages[1](net.stages[0](x.unsqueeze(0)))
    stage = net.stages[2]
    return stage.blocks[-1].norm1(stage.blocks[:-1](stage.downsample(x)))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).sum())


def brute_force(
    net: nn.Module, x: torch.Tensor, row: int, column: int, pooled_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both similarity maps, one key at a time, in double precision (math.md, steps 1 to 4)."""
    attention = net.stages[2].blocks[-1].attn
    with torch.no_grad():
        tokens = attention_input(net, x)
        q, k, _ = (t[0].double().numpy() for t in attention.project(tokens))
        k_pool = attention.pool(tokens)[0][0].double().numpy()
    height, width, heads, _ = q.shape
    half = attention.window // 2
    rows = min(height, row + half + 1) - max(0, row - half)
    columns = min(width, column + half + 1) - max(0, column - half)
    count = rows * columns + pooled_count
    maps = [np.zeros((heads, *keys.shape[:2])) for keys in (k, k_pool)]
    for head in range(heads):
        embedding = attention.query_embedding[head, 0].detach().double().numpy()
        tau = attention.temperature[head].item()
        query = (unit(q[row, column, head]) + embedding) * math.log1p(math.exp(tau)) * math.log(count)
        for keys, out in zip((k, k_pool), maps, strict=True):
            for r in range(keys.shape[0]):
                for c in range(keys.shape[1]):
                    out[head, r, c] = query @ unit(keys[r, c, head])
    return maps[0], maps[1]


@pytest.mark.parametrize(
    ("size", "options", "query", "pooled_count"),
    [
        pytest.param((96, 64), {}, None, 6, id="centre"),
        pytest.param((96, 64), {}, (0, 3), 6, id="corner"),
        pytest.param((101, 67), {"window_size": 5}, (6, 1), 6, id="odd size, window 5, lower edge"),
        pytest.param((80, 112), {"pool_size": 3}, (2, 2), 9, id="linear mode"),
        pytest.param((96, 64), {"length_scaling": False}, None, 49, id="without length scaling"),
    ],
)
def test_similarities_equal_a_loop_over_all_keys(size, options, query, pooled_count):
    net, x = make_net(**options), image(*size)
    maps = foveal_peripheral_attention(net, x, query)
    rows, columns = math.ceil(size[0] / 16), math.ceil(size[1] / 16)
    assert maps.query == (query or (rows // 2, columns // 2))
    assert maps.foveal.shape == (4, rows, columns)
    foveal_map, peripheral_map = brute_force(net, x, *maps.query, pooled_count)
    np.testing.assert_allclose(maps.foveal, foveal_map, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(maps.peripheral, peripheral_map, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("query", [None, (0, 0), (5, 3)], ids=["centre", "upper left", "lower right"])
def test_the_weights_reproduce_the_output_of_the_operator(query):
    """With the returned A, y_i = sum (A_ij + Q-hat T + b) V_j + sum A_ip Vp_p is the input of the output projection."""
    net, x = make_net(), image(96, 64)
    attention = net.stages[2].blocks[-1].attn
    maps = foveal_peripheral_attention(net, x, query)
    row, column = maps.query
    seen = []
    handle = attention.proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        tokens = attention_input(net, x)
        attention(tokens)
        q, _, v = (t[0] for t in attention.project(tokens))
        v_pool = attention.pool(tokens)[1][0]
    handle.remove()
    expected = seen[0][0, row, column].view(4, -1).numpy()
    for head in range(4):
        q_hat = q[row, column, head] / q[row, column, head].norm()
        position = (q_hat @ attention.learnable_tokens[head] + attention.learnable_bias[head, 0]).detach().numpy()
        y = np.einsum("rc,rcd->d", maps.pooled_weights[head], v_pool[:, :, head].numpy())
        for offset in range(9):
            r, c = row + offset // 3 - 1, column + offset % 3 - 1
            if 0 <= r < 6 and 0 <= c < 4:
                y = y + (maps.window_weights[head].flat[offset] + position[offset]) * v[r, c, head].numpy()
        np.testing.assert_allclose(y, expected[head], rtol=1e-3, atol=1e-4)


def test_weights_sum_to_one_and_are_zero_outside_the_map():
    maps = foveal_peripheral_attention(make_net(), image(96, 64), (0, 0))
    np.testing.assert_allclose(maps.foveal_share + maps.pooled_weights.sum((1, 2)), 1, rtol=1e-5)
    assert not maps.window_weights[:, 0].any()
    assert not maps.window_weights[:, :, 0].any()


def test_a_batch_of_one_high_resolution_image_is_accepted():
    maps = foveal_peripheral_attention(make_net(), image(448, 640).unsqueeze(0))
    assert maps.foveal.shape == (4, 28, 40)
    assert maps.peripheral.shape == (4, 14, 20)
    assert maps.query == (14, 20)
    assert all(array.dtype == np.float32 for array in (maps.foveal, maps.peripheral, maps.window_weights))


def test_autocast_does_not_change_the_maps():
    net, x = make_net(), image(96, 64)
    with torch.autocast("cpu", torch.bfloat16):
        maps = foveal_peripheral_attention(net, x)
    np.testing.assert_array_equal(maps.foveal, foveal_peripheral_attention(net, x).foveal)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_hooks_of_the_model_are_restored(fails, monkeypatch):
    net = make_net()
    net.train()
    net.stages[0].eval()
    modes = [module.training for module in net.modules()]
    attention = net.stages[2].blocks[-1].attn
    if fails:
        monkeypatch.setattr(type(attention), "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            foveal_peripheral_attention(net, image(64, 64))
    else:
        foveal_peripheral_attention(net, image(64, 64))
    assert [module.training for module in net.modules()] == modes
    assert not attention._forward_pre_hooks


@pytest.mark.parametrize(
    ("x", "query", "sentence"),
    [
        (torch.zeros(3, 31, 64), None, "at least 32"),
        (torch.zeros(1, 64, 64), None, r"shape \(3, H, W\)"),
        (torch.zeros(2, 3, 64, 64), None, r"shape \(3, H, W\)"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), None, "floating-point"),
        (torch.zeros(3, 64, 64), (4, 0), "outside the token map of 4 x 4"),
        (torch.zeros(3, 64, 64), (0, -1), "outside the token map of 4 x 4"),
    ],
    ids=["too small", "one channel", "two images", "bytes", "row", "column"],
)
def test_invalid_inputs_raise_a_one_line_error(x, query, sentence):
    with pytest.raises(FovealError, match=sentence):
        foveal_peripheral_attention(make_net(), x, query)


def test_other_models_are_rejected():
    with pytest.raises(FovealError, match=r"Only TransNeXt has .* this is a ResNet"):
        foveal_peripheral_attention(timm.create_model("resnet10t"), image(64, 64))


def test_a_model_without_the_stage_or_the_attention_is_rejected():
    pruned = make_net()
    pruned.prune_intermediate_layers([1])
    with pytest.raises(FovealError, match="ends before it"):
        foveal_peripheral_attention(pruned, image(64, 64))
    plain = timm.create_model("transnext_atto", token_mixers="AAMM")
    with pytest.raises(FovealError, match="no aggregated attention"):
        foveal_peripheral_attention(plain, image(64, 64))


def test_a_second_query_does_not_run_the_network():
    """The first query of a layer projects its tokens, the next ones project nothing; no block runs for either."""
    net, calls = make_net(), []
    watched = watch_attention(net, image(96, 64))
    for name, module in net.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    first = watched.of(2, -1, (1, 1))
    layer = f"stages.2.blocks.{len(net.stages[2].blocks) - 1}.attn"
    assert sorted(calls) == sorted(f"{layer}.{part}" for part in ("q", "kv", "sr", "norm", "kv"))
    calls.clear()
    second = watched.of(2, -1, (4, 2))
    assert calls == []
    assert (first.query, second.query) == ((1, 1), (4, 2))
    watched.of(0, 0)
    np.testing.assert_array_equal(watched.of(2, -1, (1, 1)).window_weights, first.window_weights)


def test_the_figure_of_the_paper_is_one_block_of_the_watched_network():
    net, x = make_net(), image(101, 67)
    ours, same = foveal_peripheral_attention(net, x, (3, 1)), watch_attention(net, x).of(2, -1, (3, 1))
    for name in ("foveal", "peripheral", "window_weights", "pooled_weights", "positional"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(same, name))
    assert (ours.stage, ours.block, ours.stride, ours.image_size) == (2, len(net.stages[2].blocks) - 1, 16, (101, 67))


def test_a_stage_without_a_window_is_shown_as_peripheral():
    maps = watch_attention(make_net(), image(96, 64)).of(3, 0, (2, 1))
    assert maps.window_weights.shape == maps.positional.shape == (8, 0, 0)
    assert maps.pooled_weights.shape == maps.foveal.shape == (8, 3, 2)
    np.testing.assert_array_equal(maps.foveal, maps.peripheral)
    np.testing.assert_array_equal(maps.foveal_share, 0)
    np.testing.assert_allclose(maps.pooled_weights.sum((1, 2)), 1, rtol=1e-6)


def test_later_stages_do_not_run():
    net, calls = make_net(), []
    net.stages[2].register_forward_pre_hook(lambda *_: calls.append(2))
    watched = watch_attention(net, image(64, 64), stages=[1, 0])
    assert calls == []
    assert {stage for stage, _ in watched.blocks} == {0, 1}
    with pytest.raises(FovealError, match=r"stages\[2\] was not watched: choose one of stages\[0\], stages\[1\]"):
        watched.of(2)


def test_a_click_gets_the_token_that_stands_for_its_pixel():
    watched = watch_attention(make_net(), image(96, 64))
    assert watched.query_at(2, (0, 63)) == (0, 3)
    assert watched.query_at(2, (40, 23)) == (3, 1)  # centres at 32 and 48, at 16 and 32
    assert watched.query_at(-1, (95, 63)) == (2, 1)
    assert watched.of(2, -1, watched.query_at(2, (40, 23))).query == (3, 1)


@pytest.mark.parametrize(
    ("stage", "block", "sentence"),
    [(4, 0, r"stages\[4\] was not watched"), (2, 9, r"stages\[2\] has no blocks\[9\]"), (-5, 0, r"stages\[-5\]")],
)
def test_a_stage_or_block_that_is_not_there_is_named(stage, block, sentence):
    with pytest.raises(FovealError, match=sentence):
        watch_attention(make_net(), image(64, 64)).of(stage, block)


def test_positional_attention_within_the_softmax_is_refused():
    net = make_net(window_bias="positional")
    with pytest.raises(FovealError, match="leaves no positional attention beside the softmax to draw"):
        foveal_peripheral_attention(net, image(64, 64))


def test_a_network_folded_for_inference_is_refused():
    with pytest.raises(FovealError, match=r"folded for inference: pass the network that it was made from"):
        foveal_peripheral_attention(foveal.optimize(make_net(), memory=False), image(64, 64))


def test_stages_that_do_not_exist_are_refused_before_anything_runs():
    with pytest.raises(FovealError, match=r"no stages\[4\]: this network has stages\[0\] to stages\[3\]"):
        watch_attention(make_net(), image(64, 64), stages=[4])
    with pytest.raises(FovealError, match="No stage was chosen"):
        watch_attention(make_net(), image(64, 64), stages=[])


def test_weights_and_their_gradients_are_left_alone():
    net = make_net()
    before = {name: parameter.clone() for name, parameter in net.state_dict().items()}
    net.stages[0].requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in net.parameters()]
    watch_attention(net, image(64, 64)).of(2)
    assert [parameter.requires_grad for parameter in net.parameters()] == wanted
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
