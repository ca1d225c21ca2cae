"""A cache for tensors that depend on a size and on weights only."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class _State:
    """What weights were: it fits them until one is replaced, written in place, moved or converted."""

    def __init__(self, sources: tuple[Tensor, ...]):
        self._references = [weakref.ref(source) for source in sources]
        self._places = [_place(source) for source in sources]

    def fits(self, sources: tuple[Tensor, ...]) -> bool:
        # A new tensor can lie where a freed one was, so addresses alone would not do.
        same = [reference() for reference in self._references]
        return len(same) == len(sources) and all(
            old is new and place == _place(new) for old, new, place in zip(same, sources, self._places, strict=True)
        )


def _place(source: Tensor) -> tuple:
    return source.data_ptr(), source._version, source.dtype, source.device


def _cacheable(sources: tuple[Tensor, ...]) -> bool:
    """Return False if a cached result would be wrong (gradients, tracing) or could become stale unnoticed."""
    if torch.compiler.is_compiling():
        return False
    if torch.is_grad_enabled() and any(s.requires_grad for s in sources):
        return False
    return all(type(s.data) is Tensor and not s.is_meta and not s.is_inference() for s in sources)


class SizeCache:
    """Cache of a function of a size and weights.

    The last result is always kept, older ones while they fit in ``budget`` bytes. A result is dropped as soon as one of
    its weights is written in place, replaced, moved or converted. Writes through ``tensor.data`` are invisible to
    PyTorch's version counter: call ``clear``, or ``train()``/``eval()`` on the network, after such a write. Threads may
    share a cache. Copies and pickles of the owner start with an empty one.
    """

    def __init__(self, budget: int = 64 << 20):
        self.budget = budget
        self._state = _State(())
        self._lock = threading.RLock()
        self._results: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, sources: tuple[Tensor, ...], compute: Callable[[], Tensor]) -> Tensor:
        """Return the cached result for ``key``, or that of ``compute()``.

        Nothing is cached while training or tracing, nor for meta tensors.
        """
        if not _cacheable(sources):
            return compute()
        with self._lock:
            if not self._state.fits(sources):
                self.clear()
                self._state = _State(sources)
            if key not in self._results:
                # A tensor created in inference mode could not be used in a later backward pass.
                with torch.inference_mode(False), torch.no_grad():
                    self._results[key] = compute()
                self._shrink()
            self._results.move_to_end(key)
            return self._results[key]

    def clear(self) -> None:
        """Drop all results."""
        with self._lock:
            self._results.clear()
            self._state = _State(())

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
