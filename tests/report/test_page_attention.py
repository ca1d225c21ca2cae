"""The sample images, and the README figure drawn from one of them."""

import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image

from foveal.errors import FovealError
from foveal.report.page_attention import CREDITS, sample_photograph
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.preprocessing import Preprocessing

SCRIPT = Path(__file__).parents[2] / "docs" / "attention_picture.py"


@pytest.mark.parametrize("name", CREDITS)
def test_a_sample_image_is_a_square_of_the_requested_size(name):
    photo = sample_photograph(name, side=96)
    assert photo.shape == (96, 96, 3)
    assert photo.dtype == np.uint8
    assert photo.std() > 20


def test_missing_scikit_learn_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(FovealError, match=r"foveal\[train\]"):
        sample_photograph("flower")


def test_the_readme_figure_is_a_png(monkeypatch, tmp_path):
    net = timm.create_model("transnext_atto", num_classes=10)
    network = Classifier("transnext_atto", net, list("0123456789"), Preprocessing((32, 32)), trained_here=True)
    spec = importlib.util.spec_from_file_location("attention_picture", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "restore", lambda path: network)
    monkeypatch.setattr(script, "SIDE", 128)
    monkeypatch.setattr(sys, "argv", ["attention_picture.py", "best.pt", str(tmp_path / "attention.png")])
    script.main()
    picture = Image.open(io.BytesIO((tmp_path / "attention.png").read_bytes()))
    assert picture.format == "PNG"
    assert picture.width > picture.height > 500
