"""Subjects of a benchmark: each prepares itself for a setting and is then called. This file has the networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import foveal
from foveal import ops
from foveal.bench.peers import Accuracy, accuracy_of
from foveal.bench.settings import Setting
from foveal.errors import FovealError
from foveal.models.names import check_model
from foveal.models.quantized import SlowInt8Warning

MODELS = ("transnext_tiny", "transxnet_s")
PEERS = ("convnext_tiny", "swin_tiny_patch4_window7_224", "pvt_v2_b2")
BASELINE = "convnext_tiny"
LINEAR_POOL = 7  # side of a TransNeXt's pooled map in linear mode, for every image size
#: eager: plain PyTorch with foveal's operators; optimised: the result of ``foveal.optimize``; compiled: the result of
#: ``torch.compile``; reference: eager with the authors' form of the operators, ``use_backend("reference")``.
FORMS = ("eager", "optimised", "compiled", "reference")
QUANTIZED = "int8"  # the form of our networks in settings with the dtype int8: the result of ``foveal.quantize``


@dataclass(frozen=True)
class Prepared:
    """A subject that is ready to run.

    Attributes:
        call: runs one pass.
        held: bytes of weights, buffers and inputs, which are in memory before a call.
        moved: bytes that a call must move, each tensor once; None if not counted.
    """

    call: Callable[[], object]
    held: int
    moved: int | None = None


class Subject(Protocol):
    """Something that can be timed."""

    @property
    def name(self) -> str:
        """Name in a row of results."""

    @property
    def form(self) -> str:
        """One of ``FORMS`` or ``QUANTIZED`` for a network, a backend for an operator."""

    def prepare(self, setting: Setting) -> Prepared:
        """Build the subject; raise FovealError if it cannot be built or run in this setting."""


@dataclass(frozen=True)
class ModelSubject:
    """A network from timm's registry, in one form, with options for its constructor."""

    model: str
    form: str = "eager"
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return " ".join([self.model, *(f"{key}={value}" for key, value in self.options)])

    def prepare(self, setting: Setting) -> Prepared:
        if self.form in ("optimised", QUANTIZED) and setting.training:
            raise FovealError("foveal.optimize folds a network for inference, so it has no training step")
        image = torch.randn(setting.batch, 3, setting.height, setting.width, device=setting.device)
        image = image.to(setting.activation_dtype, memory_format=torch.channels_last)
        net = _quantized(self._network(setting), image) if self.form == QUANTIZED else self._network(setting)
        held = sum(t.nbytes for t in (*net.parameters(), *net.buffers(), image))
        run = torch.compile(net, dynamic=False) if self.form == "compiled" else net
        backend = "reference" if self.form == "reference" else None
        call = _step(net, run, image, setting) if setting.training else _inference(run, image)
        return Prepared(_on_backend(backend, call), held)

    def _network(self, setting: Setting) -> nn.Module:
        options = dict(self.options)
        cfg = timm.get_pretrained_cfg(self.model)
        if cfg is not None and cfg.fixed_input_size:  # Swin runs only at the size it is built for
            options["img_size"] = (setting.height, setting.width)
        net = timm.create_model(self.model, **options).to(setting.device).to(memory_format=torch.channels_last)
        net.train(setting.training)
        if self.form == "optimised":
            return foveal.optimize(net, dtype=setting.torch_dtype if setting.casting == "cast" else None)
        return net.to(setting.activation_dtype)


def is_ours(model: str) -> bool:
    """Return whether a model of timm's registry is one of foveal's; raise FovealError for an unknown name."""
    check_model(model)
    return timm.model_entrypoint(model).__module__.startswith("foveal.")


def model_subjects(models: tuple[str, ...], forms: tuple[str, ...]) -> list[ModelSubject]:
    """Return every model in every requested form that it has.

    Networks of timm have two forms: compiled, and eager for comparison with all other forms.
    """
    subjects = [
        ModelSubject(model, form if is_ours(model) or form == "compiled" else "eager")
        for model in models
        for form in forms
    ]
    return list(dict.fromkeys(subjects))


def scaling_subjects(models: tuple[str, ...], forms: tuple[str, ...]) -> list[ModelSubject]:
    """Return every model in every form, TransNeXt in normal and in linear mode, and ConvNeXt-T for comparison."""
    subjects = []
    for subject in model_subjects((*models, BASELINE), forms):
        subjects.append(subject)
        if subject.model.startswith("transnext"):
            subjects.append(replace(subject, options=(("pool_size", LINEAR_POOL),)))
    return subjects


def baseline_of(subject: Subject) -> ModelSubject:
    """Return the baseline of a network: ConvNeXt-T, in the form that it is compared with."""
    return beside(subject, BASELINE)


def beside(subject: Subject, model: str) -> ModelSubject:
    """Return a network of timm in the form that a subject is compared with: compiled if the subject is, else eager."""
    return ModelSubject(model, "compiled" if subject.form == "compiled" else "eager")


def published_accuracy(subject: Subject) -> Accuracy | None:
    """Return the published accuracy of a network without options; None for any other subject."""
    return accuracy_of(subject.model) if isinstance(subject, ModelSubject) and not subject.options else None


def _quantized(net: nn.Module, images: Tensor) -> nn.Module:
    """Return the network in int8, calibrated on an image. Raises FovealError on other devices than the CPU."""
    if images.device.type != "cpu":
        raise FovealError("foveal.quantize is for CPUs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowInt8Warning)  # the remarks below the table say so
        return foveal.quantize(net, images[:1])


def _inference(run: Callable[[Tensor], Tensor], image: Tensor) -> Callable[[], object]:
    def call() -> None:
        with torch.inference_mode():
            run(image)

    return call


def _step(net: nn.Module, run: Callable[[Tensor], Tensor], image: Tensor, setting: Setting) -> Callable[[], object]:
    """Return a training step: forward, cross-entropy, backward; gradients are dropped as ``zero_grad`` does."""
    targets = torch.zeros(len(image), dtype=torch.long, device=image.device)

    def call() -> None:
        with setting.autocast():
            loss = F.cross_entropy(run(image).float(), targets)
        loss.backward()
        net.zero_grad(set_to_none=True)

    return call


def _on_backend(backend: str | None, call: Callable[[], object]) -> Callable[[], object]:
    if backend is None:
        return call

    def run() -> None:
        with ops.use_backend(backend):
            call()

    return run
