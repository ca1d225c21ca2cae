"""Tensors that depend on a size and on weights alone, kept between calls while nothing trains them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor


def _identity(source: Tensor) -> tuple:
    """Changes whenever the tensor is replaced, written in place, moved, or converted."""
    return source.data_ptr(), source._version, source.dtype, source.device


def _cacheable(sources: tuple[Tensor, ...]) -> bool:
    """False where a kept result would be wrong (gradients, tracing) or its staleness could not be seen."""
    if torch.compiler.is_compiling():
        return False
    if torch.is_grad_enabled() and any(s.requires_grad for s in sources):
        return False
    return all(type(s.data) is Tensor and not s.is_meta and not s.is_inference() for s in sources)


class SizeCache:
    """Keeps the results of a function of (size, weights): the last one always, older ones while they fit in `budget`
    bytes.

    A result is dropped as soon as one of the weights it came from is written in place, replaced, moved or converted.
    Writes through `tensor.data` are invisible to PyTorch's version counter: call `clear`, or `train()`/`eval()` on the
    network, after such a write. Copies and pickles of the owner start with an empty cache.
    """

    def __init__(self, budget: int = 64 << 20):
        self.budget = budget
        self._state: tuple = ()
        self._results: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, sources: tuple[Tensor, ...], compute: Callable[[], Tensor]) -> Tensor:
        """The result for `key`; `compute()` runs if it is not kept, or must not be (training, tracing, meta
        tensors)."""
        if not _cacheable(sources):
            return compute()
        state = tuple(_identity(s) for s in sources)
        if state != self._state:
            self.clear()
            self._state = state
        if key not in self._results:
            # A tensor born in inference mode could not be used in a later backward pass.
            with torch.inference_mode(False), torch.no_grad():
                self._results[key] = compute()
            self._shrink()
        self._results.move_to_end(key)
        return self._results[key]

    def clear(self) -> None:
        """Forget everything."""
        self._results.clear()
        self._state = ()

    def _shrink(self) -> None:
        used = sum(t.nbytes for t in self._results.values())
        while len(self._results) > 1 and used > self.budget:
            _, oldest = self._results.popitem(last=False)
            used -= oldest.nbytes

    def __len__(self) -> int:
        return len(self._results)

    def __deepcopy__(self, memo: dict) -> SizeCache:
        return SizeCache(self.budget)

    def __reduce__(self):
        return SizeCache, (self.budget,)
