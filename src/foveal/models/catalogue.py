"""The models of this library: their sizes, their released weights, and the accuracy that the authors publish."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import timm
import torch

from .counting import flops
from .transnext import default_cfgs as transnext_cfgs
from .transxnet import default_cfgs as transxnet_cfgs

# ImageNet-1K top-1 in percent, as published: TransNeXt paper, tables 1 and 9, and its repository; TransXNet paper,
# table II, and its repository for 384 pixels. Parameters in M and multiply-adds in G as printed there.
_PUBLISHED = {
    "transnext_micro.in1k": (82.5, 12.8, 2.7),
    "transnext_tiny.in1k": (84.0, 28.2, 5.7),
    "transnext_small.in1k": (84.7, 49.7, 10.3),
    "transnext_small.in1k_384": (86.0, 49.7, 32.1),
    "transnext_base.in1k": (84.8, 89.7, 18.4),
    "transnext_base.in1k_384": (86.2, 89.7, 56.3),
    "transnext_micro_aaaa.in1k_256": (82.6, 13.1, 3.3),
    "transxnet_t.in1k": (81.6, 12.8, 1.8),
    "transxnet_s.in1k": (83.8, 26.9, 4.5),
    "transxnet_b.in1k": (84.6, 48.0, 8.3),
    "transxnet_b.in1k_384": (85.5, None, 24.2),
}


@dataclass(frozen=True)
class Entry:
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


def catalogue(pattern: str = "*", on_entry: Callable[[int, int], None] | None = None) -> list[Entry]:
    """Return the models whose name matches ``pattern``, sorted by family and size.

    Args:
        pattern: a part of the name, or a shell pattern.
        on_entry: called with (done, total) after each model; counting takes about a second per model.
    """
    names = [n for n in _names() if fnmatch.fnmatch(n, f"*{pattern}*")]
    entries = []
    for done, name in enumerate(names, 1):
        entries.append(_entry(name))
        if on_entry:
            on_entry(done, len(names))
    return sorted(entries, key=lambda e: (e.name.split("_")[0], e.params, e.size))


def published_top1(name: str) -> float | None:
    """Return the authors' ImageNet-1K top-1 in percent for weights such as "transnext_tiny.in1k", or None."""
    return _PUBLISHED.get(name, (None, None, None))[0]


def architectures() -> list[str]:
    """Return the names of all models of the catalogue without the tags of weights, sorted."""
    return sorted({name.partition(".")[0] for name in _names()})


def _names() -> list[str]:
    return [
        f"{architecture}.{tag}" if tag != "untrained" else architecture
        for cfgs in (transnext_cfgs, transxnet_cfgs)
        for architecture, default in cfgs.items()
        for tag in default.tags
    ]


@cache
def _entry(name: str) -> Entry:
    with torch.device("meta"):
        net = timm.create_model(name, device="meta")
    cfg = net.pretrained_cfg
    size = cfg["input_size"][-1]
    count = flops(net, size)
    top1, params, macs = _PUBLISHED.get(name, (None, None, None))
    home = f"huggingface.co/{cfg['hf_hub_id']}" if cfg.get("hf_hub_id") else cfg.get("url")
    return Entry(name, size, count.params, count.macs, count.paper_macs, top1, params, macs, home or None)
