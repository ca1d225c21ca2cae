"""The neck of DINO, and initialisation."""

import math

import pytest
import torch
from torch import nn

from foveal.tasks.detection.dino import Settings
from foveal.tasks.detection.dino.levels import Neck
from foveal.tasks.detection.dino.queries import QuerySelection
from foveal.tasks.detection.dino.transformer import Decoder


def test_the_neck_returns_a_level_per_map_and_one_of_half_the_size():
    maps = [torch.randn(2, 24, 12, 20), torch.randn(2, 48, 6, 10), torch.randn(2, 96, 3, 5)]
    neck = Neck([24, 48, 96], 64)
    levels = neck(maps)
    assert [tuple(level.shape) for level in levels] == [(2, 64, 12, 20), (2, 64, 6, 10), (2, 64, 3, 5), (2, 64, 2, 3)]
    # The additional level is computed from the last backbone map, not from the last level.
    assert neck.extra.conv.in_channels == 96


def test_neck_levels_are_projected_and_normalised_in_32_groups():
    neck, m = Neck([24], 64).double(), torch.randn(1, 24, 3, 5, dtype=torch.float64)
    projected = torch.einsum("oc,bchw->bohw", neck.convs[0].conv.weight[:, :, 0, 0], m)
    groups = projected.view(1, 32, -1)
    normed = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(neck([m])[0], normed.view(1, 64, 3, 5))


def bound(fan_in: int, fan_out: int) -> float:
    """Bound of the Glorot uniform distribution."""
    return math.sqrt(6 / (fan_in + fan_out))


def test_matrices_use_glorot_initialisation_and_attention_that_of_a_packed_projection():
    dim = 128
    decoder = Decoder(Settings(dim=dim, mlp_dim=96, decoder_layers=1))
    layer = decoder.layers[0]
    packed = nn.MultiheadAttention(dim, 8)  # initialises in_proj with Glorot, as for the released models
    for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
        assert linear.weight.abs().max() <= bound(dim, 3 * dim)
        assert linear.weight.std().item() == pytest.approx(packed.in_proj_weight.std().item(), rel=0.02)
        assert not linear.bias.any()
    others = {
        (dim, 96): layer.mlp.fc1,
        (2 * dim, dim): decoder.place.layers[0],
        (dim, dim): layer.encoder_attn.value_proj,
    }
    for fans, linear in others.items():
        assert 0.98 * bound(*fans) < linear.weight.abs().max() <= bound(*fans)
    content = QuerySelection(50, dim).content.weight
    assert 0.98 * bound(50, dim) < content.abs().max() <= bound(50, dim)
