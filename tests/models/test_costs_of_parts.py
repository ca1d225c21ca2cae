"""What the papers say a part costs beside another, counted (docs/claims.md). Multiply-adds are per token."""

import pytest
import torch
from torch import nn

from foveal.models.counting import count_pass
from foveal.models.layers.channel_mixers import CHANNEL_MIXERS
from foveal.models.layers.d_mixer import DMixer
from foveal.models.layers.idconv import IDConv

SIDE = 14
TOKENS = SIDE * SIDE


@pytest.mark.parametrize(("channels", "ratio"), [(48, 8), (192, 4), (576, 4)])
def test_convolutional_glu_costs_less_than_the_convolutional_mlp_of_its_size(channels, ratio):
    """TransNeXt, section 3.2.2: of 2 R C^2 + 9 R C, the convolution is on two thirds of the channels."""
    glu, mlp = (CHANNEL_MIXERS[name](channels, ratio) for name in ("conv_glu", "conv_mlp"))
    macs = [count_pass(mixer, (1, SIDE, SIDE, channels)).macs / TOKENS for mixer in (glu, mlp)]
    products, hidden = 2 * ratio * channels**2, ratio * channels
    assert macs == [products + 9 * 2 * hidden / 3, products + 9 * hidden]
    sizes = [sum(p.numel() for p in mixer.parameters() if p.ndim > 1) for mixer in (glu, mlp)]
    assert sizes == macs  # every weight is used once per token


@pytest.mark.parametrize("channels", [48, 96, 224, 448])
def test_the_squeezed_token_enhancer_costs_less_than_a_pointwise_convolution(channels):
    """TransXNet, section III-B3, on the channels of TransXNet-T: 3x3 depthwise; to an eighth, at least 16, and back."""
    mixer = DMixer(channels, 2, 2, 2, 0.0, 0.0)
    counted = count_pass(mixer.proj, (1, channels, SIDE, SIDE)).kinds["conv"] / TOKENS
    assert counted == 9 * channels + 2 * channels * max(16, channels // 8)
    assert counted < channels**2


@pytest.mark.parametrize("channels", [64, 256])
def test_idconv_has_fewer_parameters_than_fully_dynamic_kernels(channels):
    """TransXNet, section III-B1: 1.25 C^2 + 196 C weights with four groups, beside 12.5 C^2 of D-DWConv."""
    module: nn.Module = IDConv(channels, groups=4)
    norm = {p for m in module.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    weights = [p for name, p in module.named_parameters() if p not in norm and not name.endswith("bias")]
    count = sum(torch.numel(p) for p in weights)
    assert count == 1.25 * channels**2 + 196 * channels
    assert count < 12.5 * channels**2
