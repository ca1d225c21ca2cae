"""``foveal.quantize``: networks folded for inference whose products run in int8 on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from foveal.ops.host import computes_bfloat16
from foveal.ops.int8 import why_slow

from ..folded import optimize
from ..folded.parts import InferenceOnly, Layer
from ..load_report import CheckpointError, Problem
from ..loading import QUANTIZED, compare
from ..weights_file import WeightsFile, WeightsSource, errors_name
from .calibration import Calibration, batches_of, calibrate, mean_cosine, run
from .layer import QuantizedLayer
from .report import Kept, LayerReport, QuantizationReport
from .selection import Selection, reason_to_keep, replace


class SlowInt8Warning(UserWarning):
    """int8 products are right on this processor, but not faster than others."""


def quantize(
    net: nn.Module,
    images: Tensor | Iterable[Any],
    dtype: torch.dtype | None = None,
    *,
    tolerance: float = 0.05,
    cosine: float = 0.999,
    memory: bool = True,
) -> nn.Module:
    """Return a copy of ``net`` as ``optimize`` folds it, whose products (linear layers, 1x1 convolutions) run in int8.

    Weights become int8, symmetric, with a scale for every output channel. Inputs of products become uint8 in a range
    that is fixed by the images: the share of the full range on them with which the layer's outputs are most accurate.
    Sums are int32. Everything else stays in ``dtype``: attention, depthwise and strided convolutions, norms, additions,
    the classifier.

    A layer stays in ``dtype`` if int8 changes its outputs on the images by more than ``tolerance``, or if it has fewer
    than 32 inputs or outputs, too few to gain. If the mean cosine between the network's outputs and those in float32 is
    still below ``cosine``, those layers stay too that change the outputs most, as many as it takes. ``quantization`` of
    the result, a ``QuantizationReport``, prints every layer's error and the reason.

    The result is for inference on a CPU; it is saved by its state dict, and restored by ``load_quantized``. Only
    processors with VNNI instructions gain speed; on others a warning says so, and the same integers are multiplied in
    float32. So they are in a compiled or traced network.

    Args:
        net: a TransNeXt or TransXNet, or a network with one inside that takes a batch, in eval mode, on a CPU. It is
            not changed.
        images: a batch (B, C, H, W), or an iterable of batches or of tuples that begin with one, preprocessed as for
            inference. A hundred or more of the training set are typical. They are kept in memory meanwhile.
        dtype: torch.float32 or torch.bfloat16, for all that is not int8; None for bfloat16 where the processor computes
            in it, else float32.
        tolerance: largest error of a layer's outputs, relative to how much these vary (``LayerReport.error``).
        cosine: smallest mean cosine of the network's outputs on the images, if they are tensors; 0 for any.
        memory: let the process keep freed memory, as in ``optimize``.

    Raises:
        ValueError: ``optimize`` refuses the network, or it is on another device; the images are none, not finite or
            not such batches; or ``dtype`` is another.
    """
    dtype = _checked(net, dtype)
    batches = batches_of(images)
    with torch.inference_mode(False), torch.no_grad():
        exact = optimize(net, torch.float32, memory=memory)
        layers = layers_of(exact)
        seen, expected = calibrate(exact, layers, batches)
        kept = {name: reason_to_keep(seen[name], layer, tolerance) for name, layer in layers.items()}
        able = [name for name, reason in kept.items() if reason is None]
        int8 = {name: QuantizedLayer.of(layers[name], *seen[name].range) for name in able}
        chosen = Selection(exact, layers, int8, batches, expected).largest(cosine)
        kept.update({name: Kept.COSINE for name in able if name not in chosen})
        result = optimize(net, dtype, memory=memory)
        for name in chosen:
            replace(result, name, int8[name])
        _own_memory(result)
        found = mean_cosine(run(result, batches), expected)
    images_seen = sum(map(len, batches))
    reports = tuple(_report(name, seen[name], layers[name], kept[name], images_seen) for name in layers)
    result.quantization = QuantizationReport(reports, dtype, tolerance, cosine, images_seen, found)  # type: ignore
    _warn_if_slow()
    return result


def load_quantized(
    net: nn.Module, path: WeightsSource, dtype: torch.dtype | None = None, *, memory: bool = True
) -> nn.Module:
    """Return the quantized network whose state dict is in a file, with the same outputs bit for bit.

    Args:
        net: the network that was quantized, with any weights, in eval mode, on a CPU. It is not changed.
        path: a file of ``quantize(...).state_dict()`` (torch.save or safetensors), or an opened ``WeightsFile``.
        dtype: of everything that is not int8; None for the file's, which alone gives the same bits.
        memory: let the process keep freed memory, as in ``optimize``.

    Raises:
        ValueError: as ``quantize``.
        CheckpointError: the file is missing or damaged, holds no quantized network, or one that does not fit ``net``.
    """
    file = WeightsFile.open(path)
    names = [name.removesuffix(QUANTIZED) for name in file.state if name.endswith(QUANTIZED)]
    half = any(t.dtype is torch.bfloat16 for t in file.state.values())
    dtype = _checked(net, dtype or (torch.bfloat16 if half else torch.float32))
    with torch.inference_mode(False), torch.no_grad():
        result = optimize(net, dtype, memory=memory)
        layers = layers_of(result)
        with errors_name(file.path):
            if not names:
                raise CheckpointError(Problem.NOT_QUANTIZED)
            for name in names:
                if name in layers:
                    outputs, inputs = layers[name].weight.shape
                    replace(result, name, QuantizedLayer(inputs, outputs, layers[name].norm))
            _own_memory(result)
            report = compare(file.state, result)
            if not report.complete:
                raise CheckpointError(Problem.MISFIT, type(net).__name__, "net", report=report)
        result.load_state_dict(file.state)
    _warn_if_slow()
    return result


def layers_of(net: nn.Module) -> dict[str, Layer]:
    """Return the products of a folded network that are not in int8, by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, Layer)}


def _checked(net: nn.Module, dtype: torch.dtype | None) -> torch.dtype:
    """Return the dtype of what is not int8. Raises ValueError for it or a network that cannot be quantized."""
    kind = type(net).__name__
    if any(isinstance(module, QuantizedLayer) for module in net.modules()):
        raise ValueError(f"this {kind} is quantized already")
    if any(isinstance(module, InferenceOnly) for module in net.modules()):
        raise ValueError(f"this {kind} is optimized already: pass the network that it was made from")
    if any(parameter.device.type != "cpu" for parameter in net.parameters()):
        raise ValueError(f"int8 products are for CPUs: call net.cpu() on this {kind} first")
    if dtype is None:
        return torch.bfloat16 if computes_bfloat16() else torch.float32
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"dtype must be torch.float32 or torch.bfloat16, got {dtype!r}")
    return dtype


def _report(name: str, seen: Calibration, layer: Layer, kept: Kept | None, images: int) -> LayerReport:
    outputs, inputs = layer.weight.shape
    return LayerReport(name, inputs, outputs, seen.rows * inputs * outputs / images, seen.error, kept)


def _own_memory(net: nn.Module) -> None:
    """Copy the weights of layers that are a part of another layer's, which may be gone."""
    for layer in layers_of(net).values():
        for parameter in (layer.weight, layer.bias):
            if parameter.untyped_storage().nbytes() > parameter.nbytes:
                parameter.data = parameter.clone()


def _warn_if_slow() -> None:
    reason = why_slow()
    if reason is not None:
        text = f"{reason}, so int8 is not faster here: the same integers are multiplied in float32."
        warnings.warn(text, SlowInt8Warning, stacklevel=3)
