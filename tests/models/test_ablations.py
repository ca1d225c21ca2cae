"""The rows of both papers' ablations: figures as printed, layers by their formulas, and PVTv2 by timm's."""

import itertools
import math
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from torch import Tensor, nn

import foveal
from foveal.models.layers.aggregated_attention import AggregatedAttention
from foveal.models.layers.channel_mixers import CHANNEL_MIXERS
from foveal.models.layers.d_mixer import DMixer
from foveal.models.layers.osra import OSRA
from foveal.models.layers.other_position_biases import OtherBiasAttention
from foveal.models.sizes import StageGeometry
from support.nets import ROADMAP, SHALLOW, image, lively

MICRO = {"embed_dims": (48, 96, 192, 384), "mlp_ratios": (8, 8, 4, 4), "sr_ratios": (8, 4, 2, 1)}


def figures(name: str, **options) -> tuple[float, float]:
    """Parameters in M and multiply-adds in G, with one decimal as the paper prints them."""
    with torch.device("meta"):
        count = foveal.flops(timm.create_model(name, device="meta", **options), 224)
    return round(count.params / 1e6, 1), round(count.macs / 1e9, 1)


ROADMAP_FIGURES = {2: (14.9, 2.3), 3: (14.9, 2.3), 4: (14.8, 2.2), 5: (14.9, 2.2), 6: (12.8, 2.7), 7: (12.8, 2.7)}
LAYOUTS = {"AAAM": (12.8, 2.7), "AAMM": (12.2, 2.7), "AMMM": (12.2, 2.9), "MMMM": (12.2, 4.7)}


@pytest.mark.parametrize("step", ROADMAP_FIGURES)
def test_the_steps_of_the_roadmap_have_the_printed_figures(step):
    """The roadmap's table in the paper; steps 1 and 8 are timm's pvt_v2_b1 and transnext_micro."""
    assert figures(f"transnext_roadmap_{step}") == ROADMAP_FIGURES[step]


def test_the_ends_of_the_roadmap_have_the_printed_figures():
    assert figures("pvt_v2_b1") == (14.0, 2.1)
    assert figures("transnext_micro") == (12.8, 2.7)


@pytest.mark.parametrize("token_mixers", LAYOUTS)
def test_layouts_of_token_mixers_have_the_printed_figures(token_mixers):
    """Table 9 of the paper."""
    assert figures("transnext_micro", token_mixers=token_mixers) == LAYOUTS[token_mixers]


def test_pixel_focused_attention_needs_the_parameters_that_the_paper_names():
    """Section 4.2: positional attention and query embedding add 0.2 % of parameters, from 12.78 M to 12.81 M."""
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in timm.create_model(name).parameters())
            for name in ("transnext_roadmap_6", "transnext_micro")
        ]
    assert [round(count / 1e6, 2) for count in counts] == [12.78, 12.81]


BIASES = {  # the table's parameters are cut after the first decimal: 28.259 M of TransNeXt-Tiny are printed as 28.2
    ("none", "none"): (28.1, 5.6),
    ("log_cpb", "log_cpb"): (28.2, 5.7),
    ("positional", "log_cpb"): (28.2, 5.7),
    ("learned", "learned"): (28.1, 5.6),
}


@pytest.mark.parametrize("biases", BIASES)
def test_position_biases_have_the_printed_figures(biases):
    """Table 6 of the paper."""
    with torch.device("meta"):
        net = timm.create_model("transnext_tiny", device="meta", window_bias=biases[0], pooled_bias=biases[1])
    count = foveal.flops(net, 224)
    assert (math.floor(count.params / 1e5) / 10, round(count.macs / 1e9, 1)) == BIASES[biases]


TRANSXNET = {
    "VIII, plain": ({"ffn_kernels": ()}, (12.5, 1.7)),
    "VIII, 1 and 3": ({"ffn_kernels": (1, 3)}, (12.6, 1.7)),
    "VIII, 3": ({"ffn_kernels": (3,)}, (12.7, 1.7)),
    "VIII, 1, 3, 5": ({"ffn_kernels": (1, 3, 5)}, (12.7, 1.7)),
    "VIII, 1, 3, 5, 7": ({}, (12.8, 1.8)),
    "VIII, 1, 3, 5, 7, 9": ({"ffn_kernels": (1, 3, 5, 7, 9)}, (13.0, 1.8)),
    "IX, 0.25": ({"attention_ratio": 0.25}, (12.5, 1.7)),
    "IX, 0.75": ({"attention_ratio": 0.75}, (13.6, 1.8)),
    "X, NSR": (
        {"overlapping_reduction": False, "token_enhancer": False, "position_encoding": False}, (13.4, 1.8)
    ),
    "X, NSR and DPE": ({"overlapping_reduction": False, "token_enhancer": False}, (13.6, 1.9)),
    "X, OSR and DPE": ({"token_enhancer": False}, (13.6, 1.9)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSXNET)
def test_rows_of_transxnet_have_the_printed_figures(name):
    """Tables VIII, IX and X of the paper. Multiply-adds by its rule: of layers, without the products of attention."""
    options, printed = TRANSXNET[name]
    with torch.device("meta"):
        count = foveal.flops(timm.create_model("transxnet_t", device="meta", **options), 224)
    assert (round(count.params / 1e6, 1), round(count.paper_macs / 1e9, 1)) == printed


# --- layers


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    y = F.conv2d(x.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=1, groups=conv.groups)
    return y.permute(0, 2, 3, 1)


MIXERS = {
    "mlp": lambda m, x: m.fc2(F.gelu(m.fc1(x))),
    "conv_mlp": lambda m, x: m.fc2(F.gelu(convolved(m.dwconv, m.fc1(x)))),
    "glu": lambda m, x: m.fc2(F.gelu(gate(m, x)) * value(m, x)),
    "conv_glu": lambda m, x: m.fc2(F.gelu(convolved(m.dwconv, gate(m, x))) * value(m, x)),
    "conv_glu_type1": lambda m, x: m.fc2(convolved(m.dwconv, F.gelu(gate(m, x))) * value(m, x)),
    "conv_glu_type2": lambda m, x: m.fc2(F.gelu(gate(m, x)) * convolved(m.dwconv, value(m, x))),
    "conv_glu_type3": lambda m, x: m.fc2(convolved(m.dwconv, F.gelu(gate(m, x)) * value(m, x))),
}


def gate(mixer: nn.Module, x: Tensor) -> Tensor:
    return mixer.fc1(x)[..., : mixer.fc2.in_features]


def value(mixer: nn.Module, x: Tensor) -> Tensor:
    return mixer.fc1(x)[..., mixer.fc2.in_features :]


@pytest.mark.parametrize("name", CHANNEL_MIXERS)
def test_a_channel_mixer_computes_its_formula(name):
    """Section 3.2 and equations 19 to 22."""
    mixer = lively(CHANNEL_MIXERS[name](24, 4)).eval()
    x = torch.randn(2, 5, 7, 24)
    with torch.no_grad():
        found = mixer(x)
        expected = MIXERS[name](mixer.double(), x.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def geometry(sr_ratio: int = 2) -> StageGeometry:
    return StageGeometry((8, 8), (8, 8), sr_ratio)


def test_without_its_terms_attention_is_that_of_zero_terms():
    terms = {"query_embedding": False, "positional_attention": False}
    plain = lively(AggregatedAttention(48, 2, 3, geometry(), **terms)).eval()
    whole = AggregatedAttention(48, 2, 3, geometry()).eval()
    missing = whole.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert set(missing) == {"query_embedding", "learnable_tokens", "learnable_bias"}
    with torch.no_grad():
        for name in missing:
            whole.get_parameter(name).zero_()
        x = torch.randn(1, 6, 9, 48)
        torch.testing.assert_close(plain(x), whole(x), rtol=1e-5, atol=1e-6)


def test_average_pooling_is_that_of_pvt_v2_linear_attention():
    """Average, 1x1 convolution, LayerNorm, GELU."""
    attention = lively(AggregatedAttention(48, 2, 3, geometry(), pooling="average")).eval()
    x = torch.randn(1, 6, 8, 48)
    with torch.no_grad():
        keys, values = attention.pool(x)
        pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), 2)
        reduced = F.gelu(attention.norm(attention.sr(pooled).permute(0, 2, 3, 1)))
        expected = attention.kv(reduced).unflatten(-1, (2, 2, 24))
    torch.testing.assert_close(torch.stack([keys, values], 3), expected, rtol=1e-5, atol=1e-6)


def biased(window_bias: str, pooled_bias: str, **options) -> OtherBiasAttention:
    kinds = {"window_bias": window_bias, "pooled_bias": pooled_bias}
    return lively(OtherBiasAttention(48, 2, 3, geometry(), **kinds, **options)).eval()


def attend(attention: OtherBiasAttention, x: Tensor, local_bias: Tensor, pool_bias: Tensor, after: float) -> Tensor:
    """Attention of a (1, H, W, C) map query by query in float64, with biases (H*W, heads, keys) of window and pooled
    keys; ``after`` weights positional attention after the softmax."""
    attention = attention.double()
    x = x.double()
    height, width = x.shape[1:3]
    q, k, v = (t[0] for t in attention.project(x))
    k_pool, v_pool = (t[0].flatten(0, 1) for t in attention.pool(x))
    out = torch.zeros_like(q)
    for i in range(height * width):
        row, column = divmod(i, width)
        inside = [
            (j, row + j // 3 - 1, column + j % 3 - 1)
            for j in range(9)
            if 0 <= row + j // 3 - 1 < height and 0 <= column + j % 3 - 1 < width
        ]
        for h in range(2):
            unit = F.normalize(q[row, column, h], dim=0)
            query = (unit + attention.query_embedding[h, 0]) * F.softplus(attention.temperature[h, 0, 0])
            query = query * math.log(len(inside) + len(k_pool))
            fine = [query @ F.normalize(k[r, c, h], dim=0) + local_bias[i, h, j] for j, r, c in inside]
            coarse = F.normalize(k_pool[:, h], dim=1) @ query + pool_bias[i, h]
            weights = torch.cat([torch.stack(fine), coarse]).softmax(0)
            for (j, r, c), weight in zip(inside, weights):
                dynamic = unit @ attention.learnable_tokens[h, :, j] + attention.learnable_bias[h, 0, j]
                out[row, column, h] += (weight + after * dynamic) * v[r, c, h]
            out[row, column, h] += weights[len(inside) :] @ v_pool[:, h]
    return attention.proj(out.flatten(2))[None]


def test_without_position_biases_attention_is_that_of_zero_biases():
    attention, x = biased("none", "none"), torch.randn(1, 6, 8, 48)
    with torch.no_grad():
        found = attention(x)
        expected = attend(attention, x, torch.zeros(48, 2, 9), torch.zeros(48, 2, 12), after=1.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert [name for name in attention.state_dict() if "bias_" in name or "cpb" in name] == []


def test_the_windows_bias_by_log_cpb_is_the_network_of_the_distance():
    """Section 3.1.3: sign(d) log(1 + |d|) / log 8 of the distance scaled to 8, through two layers with a ReLU."""
    attention, x = biased("log_cpb", "none"), torch.randn(1, 6, 8, 48)
    with torch.no_grad():
        found = attention(x)
        distance = torch.tensor([[row, column] for row in (1, 0, -1) for column in (1, 0, -1)]).double()
        spaced = distance.sign() * torch.log2(1 + distance.abs() / 7 * 8) / 3  # a map of 8 x 8 in pre-training
        attention = attention.double()
        bias = attention.cpb_fc2(F.relu(attention.cpb_fc1(spaced))).T
        expected = attend(attention, x, bias.expand(48, 2, 9), torch.zeros(48, 2, 12), after=1.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_positional_attention_as_bias_is_within_the_softmax():
    attention, x = biased("positional", "none"), torch.randn(1, 6, 8, 48)
    with torch.no_grad():
        found = attention(x)
        attention = attention.double()
        unit = F.normalize(attention.q(x.double())[0].flatten(0, 1).unflatten(-1, (2, -1)), dim=-1)
        bias = torch.einsum("nhd,hdj->nhj", unit, attention.learnable_tokens) + attention.learnable_bias[:, 0]
        expected = attend(attention, x, bias, torch.zeros(48, 2, 12), after=0.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_learned_bias_belongs_to_the_offset_between_two_pooled_cells():
    attention, x = biased("none", "learned"), torch.randn(1, 8, 8, 48)
    table = attention.relative_pos_bias_pool
    assert table.shape == (2, 7, 7)  # a map of 8 x 8, pooled to 4 x 4
    with torch.no_grad():
        found = attention(x)
        bias = torch.zeros(64, 2, 16)
        for i, p in itertools.product(range(64), range(16)):
            row, column = i // 8 // 2 - p // 4, i % 8 // 2 - p % 4
            bias[i, :, p] = table[:, row + 3, column + 3]
        expected = attend(attention, x, torch.zeros(64, 2, 9), bias, after=1.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 12), (9, 13)])
def test_cells_that_do_not_overlap_are_those_of_a_strided_convolution(size):
    """Of zeros below and to the right of the map, up to whole cells: the position table counts these."""
    attention = lively(OSRA(16, 2, 4, overlap=False)).eval()
    conv = attention.sr[0].conv
    x = torch.randn(1, 16, *size)
    with torch.no_grad():
        filled = F.pad(x, (0, -size[1] % 4, 0, -size[0] % 4))
        expected = F.conv2d(filled, conv.weight, stride=4, groups=16)
        torch.testing.assert_close(conv(x), expected)
        assert conv(x).shape[2:] == (-(-size[0] // 4), -(-size[1] // 4))


def test_without_the_enhancer_the_mixer_ends_in_a_projection_of_both_branches():
    mixer = lively(DMixer(32, 2, 2, 2, 0.0, 0.0, attention_ratio=0.25, enhancer=False)).eval()
    x, bias = torch.randn(1, 32, 8, 8), torch.randn(1, 2, 64, 16)
    with torch.no_grad():
        branches = torch.cat([mixer.local_unit(x[:, :24]), mixer.global_unit(x[:, 24:], bias)], 1)
        expected = F.conv2d(branches, mixer.proj[0].weight, mixer.proj[0].bias)
        torch.testing.assert_close(mixer(x, bias), expected, rtol=1e-5, atol=1e-5)


def renamed(name: str) -> str:
    """The name of a parameter of timm's PVTv2 in the roadmap's network."""
    name = name.replace("patch_embed.", "stages.0.downsample.").replace(".mlp.dwconv.", ".mlp.dwconv.")
    return name.replace("head.", "head.fc.")


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_step_2_is_timms_pvt_v2_with_the_widths_of_transnext_micro(size):
    norm = partial(nn.LayerNorm, eps=1e-6)
    peer = PyramidVisionTransformerV2(depths=SHALLOW, num_heads=(1, 2, 4, 8), norm_layer=norm, num_classes=10, **MICRO)
    net = timm.create_model("transnext_roadmap_2", depths=SHALLOW, num_classes=10)
    state = {renamed(name): tensor for name, tensor in lively(peer).state_dict().items()}
    net.load_state_dict(state)
    x = image(*size, batch=2)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x), peer.eval()(x), rtol=1e-4, atol=1e-4)


# --- whole networks


ROWS = {
    **{name: (name, {}) for name in ROADMAP},
    **{
        f"channel_mixer={name}": ("transnext_atto", {"channel_mixer": name})
        for name in CHANNEL_MIXERS
        if name != "conv_glu"
    },
    **{f"token_mixers={layout}": ("transnext_atto", {"token_mixers": layout}) for layout in ("AAMM", "AMMM", "MMMM")},
    **{
        f"window_bias={window}, pooled_bias={pool}": ("transnext_atto", {"window_bias": window, "pooled_bias": pool})
        for window, pool in BIASES
    },
    "pooling=average": ("transnext_atto", {"pooling": "average"}),
    "window_size=5": ("transnext_atto", {"window_size": 5}),
    "length_scaling=False": ("transnext_atto", {"length_scaling": False}),
    **{f"transxnet {name}": ("transxnet_atto", options) for name, (options, _) in TRANSXNET.items() if options},
}


def row(name: str) -> nn.Module:
    model, options = ROWS[name]
    return lively(timm.create_model(model, depths=SHALLOW, num_classes=7, **options)).eval()


@pytest.mark.parametrize("name", ROWS)
def test_every_row_optimises_to_the_same_outputs(name):
    net, x = row(name), image(64, 96)
    with torch.no_grad():
        torch.testing.assert_close(foveal.optimize(net)(x), net(x), rtol=1e-3, atol=1e-3)
        assert foveal.optimize(net, torch.bfloat16)(x).isfinite().all()


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains_a_step_and_exports(name):
    net = row(name).train()
    loss = F.cross_entropy(net(image(64, 64, batch=2)), torch.tensor([1, 2]))
    loss.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    x = image(64, 64)
    with torch.no_grad():
        program = torch.export.export(net.eval(), (x,)).module()
        torch.testing.assert_close(program(x), net(x), rtol=1e-4, atol=1e-4)


FREE = {
    "pvt_tiny": ("pvt_tiny", {}),
    "reduction, ConvFFN": ("transnext_roadmap_2", {}),
    "learned bias": ("transnext_atto", {"pooled_bias": "learned", "window_bias": "log_cpb"}),
    "separate cells": ("transxnet_atto", {"overlapping_reduction": False}),
    "table VI": ("transxnet_mixers", {"token_mixer": "sep_conv"}),
}


@pytest.mark.parametrize("name", FREE)
def test_rows_export_with_free_sizes(name):
    model, options = FREE[name]
    net = lively(timm.create_model(model, depths=SHALLOW, num_classes=7, **options)).eval()
    batch, height, width = (torch.export.Dim(n, min=low) for n, low in (("batch", 1), ("height", 64), ("width", 64)))
    program = torch.export.export(net, (image(96, 128, batch=2),), dynamic_shapes=({0: batch, 2: height, 3: width},))
    x = image(64, 101)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), net(x), rtol=1e-4, atol=1e-4)


def test_a_learned_bias_follows_the_image_size():
    net = lively(timm.create_model("transnext_atto", depths=SHALLOW, pooled_bias="learned", num_classes=7)).eval()
    at_224 = net.stages[0].blocks[0].attn.relative_pos_bias_pool
    net.set_input_size(64)
    table = net.stages[0].blocks[0].attn.relative_pos_bias_pool
    assert (at_224.shape, table.shape) == ((1, 13, 13), (1, 3, 3))
    expected = F.interpolate(at_224[None], size=(3, 3), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(table, expected)
    other = timm.create_model("transnext_atto", depths=SHALLOW, pooled_bias="learned", num_classes=7, img_size=64)
    other.load_state_dict(foveal.models.transnext.checkpoint_filter_fn(net.state_dict(), other))
    x = image(64, 64)
    with torch.no_grad():
        assert torch.equal(other.eval()(x), net(x))


def test_maps_smaller_than_the_reduction_are_filled_to_one_cell():
    net = timm.create_model("transnext_micro_aaaa", token_mixers="SSSS", depths=SHALLOW, num_classes=7).eval()
    attention, x = lively(net).stages[0].blocks[0].attn, torch.randn(1, 8, 8, 48)
    with torch.no_grad():
        assert net(image(32, 32)).isfinite().all()
        filled = F.pad(x, (0, 0, 0, 8, 0, 8)).permute(0, 3, 1, 2)
        reduced = attention.norm(F.conv2d(filled, attention.sr.weight, attention.sr.bias, stride=16).flatten(1))
        value = attention.kv(reduced)[:, 48:]  # attention to one key returns its value
        expected = attention.proj(value).expand(8, 8, 48)
        torch.testing.assert_close(attention(x)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"token_mixers": "SSSS", "window_bias": "none"}, "window_bias belongs to aggregated attention, and"),
        ({"token_mixers": "MMMM", "pooling": "average"}, "pooling belongs to aggregated attention, and"),
        ({"mlp_ratios": (8, 8, 4)}, r"mlp_ratios must be 4 numbers, one per stage, got \(8, 8, 4\)"),
        ({"head_dim": 0}, "head_dim must divide the channels of every stage, and 0 does not"),
        ({"token_mixers": "AAM"}, "token_mixers must be 4 letters of A, M and S"),
        ({"token_mixers": "AAAX"}, "token_mixers must be 4 letters of A, M and S"),
        ({"channel_mixer": "swiglu"}, "channel_mixer must be one of conv_glu, glu, mlp"),
        ({"pooling": "max"}, "pooling must be one of activate, average"),
        ({"window_bias": "cpb"}, "window_bias must be one of learned, log_cpb, positional, none, got 'cpb'"),
        ({"pooled_bias": "positional"}, "pooled_bias must be one of log_cpb, learned, none, got 'positional'"),
        ({"window_bias": "positional", "positional_attention": False}, "leave positional_attention=False out"),
        ({"head_dim": 7}, "head_dim must divide the channels of every stage, and 7 does not divide 48"),
        ({"ffn_kernels": 3}, r"ffn_kernels must be odd \(1, 3, 5, ...\), got 3"),
        ({"ffn_kernels": (2,)}, r"ffn_kernels must be odd \(1, 3, 5, ...\), got \(2,\)"),
        ({"attention_ratio": 1.0}, "attention_ratio 1.0 gives 48 of 48 channels to attention"),
        ({"attention_ratio": 0.3}, "gives 29 of 96 channels to attention, which 2 heads cannot share"),
    ],
)
def test_wrong_combinations_are_refused_in_one_sentence(options, sentence):
    name = "transxnet_t" if options.keys() & {"ffn_kernels", "attention_ratio"} else "transnext_micro"
    with pytest.raises(ValueError, match=sentence):
        timm.create_model(name, **options)
