"""The networks folded for inference: the same outputs from fewer operators."""

from .optimize import optimize as optimize
