"""Multi-scale feed-forward network of TransXNet with the GroupNorm before it and the residual addition after it, for
inference."""

from .api import multiscale_ffn as multiscale_ffn
