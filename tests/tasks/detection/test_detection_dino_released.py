"""Checkpoints with MMDetection 3's names: every tensor is loaded, and the outputs equal those of a plain form."""

import re

import pytest
import torch

from foveal.tasks.dense.released import load_dense as load_detector
from foveal.tasks.detection import create_detector
from foveal.tasks.detection.detector import ImageList
from support.accuracy import relative_error
from support.plain_dino import PlainDino

DIM, HEADS, POINTS, LEVELS, HIDDEN, CLASSES, QUERIES, ENCODERS, DECODERS = 64, 4, 2, 4, 48, 3, 12, 2, 3

LAST_OF_ENCODER = f"encoder.layers.{ENCODERS - 1}.ffn.layers.1.weight"


def small_dino(num_levels=LEVELS):
    return create_detector(
        "dino",
        "transnext_atto",
        CLASSES,
        reference_size=64,
        num_levels=num_levels,
        queries=QUERIES,
        dim=DIM,
        heads=HEADS,
        points=POINTS,
        mlp_dim=HIDDEN,
        encoder_layers=ENCODERS,
        decoder_layers=DECODERS,
    )


def shapes_by_released_names(channels, levels=LEVELS) -> dict[str, tuple[int, ...]]:
    """Names and shapes in an MMDetection 3 checkpoint, without the backbone."""
    shapes: dict[str, tuple[int, ...]] = {"level_embed": (levels, DIM), "query_embedding.weight": (QUERIES, DIM)}
    shapes["dn_query_generator.label_embedding.weight"] = (CLASSES, DIM)

    def add(name, *shape):
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    def add_layer(name, attention, norms):
        samples = HEADS * levels * POINTS
        add(f"{name}.{attention}.sampling_offsets", 2 * samples, DIM)
        add(f"{name}.{attention}.attention_weights", samples, DIM)
        add(f"{name}.{attention}.value_proj", DIM, DIM)
        add(f"{name}.{attention}.output_proj", DIM, DIM)
        add(f"{name}.ffn.layers.0.0", HIDDEN, DIM)
        add(f"{name}.ffn.layers.1", DIM, HIDDEN)
        for norm in range(norms):
            add(f"{name}.norms.{norm}", DIM)

    for number, width in enumerate(channels):
        shapes[f"neck.convs.{number}.conv.weight"] = (DIM, width, 1, 1)
        add(f"neck.convs.{number}.gn", DIM)
    shapes["neck.extra_convs.0.conv.weight"] = (DIM, channels[-1], 3, 3)
    add("neck.extra_convs.0.gn", DIM)
    for number in range(ENCODERS):
        add_layer(f"encoder.layers.{number}", "self_attn", 2)
    for number in range(DECODERS):
        name = f"decoder.layers.{number}"
        add_layer(name, "cross_attn", 3)
        shapes[f"{name}.self_attn.attn.in_proj_weight"] = (3 * DIM, DIM)
        shapes[f"{name}.self_attn.attn.in_proj_bias"] = (3 * DIM,)
        add(f"{name}.self_attn.attn.out_proj", DIM, DIM)
    add("decoder.ref_point_head.layers.0", DIM, 2 * DIM)
    add("decoder.ref_point_head.layers.1", DIM, DIM)
    add("decoder.norm", DIM)
    add("memory_trans_fc", DIM, DIM)
    add("memory_trans_norm", DIM)
    for number in range(DECODERS + 1):
        add(f"bbox_head.cls_branches.{number}", CLASSES, DIM)
        add(f"bbox_head.reg_branches.{number}.0", DIM, DIM)
        add(f"bbox_head.reg_branches.{number}.2", DIM, DIM)
        add(f"bbox_head.reg_branches.{number}.4", 4, DIM)
    return shapes


def draw(name, shape) -> torch.Tensor:
    noise = torch.randn(shape, dtype=torch.float64)
    if re.search(r"(norms\.\d|\.gn|norm)\.weight$", name):
        return 1 + 0.2 * noise
    return noise * (0.5 if noise.ndim == 1 else 1 / noise[0].numel() ** 0.5)


def made(levels=LEVELS):
    shapes = shapes_by_released_names(small_dino(levels).backbone.channels, levels)
    return {name: draw(name, shape) for name, shape in shapes.items()}


@pytest.fixture
def released():
    return made()


def renamed(detector, state):
    for pattern, replacement in detector.released_renames:
        state = {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}
    return detector.adapt_released(state)


def load(detector, state):
    """Load everything except the backbone, which the shared loader handles."""
    detector = detector.double().eval()
    report = detector.load_state_dict(renamed(detector, state), strict=False)
    assert report.unexpected_keys == []
    assert [name for name in report.missing_keys if not name.startswith("backbone.")] == []
    return detector


@pytest.mark.parametrize("levels", [4, 5])
def test_released_tensors_map_one_to_one(levels):
    load(small_dino(levels), made(levels))


def test_a_checkpoint_is_loaded_completely_with_its_backbone(released, tmp_path):
    detector, saved = small_dino(), small_dino()
    backbone = {f"backbone.{name}": tensor + 1 for name, tensor in saved.backbone.body.state_dict().items()}
    torch.save({"state_dict": {**released, **backbone}}, tmp_path / "dino.pth")
    assert load_detector(detector, tmp_path / "dino.pth").complete
    torch.testing.assert_close(detector.encoder.layers[1].mlp.fc2.weight.double(), released[LAST_OF_ENCODER])
    for name, tensor in saved.backbone.state_dict().items():
        assert torch.equal(detector.backbone.state_dict()[name], tensor + 1)


def test_at_most_one_rename_applies_to_a_name(released):
    renames = small_dino().released_renames
    for name in (*released, *renamed(small_dino(), released)):
        assert sum(bool(re.search(pattern, name)) for pattern, _ in renames) <= (name in released), name


def test_backbone_names_are_unchanged():
    detector = small_dino()
    state = {f"backbone.{name}": tensor for name, tensor in detector.backbone.state_dict().items()}
    assert renamed(detector, state).keys() == state.keys()


@pytest.fixture
def loaded(released):
    return load(small_dino(), released)


@pytest.fixture
def image():
    """A 50 x 70 image in a batch padded to 64 x 96."""
    return ImageList(torch.randn(1, 3, 64, 96, dtype=torch.float64), [(50, 70)])


def plain(released, detector, image):
    """The plain form applied to the output of the neck, with the extent of the image on each level."""
    levels = [level[0].detach() for level in detector.neck(detector.backbone(image.tensors))]
    extents = []
    for level in levels:
        rows = [row for row in range(level.shape[1]) if row * 64 // level.shape[1] < 50]
        columns = [column for column in range(level.shape[2]) if column * 96 // level.shape[2] < 70]
        extents.append((len(rows), len(columns)))
    return PlainDino(released, levels, extents, HEADS, ENCODERS)


@torch.no_grad()
def test_the_encoder_equals_the_plain_form(released, loaded, image):
    want = plain(released, loaded, image)
    levels, memory, _ = loaded._encode(image)
    assert levels.inside[0].tolist() == want.inside.tolist()
    assert 0 < int(want.inside.sum()) < len(want.inside)
    assert relative_error(memory[0][want.inside], want.encode()[want.inside]) < 1e-12


@torch.no_grad()
def test_the_query_selection_equals_the_plain_form(released, loaded, image):
    want = plain(released, loaded, image)
    _, _, selection = loaded._encode(image)
    tokens, boxes = want.select(want.encode(), QUERIES)
    able = (boxes < 1).all(1)  # tokens without a proposal are identical
    assert able.sum() >= 5
    assert torch.equal(selection.tokens[0][able], tokens[able])
    assert relative_error(selection.boxes[0], boxes) < 1e-12


@torch.no_grad()
def test_every_decoder_layer_equals_the_plain_form(released, loaded, image):
    want = plain(released, loaded, image)
    levels, memory, selection = loaded._encode(image)
    logits, boxes = loaded.heads(*loaded._decode(levels, memory, selection, None))
    plain_logits, plain_boxes = want.decode(want.encode(), want.select(want.encode(), QUERIES)[1])
    assert relative_error(logits[:, 0], torch.stack(plain_logits)) < 1e-10
    assert relative_error(boxes[:, 0], torch.stack(plain_boxes)) < 1e-10


@torch.no_grad()
def test_detections_come_from_the_last_layer_with_the_released_class_order(released, loaded, image):
    want = plain(released, loaded, image)
    logits, boxes = want.decode(want.encode(), want.select(want.encode(), QUERIES)[1])
    scores = logits[-1].sigmoid()
    query, label = divmod(int(scores.argmax()), CLASSES)
    x, y, width, height = boxes[-1][query].tolist()
    found = loaded.detections(image)[0]
    assert found["labels"][0] == label
    assert found["scores"][0].item() == pytest.approx(scores.max().item(), abs=1e-6)
    corners = [(x - width / 2) * 70, (y - height / 2) * 50, (x + width / 2) * 70, (y + height / 2) * 50]
    inside = [min(max(c, 0), limit) for c, limit in zip(corners, (70, 50, 70, 50), strict=True)]
    assert found["boxes"][0].tolist() == pytest.approx(inside, abs=1e-3)
