"""ImageNet-C: errors and mCE compared with manual counts on synthetic images."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.evaluate import EvaluationSettings
from foveal.tasks.classification.imagenet.corruptions import (
    ALEXNET,
    CorruptionErrors,
    corruption_folders,
    uncropped,
)
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.classification.survey import EvaluationGrid, survey
from support.greys import grey_classifier, write_greys

# Copied from the published code, independently of the library: (mean error of AlexNet, folder in the archives).
PUBLISHED = {
    "gaussian_noise": (0.886428, "noise"), "shot_noise": (0.894468, "noise"), "impulse_noise": (0.922640, "noise"),
    "defocus_blur": (0.819880, "blur"), "glass_blur": (0.826268, "blur"), "motion_blur": (0.785948, "blur"),
    "zoom_blur": (0.798360, "blur"), "snow": (0.866816, "weather"), "frost": (0.826572, "weather"),
    "fog": (0.819324, "weather"), "brightness": (0.564592, "weather"), "contrast": (0.853204, "digital"),
    "elastic_transform": (0.646056, "digital"), "pixelate": (0.717840, "digital"),
    "jpeg_compression": (0.606500, "digital"),
}  # fmt: skip
TENCH, GOLDFISH = "n01440764", "n01443537"


def made(root: Path, nested: bool) -> dict[str, list[float]]:
    """Write ImageNet-C with two classes and return errors in percent; grey 200 is predicted tench, 50 goldfish."""
    draw, errors = np.random.default_rng(0), {}
    for name, (_, archive) in PUBLISHED.items():
        for severity in range(1, 6):
            tench = draw.choice([200, 50], 4).tolist()
            goldfish = draw.choice([200, 50], 1).tolist()
            folder = root / archive / name if nested else root / name
            write_greys(folder / str(severity), {TENCH: tench, GOLDFISH: goldfish})
            errors.setdefault(name, []).append(100 * (tench.count(50) + goldfish.count(200)) / 5)
    return errors


def quiet():
    return contextlib.nullcontext(lambda title, done, total: None)


@pytest.mark.parametrize("nested", [False, True])
def test_errors_and_mce_match_manual_counts(nested, tmp_path):
    errors = made(tmp_path / "imagenet-c", nested)
    (tmp_path / "imagenet-c" / "speckle_noise" / "1").mkdir(parents=True)  # extra corruptions are ignored
    table = torch.zeros(256, 1000)
    table[200, 0] = table[50, 1] = 1.0
    settings = EvaluationSettings(batch_size=3, workers=0, device=torch.device("cpu"))
    (cell,) = survey(grey_classifier(table), EvaluationGrid(tmp_path, sets=("c",)), settings, quiet)
    found, total = cell.document(), 0.0
    for name, (alexnet, _) in PUBLISHED.items():
        relative = 100 * sum(errors[name]) / (5 * 100 * alexnet)
        assert found["corruptions"][name]["errors"] == pytest.approx(errors[name])
        assert found["corruptions"][name]["ce"] == pytest.approx(relative)
        total += relative
    assert found["mce"] == pytest.approx(total / 15)
    every = [error for one in errors.values() for error in one]
    assert found["mean_error"] == pytest.approx(sum(every) / 75)
    assert found["top1"] == pytest.approx(100 - sum(every) / 75)
    assert found["images"] == 375


def test_alexnet_has_an_mce_of_100():
    published = {name: error for name, (error, _) in PUBLISHED.items()}
    assert published == ALEXNET
    assert CorruptionErrors({name: (100 * error,) * 5 for name, error in ALEXNET.items()}).mce == pytest.approx(100)


def test_images_are_not_cropped():
    """At their own size pixels are unchanged; at other sizes the entire image is used."""
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    plain = Preprocessing((224, 224), crop=0.875, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    fed = uncropped(plain).transform()(Image.fromarray(pixels))
    assert torch.equal(fed, torch.from_numpy(pixels).permute(2, 0, 1) / 255)
    assert not torch.equal(plain.transform()(Image.fromarray(pixels)), fed)
    framed = np.zeros((224, 224, 3), dtype=np.uint8)
    framed[:, :28] = 255
    small = uncropped(Preprocessing((32, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))).transform()
    assert small(Image.fromarray(framed))[:, :, :3].mean() > 0.95


def test_missing_corruptions_and_severities_are_named_in_the_error(tmp_path):
    made(tmp_path / "c", nested=True)
    (tmp_path / "c" / "weather" / "fog").rename(tmp_path / "fog")
    with pytest.raises(FovealError, match=r"lacks fog of ImageNet-C's 15 corruptions"):
        corruption_folders(tmp_path / "c")
    (tmp_path / "fog").rename(tmp_path / "c" / "fog")  # both layouts may be mixed
    assert len(corruption_folders(tmp_path / "c")) == 75
    (tmp_path / "c" / "fog" / "3").rename(tmp_path / "3")
    with pytest.raises(FovealError, match=r"lacks fog/3 of ImageNet-C's severities"):
        corruption_folders(tmp_path / "c")
