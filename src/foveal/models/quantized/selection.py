"""Which products run in int8: those that are accurate themselves, and leave the network's outputs as they were."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from ..folded.parts import Layer
from .calibration import Calibration, mean_cosine, run
from .layer import QuantizedLayer
from .report import FEWEST_CHANNELS, Kept

_PROBED = 4  # images on which every layer is tried alone


def reason_to_keep(seen: Calibration, layer: Layer, tolerance: float) -> Kept | None:
    """Return why a layer stays in floating point whatever the network's outputs, or None."""
    if not seen.rows:
        return Kept.UNUSED
    if min(layer.weight.shape) < FEWEST_CHANNELS:
        return Kept.SMALL
    return None if seen.error <= tolerance else Kept.ERROR


class Selection:
    """Tries sets of layers in int8 in a folded network in float32.

    Args:
        net: the network; its layers are exchanged.
        layers: its layers in float32, by name.
        int8: the layers to choose from, in int8.
        batches, expected: images, and the outputs of the network in float32.
    """

    def __init__(
        self,
        net: nn.Module,
        layers: dict[str, Layer],
        int8: dict[str, QuantizedLayer],
        batches: list[Tensor],
        expected: list,
    ):
        self.net, self.layers, self.int8 = net, layers, int8
        self.batches, self.expected = batches, expected

    def largest(self, cosine: float) -> set[str]:
        """Return the layers that can run in int8 together with a mean cosine of the outputs of at least ``cosine``.

        If not all can, those that change the outputs least when they are alone in int8, as many as can; their number is
        found by bisection.
        """
        names = list(self.int8)
        if self._reach(names, cosine):
            return set(names)
        order = self._by_change()
        enough, too_many = 0, len(order)
        while too_many - enough > 1:
            count = (enough + too_many) // 2
            enough, too_many = (count, too_many) if self._reach(order[:count], cosine) else (enough, count)
        return set(order[:enough])

    def _reach(self, names: Collection[str], cosine: float) -> bool:
        self._put(names)
        found = mean_cosine(run(self.net, self.batches), self.expected)
        return found is None or found >= cosine

    def _by_change(self) -> list[str]:
        """Return the layers by how much they change the outputs on a few images when they are alone in int8."""
        few = [self.batches[0][:_PROBED]]
        self._put([])
        expected = run(self.net, few)
        cosines = {}
        for name in self.int8:
            self._put([name])
            cosines[name] = mean_cosine(run(self.net, few), expected) or 0.0
        return sorted(cosines, key=cosines.__getitem__, reverse=True)

    def _put(self, names: Collection[str]) -> None:
        """Put these layers into the network in int8, and all others in float32."""
        for name in self.int8:
            replace(self.net, name, self.int8[name] if name in names else self.layers[name])


def replace(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another inside ``net``, by its name."""
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)
