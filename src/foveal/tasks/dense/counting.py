"""Multiply-adds and parameters of a detector or segmenter, as the papers' tables tell them."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from foveal.models.counting import Count, LayerRule, convolution_macs, count_pass
from foveal.models.transxnet import IDConv, TransXNet
from foveal.tasks.dense.model import DenseModel

_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, IDConv)  # IDConv pools to a kernel, in no module of its own


def count_dense(model: DenseModel, size: tuple[int, int]) -> Count:
    """Count a model's multiply-adds and parameters without running it.

    Counted is one image through all layers (``DenseModel.dense_pass``).

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
