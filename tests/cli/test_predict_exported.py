"""``foveal predict`` with exported files: the answer of the network they came from."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.predict import predict
from foveal.tasks.classification.preprocessing import Preprocessing
from support.exported import CARD, CLASSES, SIDE, as_openvino, card, write_linear, write_network
from support.nets import atto, image

ENDINGS = [".onnx", ".xml"]


@pytest.fixture(scope="module")
def network():
    return atto()


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """The network as FILE.onnx and FILE.xml, for a batch of one image, by ending."""
    described = card(batch=1)
    path = write_network(tmp_path_factory.mktemp("exported") / "atto.onnx", network, described)
    return {".onnx": path, ".xml": as_openvino(path, described)}


@pytest.fixture
def photographs(tmp_path):
    """Three images of different modes, sizes and orientations."""
    draw = np.random.default_rng(0)
    pixels = [draw.integers(0, 256, shape, dtype=np.uint8) for shape in ((90, 70, 3), (40, 300, 4), (64, 64))]
    turned = Image.Exif()
    turned[0x0112] = 6
    for number, array in enumerate(pixels):
        Image.fromarray(array).save(tmp_path / f"{number}.png", exif=turned)
    return [tmp_path / f"{number}.png" for number in range(3)]


def same(document, expected):
    """Whether two answers have the same classes, and probabilities as close as float32 rounds logits of order 10."""
    for answer, other in zip(document, expected, strict=True):
        assert answer["path"] == other.path
        assert [(guess["index"], guess["name"]) for guess in answer["guesses"]] == [
            (guess.index, guess.name) for guess in other.guesses
        ]
        found = [guess["probability"] for guess in answer["guesses"]]
        assert found == pytest.approx([guess.probability for guess in other.guesses], rel=1e-4)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_answer_is_that_of_the_network(foveal, files, network, photographs, ending):
    said = foveal("predict", *photographs, "--checkpoint", files[ending], "--json")
    assert said.code == 0, said.error
    classifier = Classifier("atto", network, list(CLASSES), Preprocessing((SIDE, SIDE)), trained_here=True)
    same(json.loads(said.out), predict(classifier, photographs, device=torch.device("cpu")))
    said = foveal("predict", *photographs, "--checkpoint", files[ending], "--top-k", 1)
    assert said.out.splitlines()[::2] == list(map(str, photographs))
    assert [line.split()[1] for line in said.out.splitlines()[1::2]] == ["%"] * 3


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_network_of_pytorch_is_created(foveal, files, photographs, monkeypatch, ending):
    def refuse(self, *args, **kwargs):
        raise AssertionError("a module was created")

    monkeypatch.setattr(nn.Module, "__init__", refuse)
    assert foveal("predict", *photographs, "--checkpoint", files[ending]).code == 0


# Loads a file with nothing of ours: what a user's own program does.
ALONE = """
import sys
for name in ("torch", "timm", "torchvision", "foveal"):
    sys.modules[name] = None
import numpy as np
images = np.load(sys.argv[2])
if sys.argv[1].endswith(".onnx"):
    import onnxruntime
    found = onnxruntime.InferenceSession(sys.argv[1]).run(["logits"], {"images": images})[0]
else:
    import openvino
    model = openvino.compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = model({"images": images})["logits"]
np.save(sys.argv[3], found)
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_need_nothing_of_foveal_or_pytorch(files, network, tmp_path, ending):
    given = image(SIDE, SIDE)
    np.save(tmp_path / "images.npy", given.numpy())
    words = [files[ending], tmp_path / "images.npy", tmp_path / "logits.npy"]
    done = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = network(given).numpy()
    np.testing.assert_allclose(np.load(words[2]), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("ending", ENDINGS)
def test_another_size_runs_if_the_file_takes_any(foveal, photographs, tmp_path, ending):
    fixed, free = (
        write_linear(tmp_path / f"{name}{ending}", card(any_size=name == "free")) for name in ("one", "free")
    )
    said = foveal("predict", *photographs, "--checkpoint", fixed, "--size", 96)
    assert said.code == 1
    assert said.is_one_sentence("runs at 64x64 only, not at 96x96: leave --size out")
    assert foveal("predict", *photographs, "--checkpoint", fixed, "--size", SIDE).code == 0
    plain, larger = (
        json.loads(foveal("predict", *photographs, "--checkpoint", free, "--json", *words).out)
        for words in ([], ["--size", 96])
    )
    assert plain != larger
    assert [answer["path"] for answer in larger] == list(map(str, photographs))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("changes", "words", "code", "part"),
    [
        ({}, ["--model", "transnext_atto"], 2, "names its model: leave --model out."),
        ({}, ["--score", "0.3"], 2, "--score is for detectors, and this file holds a classifier"),
        ({}, ["--top-k", "0"], 2, "--top-k must be at least 1"),
        ({"task": "segmentation"}, [], 1, "does not say how images are fed to it: export the segmenter again."),
        ({"task": "detection"}, [], 1, "does not say how its boxes are selected: export the detector again."),
        ({"task": "features", "classes": ()}, [], 1, "which predicts no classes: export the whole network."),
        (None, [], 1, "was not written by foveal export"),
    ],
)
def test_what_does_not_fit_is_one_sentence(foveal, photographs, tmp_path, ending, changes, words, code, part):
    file = write_linear(tmp_path / f"a{ending}", None if changes is None else card(**changes))
    said = foveal("predict", *photographs, "--checkpoint", file, *words)
    assert said.code == code
    assert said.is_one_sentence(part), said.error


def test_images_that_cannot_be_read_are_named(foveal, tmp_path):
    file = write_linear(tmp_path / "a.onnx", CARD)
    assert foveal("predict", "/nowhere.png", "--checkpoint", file).is_one_sentence("There is no image at /nowhere.png")
    assert foveal("predict", file, "--checkpoint", file).is_one_sentence(f"{file} is not a readable image")
