"""Peers at equal accuracy: networks of timm, with the ImageNet-1K top-1 that their authors publish.

Every figure is the authors' own, from the table in the repository that ``_SOURCES`` names; none is timm's evaluation.
The networks were trained on ImageNet-1K alone, without other images or a teacher network (EfficientViT-L learns from
its own moving average), and evaluated at 224 pixels; the tags are those of timm's copies of these weights. Figures with
three decimals are rounded to two. The families are those that the papers of TransNeXt and TransXNet compare with, and
fast ones since. Not listed are families that learn from a teacher (EfficientFormerV2, VOLO), and GC ViT, whose weights
in timm are older than its published table.
"""

from __future__ import annotations

from dataclasses import dataclass

from foveal.models.catalogue import published_top1

SIZE = 224  # side in pixels of the images that all accuracies are for
MARGIN = 0.5  # points of top-1 by which a peer may differ

_SOURCES = {
    "ConvNeXt": "github.com/facebookresearch/ConvNeXt",
    "Swin": "github.com/microsoft/Swin-Transformer",
    "PVTv2": "github.com/whai362/PVT",
    "FocalNet": "github.com/microsoft/FocalNet",
    "MaxViT": "github.com/google-research/maxvit",
    "MViTv2": "github.com/facebookresearch/mvit",
    "DaViT": "github.com/dingmyu/davit",
    "CAFormer": "github.com/sail-sg/metaformer",
    "InceptionNeXt": "github.com/sail-sg/inceptionnext",
    "EfficientViT": "github.com/mit-han-lab/efficientvit",
    "MambaOut": "github.com/yuweihao/MambaOut",
    "RDNet": "github.com/naver-ai/rdnet",
    "TransNeXt": "TransNeXt paper, table 1",
    "TransXNet": "TransXNet paper, table II",
}
#: Families in the order in which their peers are listed, then ours.
FAMILIES = tuple(_SOURCES)
#: Family, size, timm's name with the tag of the weights, top-1 in percent; within a family from small to large.
_PEERS = (
    ("ConvNeXt", "T", "convnext_tiny.fb_in1k", 82.1),
    ("ConvNeXt", "S", "convnext_small.fb_in1k", 83.1),
    ("ConvNeXt", "B", "convnext_base.fb_in1k", 83.8),
    ("ConvNeXt", "L", "convnext_large.fb_in1k", 84.3),
    ("Swin", "T", "swin_tiny_patch4_window7_224.ms_in1k", 81.2),
    ("Swin", "S", "swin_small_patch4_window7_224.ms_in1k", 83.2),
    ("Swin", "B", "swin_base_patch4_window7_224.ms_in1k", 83.5),
    ("PVTv2", "B2", "pvt_v2_b2.in1k", 82.0),
    ("PVTv2", "B3", "pvt_v2_b3.in1k", 83.1),
    ("PVTv2", "B4", "pvt_v2_b4.in1k", 83.6),
    ("PVTv2", "B5", "pvt_v2_b5.in1k", 83.8),
    ("FocalNet", "T", "focalnet_tiny_lrf.ms_in1k", 82.3),
    ("FocalNet", "S", "focalnet_small_lrf.ms_in1k", 83.5),
    ("FocalNet", "B", "focalnet_base_lrf.ms_in1k", 83.9),
    ("MaxViT", "T", "maxvit_tiny_tf_224.in1k", 83.62),
    ("MaxViT", "S", "maxvit_small_tf_224.in1k", 84.45),
    ("MaxViT", "B", "maxvit_base_tf_224.in1k", 84.95),
    ("MaxViT", "L", "maxvit_large_tf_224.in1k", 85.17),
    ("MViTv2", "T", "mvitv2_tiny.fb_in1k", 82.3),
    ("MViTv2", "S", "mvitv2_small.fb_in1k", 83.6),
    ("MViTv2", "B", "mvitv2_base.fb_in1k", 84.4),
    ("MViTv2", "L", "mvitv2_large.fb_in1k", 85.3),
    ("DaViT", "T", "davit_tiny.msft_in1k", 82.8),
    ("DaViT", "S", "davit_small.msft_in1k", 84.2),
    ("DaViT", "B", "davit_base.msft_in1k", 84.6),
    ("CAFormer", "S18", "caformer_s18.sail_in1k", 83.6),
    ("CAFormer", "S36", "caformer_s36.sail_in1k", 84.5),
    ("CAFormer", "M36", "caformer_m36.sail_in1k", 85.2),
    ("CAFormer", "B36", "caformer_b36.sail_in1k", 85.5),
    ("InceptionNeXt", "T", "inception_next_tiny.sail_in1k", 82.3),
    ("InceptionNeXt", "S", "inception_next_small.sail_in1k", 83.5),
    ("InceptionNeXt", "B", "inception_next_base.sail_in1k", 84.0),
    ("EfficientViT", "B2", "efficientvit_b2.r224_in1k", 82.1),
    ("EfficientViT", "B3", "efficientvit_b3.r224_in1k", 83.47),
    ("EfficientViT", "L1", "efficientvit_l1.r224_in1k", 84.48),
    ("EfficientViT", "L2", "efficientvit_l2.r224_in1k", 85.05),
    ("MambaOut", "T", "mambaout_tiny.in1k", 82.7),
    ("MambaOut", "S", "mambaout_small.in1k", 84.1),
    ("MambaOut", "B", "mambaout_base.in1k", 84.2),
    ("RDNet", "T", "rdnet_tiny.nv_in1k", 82.8),
    ("RDNet", "S", "rdnet_small.nv_in1k", 83.7),
    ("RDNet", "B", "rdnet_base.nv_in1k", 84.4),
    ("RDNet", "L", "rdnet_large.nv_in1k", 84.8),
)
_OURS = tuple(
    (family, size, name, published_top1(name))
    for family, size, name in (
        ("TransNeXt", "Micro", "transnext_micro.in1k"),
        ("TransNeXt", "Tiny", "transnext_tiny.in1k"),
        ("TransNeXt", "Small", "transnext_small.in1k"),
        ("TransNeXt", "Base", "transnext_base.in1k"),
        ("TransXNet", "T", "transxnet_t.in1k"),
        ("TransXNet", "S", "transxnet_s.in1k"),
        ("TransXNet", "B", "transxnet_b.in1k"),
    )
)


@dataclass(frozen=True)
class Accuracy:
    """Published ImageNet-1K accuracy of a network at 224 pixels, without other training images or a teacher.

    Attributes:
        family: name of the architecture ("ConvNeXt").
        size: name of its size ("B").
        tag: timm's tag of the weights ("fb_in1k").
        top1: percent.
        source: where it is published.
    """

    family: str
    size: str
    tag: str
    top1: float
    source: str

    @property
    def label(self) -> str:
        """Name in the literature: "ConvNeXt-B"."""
        return f"{self.family}-{self.size}"


def accuracy_of(model: str) -> Accuracy | None:
    """Return the accuracy of a model in timm's registry; None if it is not listed, or has the tag of other weights."""
    architecture, _, tag = model.partition(".")
    found = _ACCURACIES.get(architecture)
    return found if found and tag in ("", found.tag) else None


def peers_of(model: str) -> tuple[str, ...]:
    """Return the peers of a network at equal accuracy: one of every other family, the nearest within ``MARGIN`` points.

    Of two that are equally near, the less accurate one counts, which is the smaller one. A model without a listed
    accuracy has no peers.
    """
    own = accuracy_of(model)
    if own is None:
        return ()
    nearest: dict[str, tuple[float, float, str]] = {}
    for family, _, name, top1 in _PEERS:
        distance = round(abs(top1 - own.top1), 2)  # published digits: 82.1 is 0.5 above 81.6
        if distance <= MARGIN and family != own.family:
            candidate = (distance, top1, _architecture(name))
            nearest[family] = min(candidate, nearest.get(family, candidate))
    return tuple(peer for _, _, peer in nearest.values())


def _architecture(name: str) -> str:
    return name.partition(".")[0]


_ACCURACIES = {
    _architecture(name): Accuracy(family, size, name.partition(".")[2], top1, _SOURCES[family])
    for family, size, name, top1 in (*_OURS, *_PEERS)
    if top1 is not None
}
#: Networks of foveal with a published accuracy at 224 pixels.
NETWORKS = tuple(_architecture(name) for _, _, name, _ in _OURS)
