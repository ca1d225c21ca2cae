"""Weights of any block against the output of the reference operator, in float64."""

import pytest
import timm
import torch
from torch import Tensor, nn

import foveal  # noqa: F401  (registers the models)
from foveal.explain import watch_attention
from foveal.explain.attention_layer import AttentionLayer
from foveal.models.layers.aggregated_attention import AggregatedAttention
from foveal.ops import use_backend


def make_net(dtype: torch.dtype = torch.float64, name: str = "transnext_atto", **options) -> nn.Module:
    """A small model whose biases, embeddings, tokens and temperatures are far enough from zero to matter."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0, **options).eval()
    with torch.no_grad():
        for module in net.modules():
            if hasattr(module, "query_embedding"):
                for parameter in module.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return net.to(dtype)


def image(height: int, width: int) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(1))


def output_of_operator(attention: nn.Module, tokens: Tensor) -> Tensor:
    """(H, W, heads, d): what the attention hands to its output projection, by the reference operator."""
    seen = []
    handle = attention.proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad(), use_backend("reference"):
        attention(tokens)
    handle.remove()
    return seen[0][0].unflatten(-1, (attention.heads, -1))


def values(attention: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Fine values (H, W, heads, d) and pooled values (P, heads, d)."""
    with torch.no_grad():
        if isinstance(attention, AggregatedAttention):
            return attention.project(tokens)[2][0], attention.pool(tokens)[1][0].flatten(0, 1)
        v = attention.qkv(tokens).unflatten(-1, (3, attention.heads, -1))[..., 2, :, :][0]
        return v, v.flatten(0, 1)


def apply_weights(attention: nn.Module, tokens: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, heads, d): the weights of the layer, with the positional term, times the values, key by key."""
    layer = AttentionLayer(attention, tokens)
    weights = layer.weights(rows, columns)
    v, v_pool = values(attention, tokens)
    torch.testing.assert_close(
        weights.window.sum(-1) + weights.pooled.sum(-1), torch.ones(len(rows), layer.heads).double()
    )
    y = torch.einsum("nhp,phd->nhd", weights.pooled, v_pool)
    half = layer.window // 2
    for n, (row, column) in enumerate(zip(rows.tolist(), columns.tolist())):
        for j in range(layer.window**2):
            r, c = row + j // layer.window - half, column + j % layer.window - half
            if 0 <= r < v.shape[0] and 0 <= c < v.shape[1]:
                y[n] += (weights.window + weights.positional)[n, :, j, None] * v[r, c]
            else:
                assert not weights.window[n, :, j].any()
                assert not weights.positional[n, :, j].any()
    return y


@pytest.mark.parametrize(
    ("size", "options"),
    [
        pytest.param((96, 96), {}, id="normal mode"),
        pytest.param((64, 160), {}, id="rectangular"),
        pytest.param((101, 75), {"window_size": (3, 5, 7, 3)}, id="uneven pooling, a window per stage"),
        pytest.param((112, 80), {"pool_size": (3, 4)}, id="linear mode, uneven pooling"),
        pytest.param((96, 128), {"position_bias": "interpolate", "img_size": 160}, id="interpolated bias"),
        pytest.param(
            (75, 101),
            {"position_bias": "interpolate", "img_size": (96, 64), "pool_size": 3},
            id="interpolated bias, enlarged, linear mode",
        ),
        pytest.param((96, 64), {"length_scaling": False}, id="without length scaling"),
        pytest.param((96, 64), {"token_mixers": "AMAA"}, id="other stages without a window"),
        pytest.param((96, 64), {"window_bias": "log_cpb", "pooled_bias": "none"}, id="window bias by log-CPB"),
        pytest.param((75, 101), {"window_bias": "none", "pooled_bias": "learned"}, id="learned bias, resized"),
        pytest.param((32, 32), {}, id="one token"),
    ],
)
def test_weights_times_values_equal_the_reference_operator(size, options):
    """In every block, for the corners, the middle and an edge; the positional term is added to the weights."""
    net = make_net(**options)
    watched = watch_attention(net, image(*size))
    assert watched.blocks == tuple((s, b) for s in range(4) for b in range(len(net.stages[s].blocks)))
    for stage, block in watched.blocks:
        attention, tokens = net.stages[stage].blocks[block].attn, watched._layers[stage, block][1]
        height, width = tokens.shape[1:3]
        rows = torch.tensor([0, height // 2, height - 1, 0])
        columns = torch.tensor([0, width // 2, width - 1, width // 2])
        expected = output_of_operator(attention, tokens)[rows, columns]
        torch.testing.assert_close(apply_weights(attention, tokens, rows, columns), expected, rtol=1e-10, atol=1e-11)


def test_the_variant_with_a_window_in_every_stage_is_exact_too():
    net = make_net(name="transnext_micro_aaaa", depths=(1, 1, 1, 2))
    watched = watch_attention(net, image(96, 128), stages=[3])
    attention, tokens = net.stages[3].blocks[1].attn, watched._layers[3, 1][1]
    rows, columns = torch.tensor([0, 2]), torch.tensor([3, 1])
    expected = output_of_operator(attention, tokens)[rows, columns]
    torch.testing.assert_close(apply_weights(attention, tokens, rows, columns), expected, rtol=1e-10, atol=1e-11)


def test_tokens_are_those_that_the_layer_saw_under_the_compiled_operators():
    net = make_net(torch.float32)
    watched, x = watch_attention(net, image(96, 64)), image(96, 64)[None]
    seen = []
    handle = net.stages[2].blocks[1].norm1.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        net(x)
    handle.remove()
    torch.testing.assert_close(watched._layers[2, 1][1], seen[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_gives_weights_in_float32(dtype):
    """The half-precision network's own projections, and float32 from there on: rounding moves a weight by percents."""
    exact = watch_attention(make_net(torch.float32), image(96, 64)).of(2)
    half = watch_attention(make_net(dtype), image(96, 64)).of(2)
    assert half.foveal.dtype == half.pooled_weights.dtype == "float32"
    total = half.window_weights.sum((1, 2)) + half.pooled_weights.sum((1, 2))
    assert abs(total - 1).max() < 1e-6
    assert abs(half.pooled_weights - exact.pooled_weights).max() < 0.05
