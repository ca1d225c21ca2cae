"""The convolution in Triton, for NVIDIA GPUs."""

from .kernels import backward as backward
from .kernels import forward as forward
from .kernels import unsupported as unsupported
