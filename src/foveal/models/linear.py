"""The linear layer of the token mixers and feed-forward networks."""

from __future__ import annotations

from timm.models import register_notrace_module
from torch import Tensor, nn

from foveal.ops.linear import linear


@register_notrace_module
class Linear(nn.Linear):
    """`torch.nn.Linear`, through the fastest library there is for the tensors it meets."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return linear(x, self.weight, self.bias)
