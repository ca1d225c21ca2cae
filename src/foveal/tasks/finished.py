"""What an evaluation has finished, kept in its ``--out`` folder: the same command goes on after it was stopped.

A part is one pass over the images: a set in one mode at one size, or one corruption at one severity. A finished part is
one file; so is what is known of a part in the middle, which every process writes for its share now and then. Files are
named after a digest of all that the result depends on, so what belongs to another evaluation is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveal.errors import FovealError
from foveal.files import atomic_file, make_folder
from foveal.models.weights_file import WeightsFile
from foveal.training.loading import Started
from foveal.training.processes import Processes
from foveal.training.samples import Skipped
from foveal.version import __version__

FOLDER = "finished"
EVERY = 5.0  # seconds between two writes in the middle of a part; more if a write takes long
PATIENCE = 20  # a write takes at most this part of the time
ADVICE = "choose another --out"


@dataclass
class Middle:
    """What one process has finished of a part.

    Attributes:
        path: the file; None if nothing is kept.
        state: what was kept before the evaluation was stopped; None if there is nothing.
        started: the samples that ``state`` is of.
        seconds: how long they took.
    """

    path: Path | None = None
    state: Any = None
    started: Started = field(default_factory=Started)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._begun = self._next = time.monotonic()
        self._next += EVERY

    @property
    def elapsed(self) -> float:
        """Seconds that this part has taken, those before it was stopped included."""
        return self.seconds + time.monotonic() - self._begun

    def offer(self, state: Callable[[], Any], progress: Callable[[], Started]) -> None:
        """Write the state after a batch, if the last write is some time ago."""
        if self.path is None or time.monotonic() < self._next:
            return
        before, done = time.monotonic(), progress()
        content = {"state": state(), "samples": done.samples, "skipped": [tuple(one) for one in done.skipped]}
        if _write(self.path, {**content, "seconds": self.elapsed}):
            self.path = None  # a full disk costs no answer
        now = time.monotonic()
        self._next = now + max(EVERY, PATIENCE * (now - before))


class Finished:
    """The parts of an evaluation that are finished.

    Args:
        out: the ``--out`` folder; None keeps nothing.
        facts: all that every part depends on, in plain types.
        processes: that share the evaluation.
    """

    def __init__(
        self, out: Path | None = None, facts: Mapping[str, Any] | None = None, processes: Processes | None = None
    ) -> None:
        self.folder = None if out is None else out / FOLDER
        self.facts, self.processes = {"foveal": __version__, **(facts or {})}, processes
        self.reused = 0
        """Number of parts that were taken from the folder."""
        self.failure: str | None = None
        """Why nothing could be kept, in a sentence."""

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self.folder is not None

    def get(self, **part: Any) -> Any:
        """Return the result of a part that is finished, the same on all processes, or None."""
        found = None
        if self.folder is not None and self._is_main:
            found = _read(self._path(part))
        if self.processes is not None:
            found = self.processes.from_main(found)
        self.reused += found is not None
        return found

    def put(self, result: Any, **part: Any) -> None:
        """Keep the result of a part, made of tensors and plain types."""
        if self.folder is not None:
            middle = self._middle_path(part)
            self.failure = _write(self._path(part), result) if self._is_main else None
            with contextlib.suppress(OSError):
                middle.unlink(missing_ok=True)
            self.folder = None if self.failure else self.folder

    def middle(self, **part: Any) -> Middle:
        """Return what this process had finished of a part when it was stopped."""
        if self.folder is None:
            return Middle()
        path = self._middle_path(part)
        found = _read(path)
        if found is None:
            return Middle(path)
        skipped = tuple(Skipped(number, name) for number, name in found["skipped"])
        return Middle(path, found["state"], Started(found["samples"], skipped), found["seconds"])

    def remove(self, **part: Any) -> None:
        """Forget a part whose result is in files of its own."""
        if self.folder is not None:
            self._middle_path(part).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds more, or another process has removed it
                self.folder.rmdir()

    @property
    def _is_main(self) -> bool:
        return self.processes is None or self.processes.is_main

    def _path(self, part: Mapping[str, Any]) -> Path:
        assert self.folder is not None
        return self.folder / f"{digest_of({**self.facts, 'part': part})}.pt"

    def _middle_path(self, part: Mapping[str, Any]) -> Path:
        rank, count = (0, 1) if self.processes is None else (self.processes.share.rank, self.processes.share.count)
        whole = self._path(part)
        return whole.with_name(f"{whole.stem}-{rank + 1}-of-{count}.pt")


def digest_of(facts: Any) -> str:
    """Return sixteen hexadecimal digits that depend on facts in plain types."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def weights_digest(file: WeightsFile | None, model: nn.Module) -> str:
    """Return a digest of the content of a file of weights, or of the weights of a network without a file."""
    digest = hashlib.sha256()
    if file is not None:
        with file.path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    else:
        for name, tensor in model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def files_digest(names: Iterable[str | Path], labels: Iterable[Any] = ()) -> str:
    """Return a digest of the names of images and other files, of the sizes and times of those that are files on this
    disk, and of labels."""
    digest = hashlib.sha256()
    for name in map(str, names):
        try:
            found = Path(name).stat()
            digest.update(f"{name} {found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:  # a member of an archive, or a row of a table
            digest.update(f"{name}\n".encode())
    digest.update(json.dumps([str(label) for label in labels]).encode())
    return digest.hexdigest()


def _write(path: Path, content: Any) -> str | None:
    """Write a file; return a sentence if that is not possible, since the evaluation can go on without."""
    try:
        make_folder(path.parent, ADVICE)
        with atomic_file(path, ADVICE) as part:
            torch.save(content, part)
    except FovealError as error:
        return str(error)
    except RuntimeError:  # what PyTorch's writer makes of an OSError
        return f"{path} could not be written: {ADVICE}."
    return None


def _read(path: Path) -> Any:
    """Return the content of a file, or None if there is none that this version can read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        return None
