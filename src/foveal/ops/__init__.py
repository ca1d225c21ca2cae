"""The operators of TransNeXt and TransXNet, and the choice of their implementation. Depends on torch alone."""

from .aggregated_attention import aggregated_attention
from .backend import BackendError, Explanation, explain, use_backend
from .convolutional_glu import convolutional_glu
from .dynamic_dwconv import dynamic_dwconv
from .gated_dwconv import gated_dwconv
from .gelu_pool import gelu_pool
from .host import keep_memory
from .multiscale_dwconv import multiscale_dwconv

__all__ = [
    "BackendError",
    "Explanation",
    "aggregated_attention",
    "convolutional_glu",
    "dynamic_dwconv",
    "explain",
    "gated_dwconv",
    "gelu_pool",
    "keep_memory",
    "multiscale_dwconv",
    "use_backend",
]
