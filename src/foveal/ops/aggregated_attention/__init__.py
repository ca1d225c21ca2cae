"""Aggregated attention (TransNeXt)."""

from .api import aggregated_attention as aggregated_attention
