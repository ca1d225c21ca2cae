"""Sampling and initialisation of deformable attention, and position embeddings of tokens and boxes."""

import pytest
import torch
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from foveal.tasks.detection.dino import Settings
from foveal.tasks.detection.dino.levels import Flatten
from foveal.tasks.detection.dino.transformer import Encoder, Sampling, embed_boxes
from support.accuracy import relative_error
from support.plain_dino import deformable_sum, waves

SHAPES = [(3, 5), (2, 3), (1, 1)]


def call(batch=2, heads=2, width=3, queries=4, points=2, dtype=torch.float64):
    """Values, sampling locations (some outside of the map) and weights."""
    tokens = sum(height * columns for height, columns in SHAPES)
    value = torch.randn(batch, tokens, heads, width, dtype=dtype)
    places = torch.rand(batch, queries, heads, len(SHAPES), points, 2, dtype=dtype) * 1.6 - 0.3
    weights = torch.rand(batch, queries, heads, len(SHAPES), points, dtype=dtype)
    return value.requires_grad_(), places.requires_grad_(), weights.requires_grad_()


def sample(module, value, places, weights):
    sizes = torch.tensor(SHAPES)
    return module(value, sizes, SHAPES, torch.zeros(1), places, weights, 64)


def test_sampling_equals_a_plain_loop():
    value, places, weights = (t.detach() for t in call())
    found = sample(Sampling(), value, places, weights).view(2, 4, 2, 3)
    for image in range(2):
        for head in range(2):
            parts = value[image, :, head].split([height * width for height, width in SHAPES])
            planes = [part.view(*shape, 3) for part, shape in zip(parts, SHAPES, strict=True)]
            for query in range(4):
                want = deformable_sum(planes, places[image, query, head], weights[image, query, head])
                assert relative_error(found[image, query, head], want) < 1e-13


def test_sampling_gradients_match_transformers():
    inputs = call()
    ours, theirs = sample(Sampling(), *inputs), sample(MultiScaleDeformableAttention(), *inputs)
    upstream = torch.randn_like(ours)
    assert relative_error(ours, theirs) < 1e-13
    mine, wanted = (torch.autograd.grad(out, inputs, upstream) for out in (ours, theirs))
    assert max(relative_error(a, b) for a, b in zip(mine, wanted, strict=True)) < 1e-12


def test_half_precision_values_are_sampled_at_float32_locations():
    value, places, weights = (t.detach() for t in call(dtype=torch.float32))
    want = sample(Sampling(), value.bfloat16().float(), places, weights)
    assert torch.equal(sample(Sampling(), value.bfloat16(), places, weights), want)


def test_initial_offsets_point_in_all_directions_at_growing_distances():
    attention = Encoder(Settings(dim=64, heads=4, points=3, encoder_layers=1)).layers[0].self_attn
    offsets = attention.sampling_offsets.bias.view(4, 4, 3, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for level in range(4):
        for point in range(3):
            torch.testing.assert_close(offsets[:, level, point], directions * (point + 1), atol=1e-6, rtol=0)
    assert attention.sampling_offsets.weight.abs().max() == 0
    assert attention.attention_weights.weight.abs().max() == attention.attention_weights.bias.abs().max() == 0


@pytest.mark.parametrize("size", [1, 13, 25, 32, 40, 41])
def test_token_masks_match_nearest_resizing_of_the_image_mask(size):
    """MMDetection resizes a mask of the padded image to each level."""
    level = torch.zeros(1, 32, 6, 11)
    levels = Flatten(1, 32)([level], [(size, size)], (41, 82))
    mask = torch.zeros(1, 1, 41, 82)
    mask[:, :, :size, :size] = 1
    want = torch.nn.functional.interpolate(mask, size=(6, 11)).bool().flatten()
    assert levels.inside[0].tolist() == want.tolist()


def test_levels_have_the_centres_and_ratios_of_padded_images():
    """A level of 2 x 4 tokens of 8 pixels; the second image covers 2 x 3 of them."""
    levels = Flatten(1, 32)([torch.zeros(2, 32, 2, 4)], [(16, 32), (16, 20)], (16, 32))
    assert levels.ratios.tolist() == [[[1, 1]], [[0.75, 1]]]
    x = levels.centres[1, :4, 0].tolist()
    assert x == pytest.approx([0.5 / 3, 1.5 / 3, 2.5 / 3, 3.5 / 3])
    assert levels.centres[:, :, 1].tolist() == [[0.25] * 4 + [0.75] * 4] * 2
    assert levels.inside.tolist() == [[True] * 8, [True, True, True, False] * 2]


def test_token_positions_are_sinusoidal_embeddings_of_row_and_column_ends():
    """Temperature 20 without offset: the last row and column inside an image are at 1, a full period."""
    flatten = Flatten(2, 32).double()
    levels = flatten([torch.zeros(1, 32, 2, 4), torch.zeros(1, 32, 1, 2)], [(16, 20)], (16, 32))
    row, column = 1, 2
    want = torch.tensor(waves((row + 1) / 2, 16, 20) + waves((column + 1) / 3, 16, 20), dtype=torch.float64)
    found = levels.positions[0, row * 4 + column] - flatten.level_embedding[0]
    torch.testing.assert_close(found, want, atol=1e-12, rtol=0)
    second = torch.tensor(waves(1.0, 16, 20) + waves(0.5, 16, 20), dtype=torch.float64)
    torch.testing.assert_close(levels.positions[0, 8] - flatten.level_embedding[1], second, atol=1e-12, rtol=0)


def test_box_positions_are_sinusoidal_embeddings_of_y_x_width_and_height():
    boxes = torch.tensor([[0.2, 0.7, 0.1, 0.4]], dtype=torch.float64)
    want = [wave for coordinate in (0.7, 0.2, 0.1, 0.4) for wave in waves(coordinate, 8, 10000)]
    assert embed_boxes(boxes, 16)[0].tolist() == pytest.approx(want, abs=1e-12)
