"""The tables by name, read from ``tables/`` when they are asked for."""

from functools import cache
from pathlib import Path

from foveal.errors import FovealError
from foveal.near import did_you_mean

from .table import PaperTable, parse

_FOLDER = Path(__file__).with_name("tables")


def paper_tables() -> list[str]:
    """Return the names of all tables, in the order of the papers: ``["transnext.imagenet", ...]``."""
    return list(_ORDER)


@cache
def paper_table(name: str) -> PaperTable:
    """Return a table by its name, such as "transnext.imagenet".

    Raises:
        FovealError: There is no such table; the sentence names near ones.
    """
    if name not in _ORDER:
        raise FovealError(f"There is no table {name!r}{did_you_mean(name, _ORDER)}: `foveal tables` lists them.")
    return parse(name, (_FOLDER / f"{name}.csv").read_text(encoding="utf-8"))


_ORDER = (
    "transnext.imagenet",
    "transnext.roadmap",
    "transnext.variants",
    "transnext.multi_scale",
    "transnext.position_encoding",
    "transnext.conv_glu",
    "transnext.window_size",
    "transnext.token_mixers",
    "transnext.cuda",
    "transnext.throughput",
    "transnext.coco_mask_rcnn",
    "transnext.coco_dino",
    "transnext.ade20k_upernet",
    "transnext.ade20k_mask2former",
    "transxnet.variants",
    "transxnet.imagenet",
    "transxnet.imagenet_384",
    "transxnet.coco_retinanet",
    "transxnet.coco_mask_rcnn",
    "transxnet.ade20k_semantic_fpn",
    "transxnet.token_mixers",
    "transxnet.depthwise",
    "transxnet.ffn_scales",
    "transxnet.attention_ratio",
    "transxnet.design",
    "transxnet.efficiency",
)
