"""Checkpoints with MMSegmentation's names: every tensor is loaded, and the outputs equal those of a plain form."""

import re

import pytest
import torch

from foveal.tasks.dense.released import load_dense
from foveal.tasks.segmentation import create_segmenter
from support.accuracy import relative_error
from support.plain_mask2former import PlainMask2Former

DIM, HEADS, CLASSES, QUERIES, ENCODERS, DECODERS, HIDDEN, WIDE = 64, 4, 3, 5, 2, 4, 24, 40
SAMPLES = HEADS * 3 * 4


def small_mask2former():
    return create_segmenter(
        "mask2former",
        "transnext_atto",
        CLASSES,
        reference_size=64,
        dim=DIM,
        heads=HEADS,
        queries=QUERIES,
        encoder_layers=ENCODERS,
        encoder_mlp_dim=HIDDEN,
        decoder_layers=DECODERS,
        mlp_dim=WIDE,
    )


def shapes_by_released_names(channels) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a checkpoint of MMSegmentation 1 with MMDetection 3, without the backbone."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name, *shape, bias=True):
        shapes[f"decode_head.{name}.weight"] = shape
        if bias:
            shapes[f"decode_head.{name}.bias"] = shape[:1]

    def add_block(name, hidden, norms):
        add(f"{name}.ffn.layers.0.0", hidden, DIM)
        add(f"{name}.ffn.layers.1", DIM, hidden)
        for norm in range(norms):
            add(f"{name}.norms.{norm}", DIM)

    for level in range(3):
        add(f"pixel_decoder.input_convs.{level}.conv", DIM, channels[3 - level], 1, 1)
        add(f"pixel_decoder.input_convs.{level}.gn", DIM)
    for number in range(ENCODERS):
        name = f"pixel_decoder.encoder.layers.{number}"
        add(f"{name}.self_attn.sampling_offsets", 2 * SAMPLES, DIM)
        add(f"{name}.self_attn.attention_weights", SAMPLES, DIM)
        add(f"{name}.self_attn.value_proj", DIM, DIM)
        add(f"{name}.self_attn.output_proj", DIM, DIM)
        add_block(name, HIDDEN, 2)
    add("pixel_decoder.level_encoding", 3, DIM, bias=False)
    for name, width, kernel in (("lateral_convs", channels[0], 1), ("output_convs", DIM, 3)):
        add(f"pixel_decoder.{name}.0.conv", DIM, width, kernel, kernel, bias=False)
        add(f"pixel_decoder.{name}.0.gn", DIM)
    add("pixel_decoder.mask_feature", DIM, DIM, 1, 1)
    for number in range(DECODERS):
        name = f"transformer_decoder.layers.{number}"
        for attention in ("self_attn", "cross_attn"):
            shapes[f"decode_head.{name}.{attention}.attn.in_proj_weight"] = (3 * DIM, DIM)
            shapes[f"decode_head.{name}.{attention}.attn.in_proj_bias"] = (3 * DIM,)
            add(f"{name}.{attention}.attn.out_proj", DIM, DIM)
        add_block(name, WIDE, 3)
    add("transformer_decoder.post_norm", DIM)
    for name, rows in (("query_embed", QUERIES), ("query_feat", QUERIES), ("level_embed", 3)):
        add(name, rows, DIM, bias=False)
    add("cls_embed", CLASSES + 1, DIM)
    for layer in (0, 2, 4):
        add(f"mask_embed.{layer}", DIM, DIM)
    return shapes


def older(state):
    """The same with the names of MMDetection 2, which puts parts of a layer in lists, attention in order of use."""
    orders = {"transformer_decoder": ("cross_attn", "self_attn"), "encoder": ("self_attn",)}
    renamed = {}
    for name, tensor in state.items():
        for part, order in orders.items():
            for place, attention in enumerate(order):
                name = re.sub(rf"({part}\.layers\.\d+)\.{attention}\.", rf"\1.attentions.{place}.", name)
        renamed[name.replace(".ffn.", ".ffns.0.")] = tensor
    return renamed


def draw(name, shape) -> torch.Tensor:
    noise = torch.randn(shape, dtype=torch.float64)
    if re.search(r"(norms\.\d|\.gn|norm)\.weight$", name):
        return 1 + 0.2 * noise
    return noise * (0.5 if noise.ndim == 1 else 1 / noise[0].numel() ** 0.5)


@pytest.fixture
def released():
    shapes = shapes_by_released_names(small_mask2former().backbone.channels)
    return {name: draw(name, shape) for name, shape in shapes.items()}


def renamed(segmenter, state):
    for pattern, replacement in segmenter.released_renames:
        state = {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}
    return segmenter.adapt_released(state)


def load(segmenter, state):
    """Load everything except the backbone, which the shared loader handles."""
    segmenter = segmenter.double().eval()
    report = segmenter.load_state_dict(renamed(segmenter, state), strict=False)
    assert report.unexpected_keys == []
    assert [name for name in report.missing_keys if not name.startswith("backbone.")] == []
    return segmenter


def test_released_tensors_map_one_to_one_in_both_generations_of_names(released):
    new, old = load(small_mask2former(), released), load(small_mask2former(), older(released))
    assert len(older(released).keys() - released.keys()) > 60
    for (name, tensor), other in zip(new.state_dict().items(), old.state_dict().values(), strict=True):
        assert name.startswith("backbone.") or torch.equal(tensor, other), name


@pytest.mark.parametrize("generation", [dict, older], ids=["mmdet3", "mmdet2"])
def test_a_checkpoint_is_loaded_completely_with_its_backbone(generation, released, tmp_path):
    segmenter, saved = small_mask2former(), small_mask2former()
    backbone = {f"backbone.{name}": tensor + 1 for name, tensor in saved.backbone.body.state_dict().items()}
    torch.save({"state_dict": {**generation(released), **backbone}, "meta": {}}, tmp_path / "mask2former.pth")
    assert load_dense(segmenter, tmp_path / "mask2former.pth").complete
    found = segmenter.transformer.decoder.layers[1].cross_attn.in_proj_weight
    want = released["decode_head.transformer_decoder.layers.1.cross_attn.attn.in_proj_weight"]
    torch.testing.assert_close(found.double(), want)
    for name, tensor in saved.backbone.state_dict().items():
        assert torch.equal(segmenter.backbone.state_dict()[name], tensor + 1)


def test_a_checkpoint_for_other_classes_leaves_only_the_class_layer_new(released, tmp_path):
    segmenter = create_segmenter(
        "mask2former", "transnext_atto", CLASSES + 2, reference_size=64, dim=DIM, heads=HEADS, queries=QUERIES,
        encoder_layers=ENCODERS, encoder_mlp_dim=HIDDEN, decoder_layers=DECODERS, mlp_dim=WIDE,
    )  # fmt: skip
    backbone = {f"backbone.{name}": tensor for name, tensor in segmenter.backbone.body.state_dict().items()}
    torch.save({**released, **backbone}, tmp_path / "mask2former.pth")
    report = load_dense(segmenter, tmp_path / "mask2former.pth", new_classes=True)
    assert set(report.new) == {"classes.weight", "classes.bias"}


@pytest.mark.parametrize("generation", [dict, older], ids=["mmdet3", "mmdet2"])
def test_exactly_one_rename_applies_to_a_released_name(generation, released):
    segmenter, state = small_mask2former(), generation(released)
    for name in (*state, *renamed(segmenter, state)):
        taken = sum(bool(re.search(pattern, name)) for pattern, _ in segmenter.released_renames)
        assert taken == (name in state), name


@pytest.fixture
def loaded(released):
    return load(small_mask2former(), released)


@pytest.fixture
def maps(loaded):
    """Feature maps of one image, with level sizes that are not multiples of each other."""
    sizes = [(15, 23), (8, 12), (4, 6), (2, 3)]
    return [
        torch.randn(1, width, *size, dtype=torch.float64)
        for width, size in zip(loaded.backbone.channels, sizes, strict=True)
    ]


@torch.no_grad()
def test_the_pixel_decoder_equals_the_plain_form(released, loaded, maps):
    features, levels = PlainMask2Former(released, [m[0] for m in maps], HEADS).pixels()
    found = loaded.pixel_decoder(maps)
    assert relative_error(found.mask_features[0], features) < 1e-12
    for level, tokens in zip(found.multi_scale_features, levels, strict=True):
        assert relative_error(level[0].flatten(1).T, tokens) < 1e-12


@torch.no_grad()
def test_every_decoder_layer_equals_the_plain_form(released, loaded, maps):
    plain_logits, plain_masks = PlainMask2Former(released, [m[0] for m in maps], HEADS).decode()
    queries, masks = loaded._decode(maps)
    assert len(queries) == len(masks) == len(plain_logits) == DECODERS + 1
    for number in range(DECODERS + 1):
        assert relative_error(loaded.classes(queries[number])[0], plain_logits[number]) < 1e-10, number
        assert relative_error(masks[number][0], plain_masks[number]) < 1e-10, number


@torch.no_grad()
def test_scores_come_from_the_last_layer_with_the_released_class_order(released, loaded, maps):
    want = PlainMask2Former(released, [m[0] for m in maps], HEADS).scores(37, 51)
    found = loaded.scores(maps, (37, 51))[0]
    assert found.shape == (CLASSES, 37, 51)
    assert relative_error(found, want) < 1e-10
