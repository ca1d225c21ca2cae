"""The pixel decoder and the transformer: results match transformers, and initialisation is as published."""

import math

import pytest
import torch
from torch import nn
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerTransformerModule,
)

from foveal.tasks.dense.detr import sample_levels
from foveal.tasks.segmentation.mask2former import Settings
from foveal.tasks.segmentation.mask2former.layers import (
    Encoder,
    Positions,
    create_pixel_decoder,
    create_transformer,
    transformers_config,
)
from support.accuracy import relative_error

CHANNELS = [8, 12, 16, 20]
SETTINGS = Settings(queries=6, dim=64, heads=4, encoder_layers=2, encoder_mlp_dim=24, decoder_layers=4, mlp_dim=40)


def make_maps(batch=2, dtype=torch.float64):
    sizes = [(15, 23), (8, 12), (4, 6), (2, 3)]
    return [torch.randn(batch, c, *size, dtype=dtype) for c, size in zip(CHANNELS, sizes, strict=True)]


@pytest.fixture
def ours():
    torch.manual_seed(1)
    parts = nn.ModuleList((create_pixel_decoder(SETTINGS, CHANNELS), create_transformer(SETTINGS))).double()
    for parameter in parts.parameters():  # sampling locations far from their initial values, and distinct masks
        nn.init.normal_(parameter, std=0.3)
    return parts


@pytest.fixture
def theirs(ours):
    config = transformers_config(SETTINGS)
    parts = nn.ModuleList((Mask2FormerPixelDecoder(config, CHANNELS), Mask2FormerTransformerModule(64, config)))
    parts.double().load_state_dict(ours.state_dict())
    return parts


def run(parts, maps):
    pixels = parts[0](maps)
    found = parts[1](pixels.multi_scale_features, pixels.mask_features)
    return torch.stack(found.intermediate_hidden_states), torch.stack(found.masks_queries_logits)


def test_queries_masks_and_gradients_match_transformers(ours, theirs):
    maps = [m.requires_grad_() for m in make_maps()]
    found, want = run(ours, maps), run(theirs, maps)
    assert (found[0].shape, found[1].shape) == ((5, 6, 2, 64), (5, 2, 6, 15, 23))
    upstream = [torch.randn_like(tensor) for tensor in found]
    mine = torch.autograd.grad(found, [*maps, *ours.parameters()], upstream, materialize_grads=True)
    wanted = torch.autograd.grad(want, [*maps, *theirs.parameters()], upstream, materialize_grads=True)
    for actual, exact in zip((*found, *mine), (*want, *wanted), strict=True):
        assert relative_error(actual, exact, floor=1e-3) < 1e-9


def test_position_embeddings_match_transformers(theirs):
    shape = torch.Size((2, 5, 7, 9))
    want = theirs[0].position_embedding(shape, torch.device("cpu"), torch.float64)
    assert relative_error(Positions(64)(shape, torch.device("cpu"), torch.float64), want) < 1e-12


def test_position_embeddings_are_float32_for_half_precision_maps():
    shape, cpu = torch.Size((1, 5, 300, 2)), torch.device("cpu")
    found = Positions(64)(shape, cpu, torch.bfloat16)
    assert torch.equal(found, Positions(64)(shape, cpu, torch.float32))


def test_results_on_fake_tensors_are_not_cached():
    """A dry run does not affect the actual run."""
    decoder, maps = create_pixel_decoder(SETTINGS, CHANNELS).eval(), make_maps(dtype=torch.float32)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        assert type(decoder(maps).mask_features) is not torch.Tensor
    assert type(decoder(maps).mask_features) is torch.Tensor


def test_matrices_use_glorot_initialisation_and_attention_that_of_a_packed_projection():
    layer = create_transformer(Settings(dim=256, decoder_layers=3)).decoder.layers[0]
    for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
        assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / (4 * 256)), rel=0.02)
        assert not linear.bias.any()
    assert layer.cross_attn.in_proj_weight.std().item() == pytest.approx(math.sqrt(2 / (4 * 256)), rel=0.02)
    assert not layer.cross_attn.in_proj_bias.any()
    assert layer.fc1.weight.std().item() == pytest.approx(math.sqrt(2 / (256 + 2048)), rel=0.02)


def test_convolutions_of_the_pixel_decoder_are_initialised_as_published():
    """Uniform with the Glorot bound for input projections, otherwise scaled by fan-in; zero bias."""
    decoder = create_pixel_decoder(Settings(), [8, 64, 128, 512])
    bounds = {
        decoder.input_projections[0][0]: math.sqrt(6 / (512 + 256)),
        decoder.input_projections[2][0]: math.sqrt(6 / (64 + 256)),
        decoder.adapter_1[0]: math.sqrt(3 / 8),
        decoder.layer_1[0]: math.sqrt(3 / (9 * 256)),
        decoder.mask_projection: math.sqrt(3 / 256),
    }
    for layer, bound in bounds.items():
        assert 0.97 * bound < layer.weight.abs().max() <= bound
        assert layer.bias is None or not layer.bias.any()
    assert decoder.level_embed.std().item() == pytest.approx(1, rel=0.1)


def test_initial_offsets_of_the_pixel_decoder_point_in_all_directions():
    attention = create_pixel_decoder(SETTINGS, CHANNELS).encoder.layers[1].self_attn
    offsets = attention.sampling_offsets.bias.view(4, 3, 4, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for point in range(4):
        torch.testing.assert_close(offsets[:, 2, point], directions * (point + 1), atol=1e-6, rtol=0)
    assert not attention.sampling_offsets.weight.any()
    assert not attention.attention_weights.weight.any()


def test_reference_points_are_not_rounded_in_half_precision():
    """In bfloat16, positions on a map of 200 columns would be off by up to one column."""
    ratios = torch.ones(1, 1, 2, dtype=torch.bfloat16)
    places = Encoder.get_reference_points([(1, 200)], ratios, torch.device("cpu"))
    torch.testing.assert_close(places[0, :, 0, 0], (torch.arange(200) + 0.5) / 200)
    tokens = torch.arange(200.0).bfloat16().view(1, 200, 1, 1)  # the value is the column
    found = sample_levels(tokens, [(1, 200)], places[:, :, None, :, None], torch.ones(1, 200, 1, 1, 1).bfloat16())
    torch.testing.assert_close(found.flatten(), torch.arange(200.0), atol=1e-3, rtol=0)
