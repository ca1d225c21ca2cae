"""A model in a list, with its costs and published figures. Nothing here needs PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ListedModel:
    """One model with one set of weights.

    Attributes:
        name: name for ``timm.create_model``, with the tag of the weights ("transnext_tiny.in1k"), or without a tag for
            models that are not in the papers.
        size: side in pixels of the images that the figures are for.
        params, macs, paper_macs: as counted by ``foveal.flops``.
        top1: published ImageNet-1K accuracy in percent, or None.
        published_params, published_macs: figures of the paper, in M and G, or None.
        home: address that the weights are downloaded from, or None.
    """

    name: str
    size: int
    params: int
    macs: int
    paper_macs: int
    top1: float | None
    published_params: float | None
    published_macs: float | None
    home: str | None
