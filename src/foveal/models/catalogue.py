"""The models of this library: their sizes, their released weights, and the accuracy that the authors publish."""

from __future__ import annotations

import fnmatch
from functools import cache
from typing import Any

import timm
import torch

from foveal.listed_model import ListedModel
from foveal.papers import Row, paper_table

from .counting import Count, flops
from .transnext import default_cfgs as transnext_cfgs
from .transxnet import default_cfgs as transxnet_cfgs

#: Tables with the published figures of these networks; of two that hold a network the first counts.
_TABLES = ("transnext.imagenet", "transnext.token_mixers", "transxnet.imagenet", "transxnet.imagenet_384")


def catalogue(pattern: str = "*") -> list[ListedModel]:
    """Return the models whose name matches ``pattern``, a part of it or a shell pattern, sorted by family and size.

    Counting takes about a second per model.
    """
    entries = [entry(name) for name in _names() if fnmatch.fnmatch(name, f"*{pattern}*")]
    return sorted(entries, key=lambda e: (e.name.split("_")[0], e.params, e.size))


def count_model(name: str, **arguments: Any) -> Count:
    """Return the count of ``timm.create_model(name, **arguments)`` at the size of its weights."""
    with torch.device("meta"):
        net = timm.create_model(name, device="meta", **arguments)
    return flops(net, net.pretrained_cfg["input_size"][-1])


@cache
def entry(name: str) -> ListedModel:
    """Return the entry of one model, by its name for ``timm.create_model``, counted at the size of its weights."""
    with torch.device("meta"):
        net = timm.create_model(name, device="meta")
    cfg = net.pretrained_cfg
    size = cfg["input_size"][-1]
    count = flops(net, size)
    home = f"huggingface.co/{cfg['hf_hub_id']}" if cfg.get("hf_hub_id") else cfg.get("url")
    return ListedModel(
        name=name,
        size=size,
        params=count.params,
        macs=count.macs,
        paper_macs=count.paper_macs,
        top1=published_top1(name),
        published_params=_published(name, "params_m"),
        published_macs=_published(name, "macs_g"),
        home=home or None,
    )


def published_top1(name: str) -> float | None:
    """Return the authors' ImageNet-1K top-1 in percent for weights such as "transnext_tiny.in1k", or None."""
    return _published(name, "top1")


def _published(name: str, column: str) -> float | None:
    row = _published_rows().get(name)
    return row.number(column) if row else None


@cache
def _published_rows() -> dict[str, Row]:
    """The rows of the papers' tables by the name of their network and its weights."""
    return {name: row for table in reversed(_TABLES) for name, row in paper_table(table).models.items()}


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
