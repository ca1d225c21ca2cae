"""Operators as subjects, at the shapes of TransNeXt-Tiny's and TransXNet-S's stages, on every backend that takes
them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foveal import ops
from foveal.bench import arguments
from foveal.bench.arguments import Arguments, Draw, normal
from foveal.bench.settings import Setting
from foveal.bench.subjects import Prepared
from foveal.models.sizes import stage_sizes
from foveal.ops.aggregated_attention.offsets import TABLE_BACKENDS
from foveal.types import Size

BASELINE = "reference"
LEAST_SECONDS = 2e-3  # minimum duration of a measurement
_HEADS = (3, 6, 12)  # of TransNeXt-Tiny's stages with aggregated attention; maps are pooled to 1/32 of the image
_POOLING = (8, 4, 2)
_DEPTHS = (2, 2, 15)
_HIDDEN = (384, 768, 768, 1536)  # channels of the gates of TransNeXt-Tiny
_DYNAMIC = (32, 64, 160, 256)  # half of TransXNet-S's channels
_MULTISCALE = (384, 768, 1280, 2048)  # hidden channels of its feed-forward networks


def _attention(draw: Draw, setting: Setting, stage: int) -> Arguments:
    size, pool = _pooled(setting, stage)
    return arguments.aggregated_attention(draw, setting.batch, size, pool, _HEADS[stage])


def _pool(draw: Draw, setting: Setting, stage: int) -> Arguments:
    size, pool = _pooled(setting, stage)
    return arguments.gelu_pool(draw, setting.batch, size, pool, _HEADS[stage] * arguments.HEAD_DIM)


def _pooled(setting: Setting, stage: int) -> tuple[Size, Size]:
    size = stage_sizes((setting.height, setting.width))[stage]
    return size, (max(size[0] // _POOLING[stage], 1), max(size[1] // _POOLING[stage], 1))


def _gate(draw: Draw, setting: Setting, stage: int) -> Arguments:
    size = stage_sizes((setting.height, setting.width))[stage]
    return arguments.gated_dwconv(draw, setting.batch, size, _HIDDEN[stage])


def _dynamic(draw: Draw, setting: Setting, stage: int) -> Arguments:
    size = stage_sizes((setting.height, setting.width))[stage]
    return arguments.dynamic_dwconv(draw, setting.batch, size, _DYNAMIC[stage])


def _multiscale(draw: Draw, setting: Setting, stage: int) -> Arguments:
    size = stage_sizes((setting.height, setting.width))[stage]
    return arguments.multiscale_dwconv(draw, setting.batch, size, _MULTISCALE[stage])


#: Operator -> (function that returns its arguments in a stage, counted from 0; number of stages that have it).
SHAPES: dict[str, tuple[Callable[[Draw, Setting, int], Arguments], int]] = {
    "aggregated_attention": (_attention, 3),
    "gelu_pool": (_pool, 3),
    "gated_dwconv": (_gate, 4),
    "dynamic_dwconv": (_dynamic, 4),
    "multiscale_dwconv": (_multiscale, 4),
}


@dataclass(frozen=True)
class Place:
    """Calls of one operator that are timed together: one stage's, or all attention layers of TransNeXt-Tiny."""

    operator: str
    title: str
    stages: tuple[int, ...]

    def draw(self, setting: Setting) -> list[Arguments]:
        """Draw the arguments of every call. Parameters stay float32 under autocast, as in training."""
        make = SHAPES[self.operator][0]
        draw = normal(setting.device)
        calls = [make(draw, setting, stage) for stage in self.stages]
        return [call.to(setting.torch_dtype, setting.activation_dtype) for call in calls]


def places() -> list[Place]:
    """Return every operator in every stage that has it, then all attention layers of TransNeXt-Tiny together."""
    single = [
        Place(operator, f"stage {stage + 1}", (stage,))
        for operator, (_, stages) in SHAPES.items()
        for stage in range(stages)
    ]
    layers = tuple(stage for stage, depth in enumerate(_DEPTHS) for _ in range(depth))
    return [*single, Place("aggregated_attention", f"all {len(layers)}", layers)]


@dataclass(frozen=True)
class OperatorSubject:
    """One operator in one place on one backend."""

    place: Place
    form: str

    @property
    def name(self) -> str:
        return f"{self.place.operator} {self.place.title}"

    def prepare(self, setting: Setting) -> Prepared:
        calls = [self._as_the_networks(one) for one in self.place.draw(setting)]
        held = sum(_bytes(one) for one in calls)
        with torch.no_grad(), ops.use_backend(self.form):
            outputs = [one.run() for one in calls]
        moved = sum(moved_bytes(one, out, setting.training) for one, out in zip(calls, outputs, strict=True))
        passes = [_backward(one, out) if setting.training else _forward(one) for one, out in zip(calls, outputs)]

        def call() -> None:
            with ops.use_backend(self.form):
                for one in passes:
                    one()

        return Prepared(call, held, moved)

    def _as_the_networks(self, call: Arguments) -> Arguments:
        """Pass a table of offsets only to the backends that read it in place: others would expand it in every call."""
        return call if self.form in TABLE_BACKENDS else call.dense()


def operator_subjects(place: Place, setting: Setting) -> tuple[list[OperatorSubject], dict[str, str]]:
    """Return the subjects of one place, one per backend, and the backends that cannot run it with their reasons."""
    smallest = replace(place, stages=place.stages[:1]).draw(setting.smallest())
    reasons = smallest[0].available_backends()
    able = [OperatorSubject(place, backend) for backend, reason in reasons.items() if reason is None]
    return able, {backend: reason for backend, reason in reasons.items() if reason is not None}


def moved_bytes(call: Arguments, out: Tensor, training: bool) -> int:
    """Return the bytes that a call must move: inputs are read and the output is written once.

    In training, inputs and the output's gradient are read once more, and a gradient is written for every input.
    """
    inputs = _bytes(call)
    return inputs + out.nbytes + (inputs + out.nbytes + inputs if training else 0)


def _bytes(call: Arguments) -> int:
    return sum(t.nbytes for t in call.tensors.values())


def _forward(call: Arguments) -> Callable[[], object]:
    def run() -> Tensor:
        with torch.inference_mode():
            return call.run()

    return run


def _backward(call: Arguments, out: Tensor) -> Callable[[], object]:
    leaves, grad = call.leaves(), torch.randn_like(out)
    inputs = list(leaves.tensors.values())
    return lambda: torch.autograd.grad(leaves.run(), inputs, grad)
