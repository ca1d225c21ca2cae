"""Input-dependent depthwise convolution of TransXNet, with the layers that mix its kernels, for inference."""

from .api import idconv as idconv
