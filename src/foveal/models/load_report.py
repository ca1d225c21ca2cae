"""The outcome of loading weights: a ``LoadReport`` of names, or a ``CheckpointError`` with its ``Problem``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from foveal.errors import FovealError


@dataclass(frozen=True)
class LoadReport:
    """The names of a file and of a network, compared.

    Attributes:
        loaded: names that were loaded.
        missing: names of the network that the file does not have.
        unexpected: names of the file that the network does not have.
        misshaped: (name, shape in the file, shape in the network).
        left_out: number of tensors of the file that belong to parts which this network was built without: a detector's
            head, a removed classifier.
        new: names of the network that keep their initial values because the caller asked for it.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    new: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network was filled, and every tensor of the file used or left out on purpose."""
        return not (self.missing or self.unexpected or self.misshaped)

    @property
    def misfits(self) -> tuple[str, ...]:
        """The names that do not fit."""
        return (*self.missing, *self.unexpected, *(name for name, _, _ in self.misshaped))

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for label in ("missing", "unexpected", "misshaped", "new"):
            names = getattr(self, label)
            if names:
                first = names[0] if isinstance(names[0], str) else "{} is {}, the net has {}".format(*names[0])
                parts.append(f"{len(names)} {label} (first: {first})")
        if self.left_out:
            parts.append(f"{self.left_out} left out")
        return ", ".join(parts)


class Problem(Enum):
    """The reasons why weights cannot be loaded: what is wrong, and what to do about it."""

    FOLDER = ("is a folder", "pass the path of the checkpoint file in it")
    NO_FILE = ("does not exist", "pass the path of a downloaded or saved checkpoint")
    EMPTY = ("is empty", "download or save it again")
    NOT_READABLE = ("cannot be read: permission denied", "change its permissions")
    DAMAGED = ("is damaged or cut short", "download or save it again")
    EXPORTED = (
        "is an exported file without a network of PyTorch",
        "run it with foveal predict, or pass the checkpoint that it was exported from",
    )
    EXPORTED_WEIGHTS = (
        "holds the weights of an exported file",
        "pass the .xml file beside it to foveal predict, or the checkpoint that it was exported from",
    )
    EXPORTED_PROGRAM = (
        "is an exported program of PyTorch",
        "open it with foveal.export.load, or pass the checkpoint that it was exported from",
    )
    NOT_A_CHECKPOINT = ("is not a PyTorch checkpoint, or is damaged", "download or save it again")
    PYTHON_OBJECTS = (
        "holds Python objects beside weights, which are not loaded for safety",
        "save its state dict alone",
    )
    NOT_A_STATE_DICT = ("holds {names}, not a state dict", "save net.state_dict() instead")
    NO_WEIGHTS = ("holds no weights (its top level has {names})", "pass a file with a model's state dict")
    SEVERAL_NETWORKS = (
        "holds weights under {names}, and any of them could be meant",
        "save the state dict of one of them alone",
    )
    NAN = ("holds NaN in {0}", "pass a checkpoint from before it appeared")
    ANOTHER_FAMILY = ("holds a {0}, this net is a {1}", "create the {0} that it was saved from")
    ANOTHER_LIBRARY = (
        "cannot be loaded into a {0}",
        "foveal loads weights into TransNeXt and TransXNet, so create one of these",
    )
    NO_HEAD = (
        "holds no {0}: none of its names begins with 'backbone.'",
        "pass the file of a whole {0}",
    )
    QUANTIZED = ("holds a network of foveal.quantize", "load it with foveal.load_quantized")
    NOT_QUANTIZED = (
        "holds no int8 weights",
        "pass a state dict of foveal.quantize, or load it with load_checkpoint and quantize the net",
    )
    OTHER_CLASSES = (
        "does not fit this {0}: {report}",
        "for another classifier pass new_classifier=True, for none create the net with num_classes=0",
    )
    MISFIT = ("does not fit this {0}: {report}", "create the {1} that it was saved from")


class CheckpointError(FovealError):
    """Weights that cannot be loaded whole.

    Attributes:
        problem: what is wrong.
        names: what it concerns: keys of the file, types, or the kind of network.
        report: the names that do not fit, for ``Problem.MISFIT`` and ``Problem.OTHER_CLASSES``.
        path: the file, once it is known.
    """

    def __init__(self, problem: Problem, *names: str, report: LoadReport | None = None, path: Path | None = None):
        super().__init__(problem, *names)
        self.problem, self.names, self.report, self.path = problem, names, report, path

    @property
    def finding(self) -> str:
        """What is wrong, in words, without the file's name."""
        return self._words(self.problem.value[0])

    @property
    def advice(self) -> str:
        """What to do about it, in words."""
        return self._words(self.problem.value[1])

    def __str__(self) -> str:
        place = "" if self.path is None else f"{self.path} "
        return f"{place}{self.finding}; {self.advice}."

    def _words(self, template: str) -> str:
        return template.format(*self.names, names=", ".join(self.names) or "nothing", report=self.report)
