"""Depthwise convolution with kernels of its own for every sample (TransXNet's IDConv)."""

from .api import dynamic_dwconv as dynamic_dwconv
