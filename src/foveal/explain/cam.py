"""Class activation maps: where the evidence for a class, a box or a region lies. Grad-CAM and HiRes-CAM, as arrays.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017, weigh each
channel of a map by the mean of the score's derivative over its positions. Draelos and Carin, "Use HiResCAM instead of
Grad-CAM for faithful explanations of convolutional neural networks", 2020, weigh each position by its own derivative;
behind global average pooling and one linear layer both are equal up to rounding, elsewhere the second shows only
positions that raise the score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.explain.layers import Layer
from foveal.explain.watching import differentiating, of_this_thread
from foveal.types import Size

Method = Literal["grad", "hires"]
Score = Callable[[Any], Tensor]


@dataclass(frozen=True)
class ActivationMap:
    """Evidence for a score at each position of a layer's map.

    Attributes:
        evidence: (h, w) float32, the weighted sum over channels: above 0 where the layer raises the score, below 0
            where it lowers it. In units of the score.
        score: what was differentiated.
        method: "grad" for Grad-CAM, "hires" for HiRes-CAM.
    """

    evidence: np.ndarray
    score: float
    method: Method

    @property
    def heat(self) -> np.ndarray:
        """(h, w) float32, the evidence above 0, as both papers show it."""
        return np.maximum(self.evidence, 0)

    def on_image(self, size: Size, stride: float, *, overlapping: bool = True) -> np.ndarray:
        """Return the heat at each pixel of an image of (height, width), (height, width) float32: linear between the
        centres of the map's positions, and constant outside them.

        Args:
            size: of the image in pixels. What the network padded is left out.
            stride: pixels of the image from one position to the next; the layer's stride over the factor by which the
                image was resized for the network.
            overlapping: whether patches overlap, as in both our families: then position i is centred on pixel
                ``stride * i`` (see ``token_grid``), otherwise on the middle of its own pixels. Stretching the map over
                the image assumes the second, and is half a stride off for the first.
        """
        offset = 0.0 if overlapping else (stride - 1) / 2
        rows, columns = (
            _between_centres(pixels, cells, stride, offset)
            for pixels, cells in zip(size, self.evidence.shape, strict=True)
        )
        return (rows @ self.heat @ columns.T).astype(np.float32)


def _between_centres(pixels: int, cells: int, stride: float, offset: float) -> np.ndarray:
    """(pixels, cells) float64: the weight of each cell in each pixel, linear between their centres."""
    place = np.clip((np.arange(pixels) - offset) / stride, 0, cells - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(cells)), 0)


class WatchedScores:
    """What a network returned for one image, with its derivatives from one layer on; made by ``watch_scores``.

    ``map`` costs one backward pass from the score to the layer, and never runs the network again.

    Attributes:
        outputs: what the network returned: logits, a list of detections, or a map of scores.
    """

    def __init__(self, outputs: Any, activation: Tensor, layer: Layer):
        self.outputs = outputs
        self._activation = activation
        self._layer = layer

    def map(self, score: Score, method: Method = "grad") -> ActivationMap:
        """Return the map of a score.

        Args:
            score: takes ``outputs`` to a tensor of one number: see ``class_score``, ``box_score``, ``region_score``.
            method: "grad" or "hires".

        Raises:
            FovealError: another method, or a score that does not depend on the layer.
        """
        if method not in ("grad", "hires"):
            raise FovealError(f'The method must be "grad" (Grad-CAM) or "hires" (HiRes-CAM), not {method!r}.')
        with torch.inference_mode(False), torch.enable_grad():
            value, gradient = score(self.outputs), None
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(value, self._activation, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise FovealError("The score does not depend on this layer: choose a layer that comes before the answer.")
        maps, slopes = (self._layer.channels_first(t.detach())[0].double() for t in (self._activation, gradient))
        if method == "grad":
            slopes = slopes.mean((1, 2), keepdim=True)
        evidence = (slopes * maps).sum(0)
        return ActivationMap(evidence.float().cpu().numpy(), float(value.detach()), method)


def watch_scores(net: nn.Module, inputs: Any, layer: Layer) -> WatchedScores:
    """Run a network once on one image, and keep the derivatives of its outputs with respect to a layer.

    Only what comes after the layer is recorded. The network is left as it was found.

    Args:
        net: a classifier, detector or segmenter; any module.
        inputs: what it takes: (1, 3, H, W) normalised for a classifier, a list of one image for a detector.
        layer: the layer whose map is shown, such as ``Layer(cam_layer(net))``. Its memory layout cannot be inferred
            from the shape: a block of a TransNeXt returns "NHWC".

    Raises:
        FovealError: the network has no such layer, or the layer gives no map of one image, or is called several times.
    """
    module, leaves = layer.find(net), []

    def cut(value: Any) -> Tensor:
        if layer.channels_first(value).shape[0] != 1:
            raise FovealError(f"Activation maps are of one image, and the layer got {len(value)}: pass one.")
        leaves.append(value.detach().requires_grad_())
        return leaves[-1].clone()  # layers after it may write in place

    def on_output(_: nn.Module, __: tuple, output: Any) -> Tensor:
        return cut(output)

    def on_input(_: nn.Module, args: tuple) -> tuple:
        return cut(args[0]), *args[1:]

    if layer.side == "output":
        hook = module.register_forward_hook(of_this_thread(on_output))
    else:
        hook = module.register_forward_pre_hook(of_this_thread(on_input))
    try:
        with differentiating(net, _device_of(net)):
            outputs = net(_recordable(inputs))
    finally:
        hook.remove()
    if len(leaves) != 1:
        often = f"{len(leaves)} times" if leaves else "never"
        raise FovealError(f"The layer was called {often} for one image: choose a layer that is called once.")
    return WatchedScores(outputs, leaves[0], layer)


def class_score(label: int | None = None) -> Score:
    """Return the score of a class of a classifier: its logit. None takes the class with the largest one."""

    def score(logits: Tensor) -> Tensor:
        chosen = int(logits[0].argmax()) if label is None else label
        _check_index(chosen, logits.shape[1], "class")
        return logits[0, chosen]

    return score


def box_score(index: int = 0) -> Score:
    """Return the score of one of a detector's boxes, best first: its probability."""

    def score(detections: list[dict[str, Tensor]]) -> Tensor:
        scores = detections[0]["scores"]
        _check_index(index, len(scores), "box")
        return scores[index]

    return score


def region_score(label: int, region: Tensor | None = None) -> Score:
    """Return the score of a class of a segmenter: the mean of its scores over a region.

    Args:
        label: index of the class.
        region: (H, W) bool; None takes the pixels that are predicted as this class, or all if there are none.
    """

    def score(scores: Tensor) -> Tensor:
        _check_index(label, scores.shape[1], "class")
        inside = scores[0].argmax(0) == label if region is None else region.to(scores.device)
        if inside.shape != scores.shape[2:]:
            raise FovealError(
                f"The region is {tuple(inside.shape)}, and the scores are {tuple(scores.shape[2:])}: both must have "
                "one size."
            )
        of_class = scores[0, label]
        return of_class[inside].mean() if inside.any() else of_class.mean()

    return score


def _check_index(index: int, count: int, noun: str) -> None:
    if not 0 <= index < count:
        raise FovealError(f"There is no {noun} {index} among {count}: they are counted from 0.")


def _device_of(net: nn.Module) -> torch.device:
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))


def _recordable(inputs: Any) -> Any:
    """Return the inputs without tensors of inference mode, which autograd cannot record."""
    if isinstance(inputs, Tensor):
        return inputs.clone() if inputs.is_inference() else inputs
    return type(inputs)(map(_recordable, inputs)) if isinstance(inputs, list | tuple) else inputs
