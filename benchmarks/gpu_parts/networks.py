"""The parts that are timed: attention layers, and whole networks in inference, training and compiled."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from foveal.bench.measure import Spread, interleave, peak_on_gpu, ratios, stopwatch_for
from foveal.bench.operators import BASELINE, LEAST_SECONDS, Place, operator_subjects, places
from foveal.bench.results import Result
from foveal.bench.run import MeasurementSettings, run_setting
from foveal.bench.settings import Setting
from foveal.bench.subjects import ModelSubject
from gpu_parts.journal import Journal, Row, on_gpu, rounded
from gpu_parts.kernel_time import Kernel, host_seconds, kernel_time

MIB, GIB = 2**20, 2**30
NETWORKS = ("transnext_tiny", "transxnet_s", "convnext_tiny", "swin_tiny_patch4_window7_224")
SMALL_NETWORKS = ("transnext_atto", "transxnet_atto", "test_convnext", "test_vit")


@dataclass(frozen=True)
class Scale:
    """The device, and how large the subjects are: those of the published figures, or small ones to try the command."""

    device: str
    small: bool

    @property
    def networks(self) -> tuple[str, ...]:
        """TransNeXt, TransXNet and their peers; the first peer is the baseline."""
        return SMALL_NETWORKS if self.small else NETWORKS

    @property
    def rounds(self) -> int:
        """Counted rounds of a measurement."""
        return 2 if self.small else 10

    def setting(self, mode: str, batch: int) -> Setting:
        """Return a setting in bf16, with a smaller batch where the device has less memory than 40 GiB."""
        if self.small:
            return Setting(mode, "bf16", 2, 64, 64, self.device, torch.get_num_threads())
        memory = torch.cuda.get_device_properties(self.device).total_memory if on_gpu(self.device) else 0
        batch = batch if memory > 39 * GIB else batch // 4 if memory > 11 * GIB else batch // 16
        return Setting(mode, "bf16", batch, 224, 224, self.device, torch.get_num_threads())


def attention(journal: Journal, scale: Scale) -> None:
    """Time the attention layers of TransNeXt-T, all together and one of each stage, next to the plain form."""
    wanted = [place for place in places() if place.operator == "aggregated_attention"]
    for place in (wanted[-1], *wanted[:-1]):
        for mode in ("inference", "training"):
            about = {"place": place.title, "mode": mode}
            journal.measure(f"{place.title} {mode}", about, lambda p=place, m=mode: attention_row(p, m, scale))


def attention_row(place: Place, mode: str, scale: Scale) -> Row:
    """Return the times and peaks of the fastest backend and of the plain form."""
    setting = scale.setting(mode, 256)
    able, _ = operator_subjects(place, setting)
    plain = next(subject for subject in able if subject.form == BASELINE)
    measurement = MeasurementSettings(scale.rounds, memory=on_gpu(scale.device))
    outcome = run_setting([able[0], plain], setting, measurement, lambda subject: plain, LEAST_SECONDS)
    left_out = {"failed": outcome.left_out[0].reason} if outcome.left_out else {}
    return {"batch": setting.batch, "subjects": [timing(result) for result in outcome.results], **left_out}


def timing(result: Result) -> Row:
    """Return the figures of one backend in an interleaved run."""
    spread, ratio = result.seconds, result.ratio
    row = {"subject": result.subject.name, "form": result.subject.form, **milliseconds(spread)}
    row |= {"ratio": rounded(ratio.p50)} if ratio else {}
    return row | ({} if result.peak is None else {"peak_mib": round(result.peak / MIB)})


def milliseconds(spread: Spread) -> Row:
    """Return the percentiles of the rounds."""
    return {f"{p}_ms": rounded(1e3 * getattr(spread, p)) for p in ("p20", "p50", "p80")}


def networks(journal: Journal, scale: Scale) -> None:
    """Time the inference of whole networks, each alone and then all together."""
    ours, peers = scale.networks[:2], scale.networks[2:]
    subjects = [ModelSubject(name, form) for name in ours for form in ("eager", "optimised")]
    subjects += [ModelSubject(name) for name in peers]
    group = Group(journal, scale, scale.setting("inference", 256))
    group.each_alone(subjects)
    group.together(subjects)


def compiled(journal: Journal, scale: Scale) -> None:
    """Time compiled networks, in inference and then in training; TransXNet last, since time may not suffice for it."""
    ours, other, baseline = (ModelSubject(name, "compiled") for name in scale.networks[:3])
    groups = [Group(journal, scale, scale.setting(*where)) for where in (("inference", 256), ("training", 64))]
    for group in groups:
        group.each_alone([ours, baseline])
        group.together([ours, baseline])
    for group in groups:
        group.each_alone([other])


def training(journal: Journal, scale: Scale) -> None:
    """Time a training step, separate the host's time from the device's, and list the kernels."""
    subjects = [ModelSubject(name) for name in scale.networks]
    group = Group(journal, scale, scale.setting("training", 64))
    group.each_alone(subjects)
    group.each_profiled(subjects)
    group.together(subjects)


class Group:
    """Networks that are measured in one setting. Each is prepared once and kept, because compiling takes long."""

    def __init__(self, journal: Journal, scale: Scale, setting: Setting):
        self.journal, self.scale, self.setting = journal, scale, setting
        self._calls: dict[ModelSubject, Callable[[], object]] = {}

    def each_alone(self, subjects: Sequence[ModelSubject]) -> None:
        """Write a row of time and memory for each network."""
        for subject in subjects:
            self.journal.measure(self._title(subject), self._about(subject), lambda s=subject: self._alone(s))

    def each_profiled(self, subjects: Sequence[ModelSubject]) -> None:
        """Write a row of kernels for each network that ran."""
        for subject in self._ran(subjects):
            about = {**self._about(subject), "profile": True}
            self.journal.measure(f"{subject.name} kernels", about, lambda s=subject: self._profiled(s))

    def together(self, subjects: Sequence[ModelSubject]) -> None:
        """Write a row of interleaved rounds of all networks that ran, next to the first peer."""
        ran, baseline = self._ran(subjects), self.scale.networks[2]
        about = {"mode": self.setting.mode, "batch": self.setting.batch, "baseline": baseline}
        if len(ran) > 1:
            self.journal.measure(f"together {self.setting.mode}", about, lambda: self._together(ran, baseline))

    def _title(self, subject: ModelSubject) -> str:
        return f"{subject.name} {subject.form} {self.setting.mode}"

    def _about(self, subject: ModelSubject) -> Row:
        setting = self.setting
        return {"subject": subject.name, "form": subject.form, "mode": setting.mode, "batch": setting.batch}

    def _ran(self, subjects: Sequence[ModelSubject]) -> list[ModelSubject]:
        return [subject for subject in subjects if self.journal.passed(self._title(subject))]

    def _call(self, subject: ModelSubject) -> Callable[[], object]:
        """Return a prepared network. It is prepared again in a process that goes on where another one ended."""
        if subject not in self._calls:
            self._calls[subject] = subject.prepare(self.setting).call
            for _ in range(2):
                self._calls[subject]()
        return self._calls[subject]

    def _alone(self, subject: ModelSubject) -> Row:
        """``host_ms`` is the time until the call returns, while the device may still compute; ``peak_mib`` is the most
        memory beyond ``held_mib``, which weights, buffers and images take."""
        device, rounds = self.setting.device, self.scale.rounds
        started = time.perf_counter()
        prepared = subject.prepare(self.setting)
        row = {"held_mib": round(prepared.held / MIB)}
        if on_gpu(device):
            row["peak_mib"] = round(peak_on_gpu(prepared, device) / MIB)
        else:
            prepared.call()
        row["first_s"] = rounded(time.perf_counter() - started)
        seconds = interleave({0: prepared.call}, rounds, stopwatch_for(device))[0]
        host = host_seconds(prepared.call, device, max(3, rounds // 2))
        self._calls[subject] = prepared.call
        return row | {"ms": median_ms(seconds), "host_ms": median_ms(host)}

    def _profiled(self, subject: ModelSubject) -> Row:
        """Return the number and the time of the kernels of a step, and the twelve that take the most."""
        found = kernel_time(self._call(subject), self.setting.device)
        if not found.kernels:
            raise RuntimeError("the profiler saw no kernel")
        return {
            "kernel_ms": rounded(1e3 * found.seconds),
            "launches": round(found.launches),
            "kernels": [kernel_row(kernel) for kernel in found.kernels[:12]],
            "host_operators": [kernel_row(operator) for operator in found.host[:12]],
        }

    def _together(self, ran: list[ModelSubject], baseline: str) -> Row:
        calls = {subject: self._call(subject) for subject in ran}
        seconds = interleave(calls, self.scale.rounds, stopwatch_for(self.setting.device))
        reference = next((taken for subject, taken in seconds.items() if subject.name == baseline), None)
        return {"subjects": [compared_row(subject, taken, reference) for subject, taken in seconds.items()]}


def compared_row(subject: ModelSubject, seconds: list[float], baseline: list[float] | None) -> Row:
    """Return the times of one network over the rounds, and how many times as fast as the baseline it is."""
    row = {"subject": subject.name, "form": subject.form, **milliseconds(Spread.of(seconds))}
    return row | ({"ratio": rounded(statistics.median(ratios(baseline, seconds)))} if baseline else {})


def kernel_row(kernel: Kernel) -> Row:
    """Return one kernel's name, launches and milliseconds in a call."""
    return {"name": kernel.name[:200], "launches": rounded(kernel.launches), "ms": rounded(1e3 * kernel.seconds)}


def median_ms(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return rounded(1e3 * statistics.median(seconds))
