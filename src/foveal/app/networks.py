"""The networks that the explorer can show: those named on the command line, and the catalogue with random weights."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveal.errors import FovealError
from foveal.models.catalogue import architectures
from foveal.models.transnext import TransNeXt
from foveal.models.transxnet import TransXNet
from foveal.report.explanation.subject import Subject, create_subject
from foveal.tasks.network import best_device

MOST_FROM_CATALOGUE = 3  # networks in memory at a time: the largest take 360 MB


@dataclass(frozen=True)
class Network:
    """A network, and a lock for what calls it: its hooks and modes are shared by all sessions.

    Attributes:
        key: its name in requests and in the page's list.
        subject: the network with its weights and classes.
        lock: held while any of its modules is called.
    """

    key: str
    subject: Subject
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def family(self) -> str:
        """Return "transnext", "transxnet" or "other"."""
        body = self.subject.body
        return "transnext" if isinstance(body, TransNeXt) else "transxnet" if isinstance(body, TransXNet) else "other"

    def described(self) -> dict[str, Any]:
        """Return what the page has to know before an image is opened."""
        subject = self.subject
        return {
            "key": self.key,
            "name": subject.name,
            "weights": subject.weights,
            "random": subject.weights.startswith("random"),
            "kind": subject.kind,
            "family": self.family,
            "blocks": self._blocks(),
            "classes": len(subject.classes),
        }

    def _blocks(self) -> list[int]:
        """Return the number of blocks of each stage; none for other families."""
        stages: Any = self.subject.body.stages if self.family != "other" else ()
        return [len(stage.blocks) for stage in stages]


class Networks:
    """All networks by key. Those of the command line stay; of the catalogue the last few are kept.

    Args:
        named: opened networks by key.
        create: takes the name of a catalogue entry to its subject.
    """

    def __init__(self, named: Sequence[Network], create: Callable[[str], Subject] | None = None):
        self._named = {network.key: network for network in named}
        self._create = create or random_subject
        self._catalogue: OrderedDict[str, Network] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def named(self) -> list[Network]:
        """The networks of the command line, in their order."""
        return list(self._named.values())

    def listed(self) -> list[str]:
        """Return the names of the catalogue that can be opened with random weights."""
        return architectures()

    def get(self, key: str) -> Network:
        """Return a network, created if it is of the catalogue; raise FovealError if it is in neither list."""
        if key in self._named:
            return self._named[key]
        if key not in self.listed():
            raise FovealError(f"There is no network {key!r} here: choose one of the list.")
        with self._lock:  # one at a time: creating sets the seed of all random numbers
            if key not in self._catalogue:
                self._catalogue[key] = Network(key, self._create(key))
            self._catalogue.move_to_end(key)
            while len(self._catalogue) > MOST_FROM_CATALOGUE:
                self._catalogue.popitem(last=False)
            return self._catalogue[key]


def random_subject(name: str, size: int | None = None, *, pretrained: bool = False) -> Subject:
    """Return a network by name on the best device, with random weights of seed 0 unless ``pretrained``."""
    return on_best_device(create_subject(name, size, pretrained=pretrained))


def on_best_device(subject: Subject) -> Subject:
    """Move a network to the accelerator, if there is one, and return it."""
    subject.model.to(best_device())
    return subject
