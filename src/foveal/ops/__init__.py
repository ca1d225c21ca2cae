"""The operators of TransNeXt and TransXNet, and the choice of their implementation. Depends on torch alone."""

from .aggregated_attention import aggregated_attention
from .backend import BackendError, Explanation, explain, use_backend
from .convolutional_glu import convolutional_glu
from .dynamic_dwconv import dynamic_dwconv
from .gated_dwconv import gated_dwconv
from .gelu_pool import gelu_pool
from .host import keep_memory
from .idconv import idconv
from .multiscale_dwconv import multiscale_dwconv
from .multiscale_ffn import multiscale_ffn

__all__ = [
    "BackendError",
    "Explanation",
    "aggregated_attention",
    "convolutional_glu",
    "dynamic_dwconv",
    "explain",
    "gated_dwconv",
    "gelu_pool",
    "idconv",
    "keep_memory",
    "multiscale_dwconv",
    "multiscale_ffn",
    "use_backend",
]
