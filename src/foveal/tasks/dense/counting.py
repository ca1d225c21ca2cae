"""Multiply-adds and parameters of detectors and segmenters, by the rules of the papers' tables."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from foveal.models import TransNeXt
from foveal.models.counting import Count, LayerRule, convolution_macs, count_pass
from foveal.models.layers.idconv import IDConv
from foveal.models.transxnet import TransXNet
from foveal.tasks.dense.model import DenseModel
from foveal.types import Size

aten = torch.ops.aten

# What fvcore counts per output element, in addition to all that ``Count.macs`` contains.
_BILINEAR = 4
_RESIZING = {
    aten.upsample_nearest2d.default: 1,
    aten.upsample_bilinear2d.default: _BILINEAR,
    aten.grid_sampler_2d.default: _BILINEAR,
}
_TABLE = torch.ops.foveal.aggregated_attention_table.default
_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, IDConv)  # IDConv pools to a kernel, in no module of its own


def count_dense(model: DenseModel, size: Size) -> Count:
    """Count multiply-adds and parameters of a model without running it, for one image through all layers
    (``DenseModel.dense_pass``).

    Args:
        model: any detector or segmenter of this library, on any device; it is neither moved nor changed.
        size: (H, W) of the image.

    Returns:
        A Count. Its ``paper_macs`` are those of the papers' tables, by the rule of ``get_flops`` in MMDetection and
        MMSegmentation: layers that are modules and known to it, convolutions with their biases, linear layers without,
        normalisations with 2 an element, ReLU and pooling with 1; not the products of attention.
    """
    count = count_pass(_DensePass(model), (1, 3, *size), _rule_of(model))
    prefix = "model"
    modules = {name.removeprefix(prefix).removeprefix("."): of for name, of in count.modules.items() if name}
    return replace(count, modules=modules)


def count_detector(detector: DenseModel, size: Size = (800, 1280)) -> Count:
    """Count multiply-adds and parameters of a detector; see ``count_dense``.

    For two-stage detectors, whose work depends on the number of proposals, 1000 boxes and 100 masks are counted.
    """
    return count_dense(detector, size)


def count_segmenter(segmenter: DenseModel, size: Size = (512, 512)) -> Count:
    """Count multiply-adds and parameters of a segmenter; see ``count_dense``.

    All parameters are counted; an auxiliary head, which only training uses, has no multiply-adds.

    Returns:
        A Count. Its ``paper_macs`` follow the authors of the backbone. Those of TransXNet used MMSegmentation's
        ``get_flops`` (see ``count_dense``), which is used for all other networks as well. Those of TransNeXt used
        fvcore (issue 11 of their repository): it counts what ``macs`` contains, and 4 per element that bilinear
        resizing returns, in the head and in an interpolated position bias. The bias is resized twice in every block,
        even if the image has the reference size and nothing changes.
    """
    if not isinstance(segmenter.backbone.body, TransNeXt):
        return count_dense(segmenter, size)
    with _Resizing() as resizing:
        count = count_dense(segmenter, size)
    return replace(count, paper_macs=count.macs + resizing.macs)


class _Resizing(TorchDispatchMode):
    """Sums what fvcore counts for resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _RESIZING:
            self.macs += _RESIZING[func] * output.numel()
        elif func is _TABLE:
            q, _, _, k_pool, *_, sizes, _ = args
            self.macs += _position_bias_macs(q, k_pool, sizes)
        return output


def _position_bias_macs(q: Tensor, k_pool: Tensor, sizes: list[int]) -> int:
    """What resizing the position bias would count if it were dense, first over cells and then over pixels: the operator
    does not resize it as a whole. ``sizes`` are those of the table, [H, W, Hp, Wp], or [] if it is not resized."""
    heads, pooled = q.shape[3], k_pool.shape[1] * k_pool.shape[2]
    if not sizes:
        return 0
    queries = sizes[0] * sizes[1] + q.shape[1] * q.shape[2]
    return _BILINEAR * heads * pooled * queries


class _DensePass(nn.Module):
    def __init__(self, model: DenseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> None:
        self.model.dense_pass(images)


def _rule_of(model: DenseModel) -> LayerRule:
    # Networks that were turned to synchronised batch norm before they were counted: the tool does not know that layer.
    unseen = {
        id(module) for body in model.modules() if isinstance(body, TransXNet)
        for module in body.modules() if isinstance(module, nn.BatchNorm2d)
    }  # fmt: skip

    def rule(module: nn.Module, args: tuple, output: Any) -> int:
        return 0 if id(module) in unseen else _layer_macs(module, args, output)

    return rule


def _layer_macs(module: nn.Module, args: tuple, output: Any) -> int:
    if isinstance(module, nn.ConvTranspose2d):
        positions = args[0].numel() // module.in_channels
        return positions * module.weight.numel() + (module.bias is not None) * output.numel()
    if isinstance(module, nn.Linear):
        return args[0].numel() * module.out_features
    if isinstance(module, _NORMS):
        return args[0].numel() * (2 if module.weight is not None else 1)
    if isinstance(module, _POOLS):
        return args[0].numel()
    return output.numel() if isinstance(module, nn.ReLU) else convolution_macs(module, output)
