"""Parameters and multiply-adds of the published tables to their printed precision, and counts by hand."""

import pytest
import torch

from foveal.tasks.dense.counting import count_dense
from foveal.tasks.segmentation import count_segmenter, create_segmenter
from support.pixel_segmenters import small_segmenter

# TransNeXt: parameters in its repository, multiply-adds at 512 x 512 in its issue 11. TransXNet: paper, table V, at
# 512 x 2048, and table VIII with one more digit.
PUBLISHED = {
    ("upernet", "transnext_tiny"): ("59", "245"),
    ("upernet", "transnext_small"): ("80", "273"),
    ("upernet", "transnext_base"): ("121", "319"),
    ("semantic_fpn", "transxnet_t"): ("16.6", "121.4"),
    ("semantic_fpn", "transxnet_s"): ("30.6", "179"),
    ("semantic_fpn", "transxnet_b"): ("51.7", "256"),
}
SIZE = {"upernet": (512, 512), "semantic_fpn": (512, 2048)}

# Other backbones of the same table with Semantic FPN.
NEIGHBOURS = {
    "pvt_v2_b1": ("17.8", "129"),
    "pvt_v2_b2": ("29.1", "167"),
    "pvt_v2_b4": ("66.3", "291"),
    "poolformer_s12": ("15.7", "124"),
    "swin_small_patch4_window7_224": ("53.2", "274"),
}


def on_meta(name, backbone, **options):
    with torch.device("meta"):
        return create_segmenter(name, backbone, **options)


def printed(number: int, unit: float, like: str) -> str:
    return f"{number / unit:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize(("name", "backbone"), PUBLISHED)
def test_counts_match_the_published_values(name, backbone):
    segmenter = on_meta(name, backbone)
    params, macs = PUBLISHED[name, backbone]
    count = count_segmenter(segmenter, SIZE[name])
    assert printed(count.params, 1e6, params) == params
    assert printed(count.paper_macs, 1e9, macs) == macs
    assert count.params == sum(p.numel() for p in segmenter.parameters())


@pytest.mark.parametrize("backbone", NEIGHBOURS)
def test_counts_of_other_backbones_with_semantic_fpn_match_the_published_values(backbone):
    params, macs = NEIGHBOURS[backbone]
    args = dict(img_size=(512, 2048)) if backbone.startswith("swin") else {}
    count = count_segmenter(on_meta("semantic_fpn", backbone, backbone_args=args), (512, 2048))
    assert printed(count.params, 1e6, params) == params
    assert printed(count.paper_macs, 1e9, macs) == macs


def test_the_count_of_the_upernet_head_matches_fvcore():
    """fvcore 0.1.5 counts 3,285,771,264 for transformers' head and the resizing of its logits, with maps of 24, 48,
    96 and 192 channels of a 64 x 64 image, including 192 * 4 for the pooling to one position, a mean in Foveal."""
    segmenter = on_meta("upernet", "transnext_atto", position_bias="extrapolate", reference_size=64)
    count = count_segmenter(segmenter, (64, 64))
    assert segmenter.backbone.channels == [24, 48, 96, 192]
    assert count.modules["decode_head"].macs + (count.paper_macs - count.macs) == 3285771264 - 192 * 4


def test_resizing_of_an_interpolated_position_bias_matches_a_manual_count():
    """The image has the reference size, so both resizes give heads * queries * keys elements."""
    counts = {
        mode: count_segmenter(on_meta("upernet", "transnext_atto", position_bias=mode, reference_size=64), (64, 64))
        for mode in ("interpolate", "extrapolate")
    }
    stages = [(1, 1, 256, 4), (1, 2, 64, 4), (3, 4, 16, 4), (1, 8, 4, 4)]  # blocks, heads, queries, keys
    bias = sum(blocks * 2 * 4 * heads * queries * keys for blocks, heads, queries, keys in stages)
    assert counts["interpolate"].macs == counts["extrapolate"].macs
    assert counts["interpolate"].paper_macs - counts["extrapolate"].paper_macs == bias


def test_pyramid_pooling_and_auxiliary_head_match_a_manual_count():
    segmenter = small_segmenter("upernet")
    with_auxiliary = count_segmenter(segmenter, (64, 64))
    without = count_segmenter(small_segmenter("upernet", auxiliary_weight=0.0), (64, 64))
    assert with_auxiliary.macs == without.macs
    assert with_auxiliary.modules["auxiliary_head"].macs == 0
    assert with_auxiliary.params - without.params == 96 * 8 * 9 + 2 * 8 + 8 * 5 + 5
    pooling = with_auxiliary.modules["decode_head.psp_modules"].macs
    positions = 1 + 4 + 9 + 36
    assert pooling == positions * (192 * 8 + 2 * 8) + 3 * 192 * 4  # 1x1 convolutions, norms, pooled elements


def test_the_semantic_fpn_head_matches_a_manual_count():
    """With Foveal's rule: convolutions, and 2 per element of a norm, at the size where each runs."""
    count = count_segmenter(small_segmenter("semantic_fpn"), (64, 96))
    runs = [16 * 24, 8 * 12, 4 * 6, 8 * 12, 2 * 3, 4 * 6, 8 * 12]  # positions of each convolution
    assert count.modules["decode_head.scale_heads"].macs == sum(runs) * (8 * 8 * 9 + 2 * 8)
    assert count.modules["decode_head.classifier"].macs == 16 * 24 * 8 * 5


def test_other_backbones_are_counted_like_get_flops():
    segmenter = small_segmenter("upernet", "transxnet_atto")
    assert count_segmenter(segmenter, (64, 96)) == count_dense(segmenter, (64, 96))


@pytest.mark.parametrize("name", ["upernet", "semantic_fpn"])
def test_counting_leaves_a_segmenter_unchanged_and_lists_its_modules(name):
    segmenter = small_segmenter(name)
    state = {n: t.clone() for n, t in segmenter.state_dict().items()}
    count = count_segmenter(segmenter, (64, 64))
    assert list(count.modules) == [n for n, _ in segmenter.named_modules()]
    assert count.size == (64, 64)
    assert all(m.training for m in segmenter.modules())
    assert all(torch.equal(t, state[n]) for n, t in segmenter.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in segmenter.modules())
