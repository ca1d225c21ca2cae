"""Aggregated attention in Triton, for NVIDIA GPUs."""

from .backward_pass import backward as backward
from .forward_pass import forward as forward
from .launch import unsupported as unsupported
