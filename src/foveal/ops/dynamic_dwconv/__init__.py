"""Depthwise convolution with separate kernels for every sample (TransXNet's IDConv)."""

from .api import dynamic_dwconv as dynamic_dwconv
