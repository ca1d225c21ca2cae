"""Where pictures and facts come from."""

import io
import subprocess
import sys

import numpy as np
import pytest
import timm
from PIL import Image

import foveal
from foveal.errors import FovealError
from foveal.report import provenance, readme_picture
from foveal.report.photograph import CREDITS, sample_photograph
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.preprocessing import Preprocessing


@pytest.mark.parametrize("name", CREDITS)
def test_the_photograph_is_a_square_of_the_asked_size(name):
    photo = sample_photograph(name, side=96)
    assert photo.shape == (96, 96, 3)
    assert photo.dtype == np.uint8
    assert photo.std() > 20


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(FovealError, match=r"foveal\[train\]"):
        sample_photograph("flower")


def test_the_picture_of_the_readme_is_a_png(monkeypatch, tmp_path):
    net = timm.create_model("transnext_atto", num_classes=10)
    network = Classifier("transnext_atto", net, list("0123456789"), Preprocessing((32, 32)), trained_here=True)
    monkeypatch.setattr(readme_picture, "restore", lambda path: network)
    monkeypatch.setattr(readme_picture, "SIDE", 128)
    monkeypatch.setattr(sys, "argv", ["readme_picture", "best.pt", str(tmp_path / "attention.png")])
    readme_picture.main()
    picture = Image.open(io.BytesIO((tmp_path / "attention.png").read_bytes()))
    assert picture.format == "PNG"
    assert picture.width > picture.height > 500


def test_versions_are_those_that_are_running():
    facts = provenance.provenance()
    assert facts["foveal"].startswith(foveal.__version__)
    assert facts["timm"] == timm.__version__


def test_the_commit_is_that_of_the_checkout_the_package_lies_in(monkeypatch, tmp_path):
    package = tmp_path / "src" / "foveal"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance.foveal, "__file__", str(package / "__init__.py"))
    assert provenance.source_commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert provenance.source_commit() == commit[:12]
    (package / "__init__.py").write_text("changed")
    assert provenance.source_commit() == f"{commit[:12]}-dirty"


def test_a_machine_without_git_has_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert provenance.source_commit() is None
