"""Robustness on images of one's own: what is corrupted, how errors are averaged, and that a stopped one goes on.

The library itself is optional; where it is installed, its own output is what the network sees.
"""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from foveal.errors import FovealError
from foveal.tasks import finished as kept
from foveal.tasks.classification import corruption_library
from foveal.tasks.classification.corruption_library import CorruptionLibrary, corrupted
from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.evaluate import EvaluationSettings
from foveal.tasks.classification.imagenet.corruptions import ALEXNET
from foveal.tasks.classification.names import CORRUPTIONS
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.classification.robustness import CorruptedImages, measure_robustness
from foveal.tasks.finished import Finished

FIT = Preprocessing(size=(32, 32), crop=1.0, mean=(0, 0, 0), std=(1, 1, 1))
ALONE = EvaluationSettings(batch_size=4, workers=0, device=torch.device("cpu"))


def darkened(pixels, name, severity, seed):
    """Stands for the library: fog darkens by 20 per severity, frost changes nothing."""
    return pixels if name == "frost" else pixels - np.minimum(pixels, 20 * severity).astype(np.uint8)


STANDIN = CorruptionLibrary("stand-in", "1.0", darkened)


class Brightness(nn.Module):
    """Class 1 from a mean of 128 on."""

    def forward(self, images):
        mean = images.mean((1, 2, 3)) * 255
        return torch.stack([128 - mean, mean - 128], 1)


@pytest.fixture
def images(tmp_path):
    """Two dark images, and light ones of 150, 170, 190 and 240."""
    for name, values in {"dark": (20, 60), "light": (150, 170, 190, 240)}.items():
        (tmp_path / "val" / name).mkdir(parents=True)
        for value in values:
            Image.new("RGB", (40, 40), (value,) * 3).save(tmp_path / "val" / name / f"{value}.png")
    return open_split(tmp_path, "val")


@pytest.fixture
def classifier():
    return Classifier("brightness", Brightness(), ["dark", "light"], FIT, trained_here=True)


def measured(classifier, images, library=STANDIN, finished=None, **chosen):
    names, severities = chosen.get("names", ["fog", "frost"]), chosen.get("severities", [1, 3, 5])
    steps = []
    found = measure_robustness(
        classifier, images, library, names, severities, ALONE, finished or Finished(), lambda *at: steps.append(at), {}
    )
    return found, steps


def test_errors_are_those_of_the_corrupted_images(classifier, images):
    """Fog of 20, 60 and 100 takes 0, 3 (150, 170 and not 190: 130) and 4 - 1 light images below 128."""
    found, _ = measured(classifier, images)
    assert found.clean_error == 0
    assert found.errors["fog"] == pytest.approx({1: 0, 3: 100 * 2 / 6, 5: 100 * 3 / 6})
    assert found.errors["frost"] == {1: 0, 3: 0, 5: 0}
    assert found.means == pytest.approx({"fog": 100 * 5 / 18, "frost": 0})
    assert found.mean_error == pytest.approx(100 * 5 / 36)
    document = found.document()
    assert (document["package"], document["version"], document["relative_to_alexnet"]) == ("stand-in", "1.0", False)
    assert document["errors"]["fog"]["5"] == pytest.approx(50)


def test_the_total_is_what_all_cells_take(classifier, images):
    _, steps = measured(classifier, images)
    assert {total for _, _, total in steps} == {7}
    done = [at for _, at, _ in steps]
    assert done == sorted(done)
    assert done[-1] == 7
    assert steps[-1][0] == "7 of 7: frost, severity 5"


def test_the_network_sees_the_corrupted_crop_of_its_own_size(images):
    seen = []

    def noted(pixels, *how):
        seen.append((pixels.shape, *how))
        return darkened(pixels, *how)

    one = CorruptedImages(images, FIT, replace(STANDIN, apply=noted), "fog", 2)
    tensor, target = one[3]
    assert target == 1
    assert tensor.shape == (3, 32, 32)
    torch.testing.assert_close(tensor, torch.full((3, 32, 32), 130 / 255))
    assert seen[-1][:3] == ((32, 32, 3), "fog", 2)
    one[3]
    assert seen[-1] == seen[-2]  # the same seed whenever it is read
    one[2]
    assert seen[-1][3] != seen[-2][3]


def test_without_corruption_the_network_sees_what_it_always_sees(images):
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(images.names[0])
    for fit in (FIT, Preprocessing(size=(32, 48)), Preprocessing(size=(32, 32), whole_from=0)):
        plain = fit.transform()(Image.open(images.names[0]))
        torch.testing.assert_close(CorruptedImages(images, fit, STANDIN, "frost", 1)[0][0], plain, rtol=0, atol=0)


def test_a_measurement_that_was_stopped_goes_on(classifier, images, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "EVERY", 0)
    whole, _ = measured(classifier, images)
    seen = []

    def stopping(pixels, name, severity, seed):
        if name == "fog" and severity == 3 and seed:  # the second cell
            raise KeyboardInterrupt
        return darkened(pixels, name, severity, seed)

    with contextlib.suppress(KeyboardInterrupt):
        measured(classifier, images, replace(STANDIN, apply=stopping), Finished(tmp_path))

    def noted(pixels, *how):
        seen.append(how[:2])
        return darkened(pixels, *how)

    found, _ = measured(classifier, images, replace(STANDIN, apply=noted), Finished(tmp_path))
    assert (found.errors, found.clean_error) == (whole.errors, whole.clean_error)
    assert ("fog", 1) not in [cell for cell in seen if seen.count(cell) > 1]  # once, before it turns out to be finished
    assert seen.count(("fog", 3)) == 1 + len(images)
    seen.clear()
    more, _ = measured(classifier, images, replace(STANDIN, apply=noted), Finished(tmp_path), severities=[1, 2])
    assert more.errors["fog"][1] == whole.errors["fog"][1]
    assert {cell for cell in seen if seen.count(cell) > 1} == {("fog", 2), ("frost", 2)}


def test_another_version_of_the_library_starts_anew(classifier, images, tmp_path):
    measured(classifier, images, finished=Finished(tmp_path))
    again = Finished(tmp_path)
    measured(classifier, images, replace(STANDIN, version="1.1"), again)
    assert again.reused == 1  # the clean images


def test_sizes_that_the_library_refuses_are_refused_first(classifier, images):
    with pytest.raises(FovealError, match="Images are corrupted from 32 pixels up, not at 24: pass --size"):
        measured(replace(classifier, fit=replace(FIT, size=(24, 24))), images)


def test_a_missing_library_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setattr(corruption_library, "PACKAGE", "no-such-package")
    with pytest.raises(
        FovealError, match=r'--corrupt needs no-such-package: install it with `pip install "foveal\[rob'
    ):
        corruption_library.corruption_library()


def test_the_fifteen_corruptions_are_those_of_imagenet_c():
    assert tuple(ALEXNET) == CORRUPTIONS


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_pixels_are_the_librarys(name, severity):
    library = pytest.importorskip("imagecorruptions", exc_type=ImportError)
    draw = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(draw.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize((48, 40)))
    before = np.random.get_state()[1].copy()
    found = corrupted(pixels, name, severity, 12345)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(12345)
    own = {"seed": 12345} if name in ("impulse_noise", "glass_blur") else {}
    expected = library.corrupt(pixels, corruption_name=name, severity=severity, **own)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, pixels)
    np.testing.assert_array_equal(corrupted(pixels, name, severity, 12345), found)
