"""The quickstart report for synthetic results with awkward file names."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import foveal
from foveal.bench import machine
from foveal.explain.attention import AttentionMaps
from foveal.explain.figures.head_panels import encode
from foveal.report import page_provenance
from foveal.report.findings_classification import findings
from foveal.report.page_attention import Attention
from foveal.report.page_explained import Explained
from foveal.report.page_next import RunPlace
from foveal.report.page_provenance import duration
from foveal.report.page_quickstart import Results, further_commands, quickstart_page
from foveal.report.page_run import RunReport
from foveal.tasks.classification.answers import TopAnswers
from foveal.tasks.classification.data import Images, open_split
from foveal.tasks.classification.network import Classifier
from foveal.tasks.classification.predict import Guess, Prediction
from foveal.tasks.classification.recipes import get_recipe
from foveal.training import Outcome

PNG = encode(np.zeros((2, 2, 3), np.uint8))
NASTY = '"><img src=x onerror=alert(1)> & son.png'


def attention() -> Attention:
    draw = np.random.default_rng(0)
    maps = AttentionMaps(
        query=(2, 2),
        foveal=draw.normal(size=(2, 4, 4)).astype(np.float32),
        peripheral=draw.normal(size=(2, 2, 2)).astype(np.float32),
        window_weights=np.full((2, 3, 3), 0.05, np.float32),
        pooled_weights=np.full((2, 2, 2), 0.1375, np.float32),
        positional=np.zeros((2, 3, 3), np.float32),
        stage=2,
        block=0,
        stride=16,
        image_size=(64, 64),
    )
    return Attention("A <b>wall</b>", np.full((64, 64, 3), 90, np.uint8), maps, "Seen by nobody.")


def answered(folder: Path) -> tuple[TopAnswers, Images]:
    """Three images of "a", two of "b"; the second and the last are misclassified."""
    for name, files in {"a": ["a1.png", NASTY, "a3.png"], "b": ["b1.png", "b2.png"]}.items():
        (folder / "val" / name).mkdir(parents=True)
        for file in files:
            Image.new("L", (8, 8), 77).save(folder / "val" / name / file)
    images = open_split(folder, "val")
    order = [Path(name).name for name in images.names]
    said = {"a1.png": (0, 0.9), NASTY: (1, 0.8), "a3.png": (0, 0.7), "b1.png": (1, 0.6), "b2.png": (0, 0.55)}
    guesses, confidences = zip(*(said[name] for name in order), strict=True)
    targets = torch.tensor(images.targets)
    return TopAnswers(torch.arange(5), targets, torch.tensor(guesses), torch.tensor(confidences)), images


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    recipe = get_recipe("digits.transnext_atto")
    record = {"epoch": 1, "lr": 0.001, "train_loss": 2.0, "train_top1": 30.0, "val_loss": 1.5, "val_top1": 60.0}
    record |= {"step": 12, "images_per_second": 123.0, "seconds": 4.0}
    history = [record, {**record, "epoch": 2, "step": 24, "val_loss": 1.25, "val_top1": 40.0}]
    net = timm.create_model("transnext_atto", num_classes=2)
    answers, images = answered(folder)
    task = SimpleNamespace(
        kind="classification", recipe=recipe, model=net, train=images, val=images, train_size=5, notices=[]
    )
    outcome = Outcome("top1", 60.0, 1, 2, 24, False, 9.0, history, folder / "best.pt", folder / "last.pt")
    nasty = next(name for name in images.names if name.endswith(NASTY))
    run = Path("some where") / "run"
    place = RunPlace(run, run / "best.pt", "some where/digits", Path(nasty), ["foveal", "train", recipe.name], 20)
    return Results(
        run=RunReport(task, outcome, findings(answers, images, "transnext_atto"), place, {}, []),
        network=Classifier("transnext_atto", net, ["a", "b"], recipe.fit, trained_here=True),
        right=3,
        predictions=[Prediction(nasty, [Guess(1, "b", 0.8), Guess(0, "a", 0.2)])],
        attention=[attention()],
        explained=[Explained("What each stage sees", PNG, "foveal explain 'a b.png' --what erf")],
        seconds=161.0,
        folder=Path("some where"),
    )


@pytest.fixture(scope="module")
def report(results, read_html):
    return read_html(quickstart_page(results))


def test_elements_are_closed_and_the_language_is_set(report):
    assert report.all("html") == [{"lang": "en"}]
    assert len(report.all("h1")) == 1
    assert len(report.all("h2")) >= 6


def test_the_report_loads_no_resources_and_runs_no_scripts(report):
    assert not report.all("script")
    assert not report.all("link")
    assert not report.all("iframe")
    addresses = [
        attributes[name] for _, attributes in report.elements for name in ("src", "href") if name in attributes
    ]
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert not re.search(r"url\(|@import|https?://", report.source)
    assert not any(name.startswith("on") for _, attributes in report.elements for name in attributes)


def test_file_names_are_escaped(report):
    assert NASTY in report.text
    assert not [image for image in report.all("img") if image.get("src") == "x"]
    assert "A <b>wall</b>" in report.text


def test_every_image_has_a_text_alternative(report):
    pictures = {"examples": 4, "prediction": 1, "colour scale": 1, "photograph": 1, "two heads": 4, "explained": 1}
    assert len(report.all("img")) == sum(pictures.values())
    assert all(image["alt"] for image in report.all("img"))
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in report.all("svg"))


def test_tables_have_captions_and_headers_with_a_scope(report):
    assert len(report.all("caption")) == len(report.all("table")) == 3
    assert all(header["scope"] in ("col", "row", "colgroup") for header in report.all("th"))


def test_the_report_shows_the_results(report):
    for number in ("60.00 %", "2 min 41 s", "1.14 M", "123", "2 of 5 validation images"):
        assert number in report.text


def test_errors_are_sorted_by_falling_and_correct_ones_by_rising_confidence(report):
    wrong, right = report.text.index("Wrong: all 2"), report.text.index("Correct, but least confident")
    assert (
        wrong
        < report.text.index("b, 80.00\N{NO-BREAK SPACE}%")
        < report.text.index("a, 55.00\N{NO-BREAK SPACE}%")
        < right
    )
    assert right < report.text.index("a, 70.00\N{NO-BREAK SPACE}%")
    assert "a, 90.00\N{NO-BREAK SPACE}%" not in report.text


def test_commands_are_quoted_for_the_shell(results, report):
    assert "--checkpoint 'some where/run/best.pt'" in report.text
    for _, command in further_commands(results):
        assert command in report.text


def test_headline_and_chart_show_the_same_accuracy(report):
    """That of the best epoch, not of the last, whose accuracy was 40 %."""
    assert "Validation accuracy60.00 %" in report.text
    assert "validation 60.00" in report.text
    assert "best: epoch 1" in report.text


def test_sides_are_written_with_a_multiplication_sign(report):
    text = report.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "8 \N{MULTIPLICATION SIGN} 8 pixels" in text
    assert "keys, peripheral 2 \N{MULTIPLICATION SIGN} 2." in text
    assert not re.search(r"\d x \d", report.text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (161, "2 min 41 s"), (10_921, "3 h 2 min")]
)
def test_durations_are_human_readable(seconds, text):
    assert duration(seconds) == text


def test_versions_are_those_in_use():
    facts = page_provenance.provenance()
    assert facts["foveal"].startswith(foveal.__version__)
    assert facts["timm"] == timm.__version__


def test_the_commit_is_that_of_the_package_checkout(monkeypatch, tmp_path):
    package = tmp_path / "src" / "foveal"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(machine.foveal, "__file__", str(package / "__init__.py"))
    assert page_provenance.source_commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert page_provenance.source_commit() == commit[:12]
    (package / "__init__.py").write_text("changed")
    assert page_provenance.source_commit() == f"{commit[:12]}-dirty"


def test_a_machine_without_git_has_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert page_provenance.source_commit() is None
