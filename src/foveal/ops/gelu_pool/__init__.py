"""GELU and adaptive average pooling (TransNeXt's "activate and pool")."""

from .api import gelu_pool as gelu_pool
