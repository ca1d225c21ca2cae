"""The detection step benchmark runs one forward and backward pass on valid targets."""

import csv
import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from foveal.bench.settings import Setting
from foveal.tasks.detection.detector import check_targets

FILE = Path(__file__).parents[2] / "benchmarks" / "detection_step.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("detection_step", FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILE.parent)  # as Python does for a script
        spec.loader.exec_module(module)
    return module


def test_targets_are_valid_and_masks_fill_their_boxes(benchmark):
    target = benchmark.random_target(96, 128)
    check_targets([torch.zeros(3, 96, 128)], [target], 80, masks=True)
    assert len(target["boxes"]) == 8
    sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
    assert target["masks"].sum((1, 2)).tolist() == pytest.approx(sides.prod(1).tolist(), rel=0.25)


def test_a_step_runs_backward_and_clears_the_gradients(benchmark, monkeypatch):
    class Net(nn.Module):
        backward_passes = 0

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.weight.register_hook(self.count)

        def count(self, gradient):
            self.backward_passes += 1
            assert gradient.tolist() == [3, 3]  # the sum over both losses

        def forward(self, images, targets):
            assert [image.shape for image in images] == [(3, 64, 96)] * 2
            return {"one": self.weight.sum(), "two": 2 * self.weight.sum()}

    net, asked = Net(), {}
    monkeypatch.setattr(benchmark, "create_detector", lambda *names, **options: asked.update(options) or net)
    prepared = benchmark.DetectorSubject("swin_tiny_patch4_window7_224").prepare(Setting("training", "fp32", 2, 64, 96))
    prepared.call()
    assert (net.backward_passes, net.weight.grad) == (1, None)
    assert asked == {"drop_path": 0.2, "backbone_args": {"img_size": (64, 96)}}
    assert prepared.held > 2 * 3 * 64 * 96 * 4


def test_inference_takes_images_alone_and_records_no_gradients(benchmark, monkeypatch):
    class Net(nn.Module):
        def forward(self, images):
            assert not self.training
            assert torch.is_inference_mode_enabled()
            assert [image.shape for image in images] == [(3, 64, 96)]
            self.ran = True

    net = Net()
    monkeypatch.setattr(benchmark, "create_detector", lambda *names, **options: net)
    prepared = benchmark.DetectorSubject("convnext_tiny").prepare(Setting("inference", "fp32", 1, 64, 96))
    prepared.call()
    assert net.ran
    assert prepared.held == 3 * 64 * 96 * 4


def test_both_are_measured_beside_each_other(benchmark, tmp_path, capsys, monkeypatch):
    words = ["--backbone", "transnext_atto", "--beside", "transxnet_atto", "--detector", "retinanet"]
    words += [
        "--size",
        "64x96",
        "--batch",
        "2",
        "--rounds",
        "2",
        "--memory-rounds",
        "2",
        "--csv",
        str(tmp_path / "rows.csv"),
    ]
    monkeypatch.setattr("sys.argv", ["detection_step.py", *words])
    monkeypatch.setattr(benchmark.pair, "peak_on_cpu", lambda subject, setting: 2**20 * len(subject.backbone))
    benchmark.main()
    said = capsys.readouterr().out
    assert "peak memory of retinanet transnext_atto over that of retinanet transxnet_atto: 1.000, 1.000, 1.000" in said
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["subject"] for row in rows] == ["retinanet transnext_atto", "retinanet transxnet_atto"]
    assert [float(row["peak_mib"]) for row in rows] == [14, 14]
