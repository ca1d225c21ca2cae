"""Effective receptive fields: how much each pixel contributes to the centre of a map, as arrays.

Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", 2016, differentiate the
centre of a map with respect to the image. The pictures of TransNeXt (figure 8) and TransXNet do so for the channel sum
of the centre token (h // 2, w // 2), take absolute values, sum them over colours, and average over images, and so does
this module. ``sign="positive"`` counts positive derivatives alone, as RepLKNet's script does (Ding et al., "Scaling Up
Your Kernels to 31x31", 2022; erf/visualize_erf.py of its repository); that script also applies a ReLU to the centre's
channels before their sum, which this module does not.
"""

from __future__ import annotations

import functools
import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.explain.layers import Layer, stage_layers
from foveal.explain.watching import after, before, differentiating
from foveal.files import atomic_file
from foveal.models.pyramid import Pyramid
from foveal.types import Size

Sign = Literal["positive", "absolute"]
_STAGES = 4
_FORMAT = 1  # of saved sums


@dataclass(frozen=True)
class ReceptiveFields:
    """Effective receptive fields of some layers of a network, averaged over images.

    Attributes:
        layers: names of the L layers.
        contributions: (L, H, W) float32, at least 0: change of the centre's channel sum per unit of a pixel's
            normalised value, summed over colours.
        maps: (height, width) of each layer's map, whose centre token is (height // 2, width // 2). On a map of odd
            sides it lies in the middle of the image if patches do not overlap; with the overlapping patches of our
            networks it lies half a token above and to the left.
        images: number of images.
        sign: which derivatives count: all by their "absolute" value, or "positive" ones.
    """

    layers: tuple[str, ...]
    contributions: np.ndarray
    maps: tuple[Size, ...]
    images: int
    sign: Sign = "absolute"


class EffectiveReceptiveField:
    """Sums contributions over images, with a state that can be saved and resumed.

    All layers of a batch come from one forward pass and one backward pass per layer, to the input only. The network is
    left as it was found after every call. Images are independent in evaluation mode, so the centres of a batch are
    differentiated together. Sums are in float64 and in the order of the images: the same calls give the same bytes,
    and a resumed sum equals an uninterrupted one. Another batch size changes them by the rounding of the network alone.

    Args:
        net: any network of images (B, C, H, W).
        layers: places to look at, by name. None takes the stages of our networks (``stage_layers``), or the last four
            maps of ``net.forward_intermediates``, which most networks of timm have.
        sign: "absolute" as the papers, or "positive" as RepLKNet, which leaves out what lowers the sum.

    Raises:
        FovealError: a layer that the network does not have, or None for a network of which no layers are known.
    """

    _ROUNDING = 100  # units in the last place, below which a derivative is rounding errors

    def __init__(self, net: nn.Module, layers: Mapping[str, Layer] | None = None, sign: Sign = "absolute"):
        if sign not in ("positive", "absolute"):
            raise FovealError(f'The sign of a receptive field must be "positive" or "absolute", not {sign!r}.')
        self.net, self.sign = net, sign
        self._places = _known_layers(net) if layers is None else dict(layers)
        if self._places is not None:
            if not self._places:
                raise FovealError("No layers were named: name at least one, or pass None for the stages.")
            for place in self._places.values():
                place.find(net)
        self._counted: dict[str, None] = {}
        self._sums: np.ndarray | None = None
        self._maps: dict[str, Size] = {}

    @property
    def counted(self) -> tuple[str, ...]:
        """Names of the images that were added, in their order."""
        return tuple(self._counted)

    def add(self, images: Tensor, names: Sequence[str] | None = None) -> None:
        """Add images; all of them, or none if an error is raised.

        Args:
            images: (B, C, H, W) or (C, H, W) floating point, normalised for the network, all of one size.
            names: one name per image, by which a resumed sum knows it; None numbers the images.

        Raises:
            FovealError: images of another shape, a name that was counted before, a layer that gives no map, derivatives
                that are not finite, or a channel sum that does not depend on the image.
        """
        batch = self._batch(images)
        names = [str(len(self._counted) + i) for i in range(len(batch))] if names is None else list(names)
        self._check_names(names, len(batch))
        maps, gradients = self._gradients(batch)
        each = np.stack([self._contributions(gradient) for gradient in gradients], axis=1)
        for name, contributions in zip(names, each, strict=True):
            if not np.isfinite(contributions).all():
                raise FovealError(f"Derivatives of image {name} are not finite: leave it out, or use float32 weights.")
        if self._sums is None:
            self._sums, self._maps = np.zeros(each.shape[1:]), maps
        for contributions in each:
            self._sums += contributions
        self._counted.update(dict.fromkeys(names))

    def result(self) -> ReceptiveFields:
        """Return the means over the images; raise FovealError if there are none."""
        if self._sums is None:
            raise FovealError("No image was added yet: a receptive field is an average over at least one.")
        mean = (self._sums / len(self._counted)).astype(np.float32)
        return ReceptiveFields(tuple(self._maps), mean, tuple(self._maps.values()), len(self._counted), self.sign)

    def save(self, path: Path) -> None:
        """Write sums and counted names to an .npz file, whole or not at all; raise FovealError if it cannot."""
        if self._sums is None:
            raise FovealError("No image was added yet: there is nothing to save.")
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez(
                file,
                format=np.array(_FORMAT),
                sums=self._sums,
                counted=np.array(self.counted),
                layers=np.array(tuple(self._maps)),
                maps=np.array(tuple(self._maps.values())),
                sign=np.array(self.sign),
                network=np.array(self.network),
            )

    def load(self, path: Path) -> None:
        """Continue from a saved state, in place of what was added so far.

        Raises:
            FovealError: the file cannot be read, or is of another network, other weights, layers or sign.
        """
        state = _read(path)
        layers = tuple(state["layers"].tolist())
        expected = layers if self._places is None else tuple(self._places)
        mine, found = (self.network, self.sign, expected), (str(state["network"]), str(state["sign"]), layers)
        if mine != found:
            raise FovealError(
                f"{path} is of another network, weights, layers or sign: delete it, or name another file."
            )
        self._sums = state["sums"]
        self._counted = dict.fromkeys(state["counted"].tolist())
        self._maps = dict(zip(layers, map(tuple, state["maps"].tolist()), strict=True))

    @functools.cached_property
    def network(self) -> str:
        """A digest of the weights, by which a saved state knows its network."""
        digest = hashlib.sha256(type(self.net).__name__.encode())
        for name, tensor in self.net.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def _batch(self, images: Tensor) -> Tensor:
        batch = images.unsqueeze(0) if images.ndim == 3 else images
        if batch.ndim != 4 or len(batch) == 0 or not batch.is_floating_point():
            raise FovealError(
                "Pass floating-point images of shape (B, C, H, W) or (C, H, W): "
                f"these are {tuple(images.shape)}, {images.dtype}."
            )
        size = tuple(batch.shape[2:])
        if self._sums is not None and size != self._sums.shape[1:]:
            before = " x ".join(map(str, self._sums.shape[1:]))
            raise FovealError(
                f"An image is {size[0]} x {size[1]}, and those before are {before}: resize all to one size."
            )
        weight = next(self.net.parameters(), batch)
        return batch.detach().to(weight.device, weight.dtype)

    def _check_names(self, names: list[str], images: int) -> None:
        if len(names) != images:
            raise FovealError(f"There are {len(names)} names for {images} images: pass one for each.")
        twice = [name for i, name in enumerate(names) if name in self._counted or name in names[:i]]
        if twice:
            raise FovealError(f"The image {twice[0]} was counted already: leave out those in `counted`.")

    def _gradients(self, batch: Tensor) -> tuple[dict[str, Size], list[Tensor]]:
        """Return the sizes of the maps, and the (B, C, H, W) derivative of each centre."""
        with differentiating(self.net, batch.device):
            pixels = batch.clone().requires_grad_()
            centres = self._centres(pixels)
            first = self._sums is None
            gradients = [
                _gradient(name, centre.total, pixels, keep=first or i < len(centres) - 1)
                for i, (name, centre) in enumerate(centres.items())
            ]
            if first:
                for (name, centre), gradient in zip(centres.items(), gradients, strict=True):
                    self._check_sum(name, centre, gradient, pixels)
        return {name: centre.map for name, centre in centres.items()}, gradients

    def _centres(self, pixels: Tensor) -> dict[str, _Centre]:
        if self._places is None:
            net: Any = self.net
            maps = net.forward_intermediates(pixels, indices=_STAGES, output_fmt="NCHW", intermediates_only=True)
            return {f"stage {number}": _Centre.of(found) for number, found in enumerate(maps, 1)}
        found: dict[str, _Centre] = {}
        with ExitStack() as hooks:
            for name, place in self._places.items():
                hooks.enter_context(_watch(self.net, name, place, found))
            self.net(pixels)
        for name in self._places:
            if name not in found:
                raise FovealError(f"The layer {name} did not run: name a layer that the forward pass calls.")
        return {name: found[name] for name in self._places}

    def _check_sum(self, name: str, centre: _Centre, gradient: Tensor, pixels: Tensor) -> None:
        """Raise FovealError if the sum over channels is a constant, and its derivative therefore rounding errors.

        That is so after a LayerNorm over channels whose gains are equal, as in many untrained networks. Any other
        combination of the channels shows what a derivative of this layer is like.
        """
        weights = torch.randn(len(centre.channels), generator=torch.Generator().manual_seed(0)).to(centre.channels)
        usual = _gradient(name, (centre.channels * weights).sum(), pixels, keep=True).abs().max()
        rounding = min(self._ROUNDING * torch.finfo(pixels.dtype).eps, 0.1)
        if gradient.abs().max() < rounding * usual:
            raise FovealError(
                f"The sum over the channels of {name} does not depend on the image, as after a LayerNorm of an "
                "untrained network: load trained weights, or name a layer before the norm."
            )

    def _contributions(self, gradient: Tensor) -> np.ndarray:
        """(B, C, H, W) to (B, H, W) float64."""
        counted = gradient.clamp(min=0) if self.sign == "positive" else gradient.abs()
        return counted.sum(dim=1, dtype=torch.float64).cpu().numpy()


def effective_receptive_field(
    net: nn.Module, images: Iterable[Tensor], layers: Mapping[str, Layer] | None = None, sign: Sign = "absolute"
) -> ReceptiveFields:
    """Return the effective receptive fields of a network over images (C, H, W) or batches (B, C, H, W).

    See ``EffectiveReceptiveField`` for the arguments and errors.
    """
    field = EffectiveReceptiveField(net, layers, sign)
    for batch in images:
        field.add(batch)
    return field.result()


@dataclass(frozen=True)
class _Centre:
    """Channels (C,) at the centre token of a map, summed over the images of a batch; size of the map."""

    channels: Tensor
    map: Size

    @property
    def total(self) -> Tensor:
        return self.channels.sum()

    @classmethod
    def of(cls, channels_first: Tensor) -> _Centre:
        height, width = channels_first.shape[2:]
        dtype = torch.promote_types(channels_first.dtype, torch.float32)
        return cls(channels_first[:, :, height // 2, width // 2].sum(dim=0, dtype=dtype), (height, width))


@contextmanager
def _watch(net: nn.Module, name: str, place: Layer, found: dict[str, _Centre]) -> Iterator[None]:
    """Note the centre while the layer runs: a later layer may overwrite its map in place, as many ReLUs do."""
    module = place.find(net)

    def note(value: Any) -> None:
        found[name] = _Centre.of(place.channels_first(value))

    if place.side == "input":
        with before(module, lambda _, args: note(args[0])):
            yield
    else:
        with after(module, lambda _, args, output: note(output)):
            yield


def _gradient(name: str, total: Tensor, pixels: Tensor, keep: bool) -> Tensor:
    if not total.requires_grad:
        raise FovealError(f"The layer {name} cannot be differentiated: use a network that is not made for inference.")
    (gradient,) = torch.autograd.grad(total, pixels, retain_graph=keep, allow_unused=True)
    if gradient is None:
        raise FovealError(f"The layer {name} does not depend on the image: name another.")
    return gradient


def _known_layers(net: nn.Module) -> dict[str, Layer] | None:
    if isinstance(net, Pyramid):
        return stage_layers(net)
    if not hasattr(net, "forward_intermediates"):
        raise FovealError(
            f"The stages of a {type(net).__name__} are not known: pass layers, or a network with forward_intermediates."
        )
    return None


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            state = {name: file[name] for name in ("format", "sums", "counted", "layers", "maps", "sign", "network")}
    except OSError as error:
        raise FovealError(f"{path} could not be read ({error.strerror or error}): name another file.") from error
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FovealError(f"{path} does not hold a receptive field: delete it, or name another file.") from error
    if int(state["format"]) != _FORMAT:
        raise FovealError(f"{path} was written by another version of foveal: delete it, or name another file.")
    return state
