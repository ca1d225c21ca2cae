"""Depthwise convolution with a kernel size per group of channels (TransXNet's multi-scale feed-forward)."""

from .api import multiscale_dwconv as multiscale_dwconv
