"""Every run of ``foveal train`` ends in a report: right figures, commands that run, and no run that fails for it."""

import csv
import html
import json
import re
import shlex
import shutil
import signal
from importlib.metadata import version

import pytest
import torch

from foveal.cli import train, train_report
from foveal.cli.app import main
from foveal.errors import FovealError
from foveal.report import findings_classification, findings_detection, findings_segmentation
from foveal.tasks.classification.network import restore
from foveal.tasks.classification.task import ClassificationTask
from foveal.tasks.dense.shapes import write_shapes
from support.colours import TINY, write_colours
from support.runs import leaving_in_update

RECIPE = "digits.transnext_atto"
DENSE = ["--epochs", "2", "--batch-size", "2", "--workers", "0", "--size", "64"]
LARGEST = 4 << 20  # bytes


def commands(text: str) -> list[list[str]]:
    """The words of each command of a page, without ``foveal``."""
    lines = re.findall("<pre><code>(.*?)</code></pre>", text, flags=re.DOTALL)
    return [shlex.split(html.unescape(re.sub("<.*?>", "", line)))[1:] for line in lines]


def rows(text: str, caption: str) -> dict[str, list[str]]:
    """The cells of each row of a table, by its name."""
    body = text.partition(caption)[2].partition("</table>")[0].partition("<tbody>")[2]
    lines = [re.findall("<t[hd].*?>(.*?)</t[hd]>", line) for line in re.findall("<tr>(.*?)</tr>", body)]
    return {html.unescape(name): [re.sub("<.*?>", "", cell) for cell in cells] for name, *cells in lines}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "my shapes", train=4, val=3, side=64)


def trained(recipe, data, out, *words) -> str:
    with pytest.raises(SystemExit) as leave:
        main(["train", recipe, "--data", str(data), "--out", str(out), *DENSE, *words])
    assert leave.value.code == 0
    return (out / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def detector(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("detector") / "a run"
    return out, trained("shapes.mask_rcnn_transnext_atto", shapes, out)


@pytest.fixture(scope="module")
def segmenter(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("segmenter") / "a run"
    return out, trained("shapes.semantic_fpn_transxnet_atto", shapes, out, "--warmup-epochs", "0")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="module")
def classifier(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("classifier") / "a run"
    with pytest.raises(SystemExit):
        main(["train", RECIPE, "--data", str(data), "--out", str(out), *TINY])
    return out, (out / "report.html").read_text(encoding="utf-8")


def test_the_accuracy_of_each_class_is_that_of_the_network(classifier, data):
    """Counted again, image by image, with the weights of best.pt."""
    out, text = classifier
    found = restore(out / "best.pt")
    images = ClassificationTask.open_images(ClassificationTask.described(_card(out)), data)[1]
    images.transform = found.fit.transform()
    right = dict.fromkeys(found.classes, 0)
    for pixels, label in images:
        with torch.no_grad():
            right[found.classes[label]] += int(found.model(pixels[None]).argmax()) == label
    assert rows(text, "Accuracy by class") == {
        name: ["4", str(count), f"{100 * count / 4:.2f} %"] for name, count in right.items()
    }
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = max(metrics, key=lambda record: record["val_top1"])
    assert f"<dt>Validation accuracy</dt><dd>{best['val_top1']:.2f} %</dd>" in text
    assert f"best: epoch {best['epoch']}<" in text
    assert sum(right.values()) == round(12 * best["val_top1"] / 100)


def _card(out) -> dict:
    return torch.load(out / "best.pt", weights_only=True)["card"]


def test_the_report_says_what_was_trained_with_which_settings(classifier, data):
    _, text = classifier
    assert f"{data}: 24 training images, 12 validation images" in html.unescape(text)
    changed = rows(text, "Settings that differ from the recipe")
    assert changed["model"] == ["test_convnext", "transnext_atto"]
    assert changed["--lr"][0] == "0.005"
    assert changed["--epochs"][0] == "4"
    assert "--seed" not in changed
    assert f"<dt>PyTorch</dt><dd>{version('torch')}" in text


@pytest.mark.parametrize("kind", ["classifier", "detector", "segmenter"])
def test_the_page_is_one_file_of_moderate_size_that_asks_for_nothing(kind, request):
    _, text = request.getfixturevalue(kind)
    assert len(text) < LARGEST
    assert not re.search(r"<script|<link|url\(|@import|src=\"(?!data:)", text)
    assert {"How it learned", "What it confuses", "Wrong and right", "What to type next", "What was trained"} <= set(
        re.findall("<h2>(.*?)</h2>", text)
    )


@pytest.mark.parametrize("kind", ["classifier", "detector", "segmenter"])
def test_what_to_type_next_can_be_typed(kind, request, foveal, tmp_path):
    out, text = request.getfixturevalue(kind)
    found = {words[0]: words for words in commands(text)}
    exports = [] if kind == "detector" else ["export"]  # Mask R-CNN has no exported form
    assert list(found) == ["evaluate", "predict", *exports, "train"]
    if kind == "segmenter":
        del found["export"]  # it takes ten times as long as a classifier's, and is tested in tests/export
    for name, words in found.items():
        if name == "train":  # it goes on with the run: with a copy, since other tests look at the run itself
            words[words.index("--out") + 1] = shutil.copytree(out, tmp_path / "longer")
        said = foveal(*words, *(["--workers", "0"] if words[0] == "evaluate" else []))
        assert said.code == 0, said.error
    assert (out / "evaluated" / "results.json").exists()


def test_the_figures_of_a_detector_are_those_of_an_evaluation(detector, shapes, foveal, tmp_path):
    out, text = detector
    said = foveal("evaluate", "--checkpoint", out / "best.pt", "--data", shapes, "--workers", 0, "--json")
    document = json.loads(said.out)["results"]
    table = rows(text, "Average precision of boxes by class")
    for name, figure in document["ap_of_classes"]["box"].items():
        assert table[name][2] == f"{figure:.2f} %"
    for name in document["classes_without_objects"]:
        assert table[name][2] == "no object"
    counts, classes = document["confusion"]["counts"], document["confusion"]["classes"]
    shown = rows(text, "Objects of each true class")
    assert list(shown) == classes
    numbers = [[int(cell or 0) for cell in shown[name]] for name in classes]
    assert numbers == counts
    assert "Precision of boxes at an IoU of 0.5" in text
    assert "Precision of masks at an IoU of 0.5" in text


def test_the_figures_of_a_segmenter_are_those_of_an_evaluation(segmenter, shapes, foveal, tmp_path):
    out, text = segmenter
    where = ["--data", shapes, "--workers", 0, "--out", tmp_path]
    assert foveal("evaluate", "--checkpoint", out / "best.pt", *where).code == 0
    with (tmp_path / "classes.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    table = rows(text, "IoU by class")
    assert set(table) == {row["class"] for row in found}
    for row in found:
        figure = row["iou_percent"]
        assert table[row["class"]][2] == (f"{float(figure):.2f} %" if figure else "no pixel")
    assert 'class="swatches"' in text


@pytest.mark.parametrize(
    ("kind", "module"),
    [("detector", findings_detection), ("segmenter", findings_segmentation)],
)
def test_a_large_set_is_looked_at_in_part_and_the_page_says_so(kind, module, request, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_IMAGES", 2)
    recipe = {"detector": "shapes.retinanet_transxnet_atto", "segmenter": "shapes.semantic_fpn_transxnet_atto"}[kind]
    text = trained(recipe, shapes, tmp_path / "run", "--epochs", "1", "--warmup-epochs", "0")
    assert "are of 2 validation images, evenly spread over all 3;" in text


def test_a_large_set_of_a_classifier_is_looked_at_in_part(foveal, colours, quick, tmp_path, monkeypatch):
    """Every third of twelve images, four of each class: 0, 3, 6 and 9."""
    monkeypatch.setattr(findings_classification, "MOST_IMAGES", 4)
    assert foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick).code == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert "are of 4 validation images, evenly spread over all 12;" in text
    assert {name: cells[0] for name, cells in rows(text, "Accuracy by class").items()} == {
        "blue": "2",
        "green": "1",
        "red": "1",
    }


def test_images_that_cannot_be_read_are_left_out(foveal, colours, quick, tmp_path):
    """The first validation image is broken: it is neither counted nor suggested for a prediction."""
    broken = colours / "val" / "blue" / "0.png"
    broken.write_bytes(b"no image")
    words = ["train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--broken", "skip"]
    said = foveal(*words)
    assert said.code == 0, said.error
    text = (tmp_path / "run" / "report.html").read_text()
    assert rows(text, "Accuracy by class")["blue"][0] == "3"
    assert "evenly spread" not in text
    (predict,) = [words for words in commands(text) if words[0] == "predict"]
    assert predict[1] == str(colours / "val" / "blue" / "1.png")


def test_a_run_can_do_without(foveal, colours, quick, tmp_path):
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--no-report", "--json")
    assert json.loads(said.out)["report"] is None
    assert not (tmp_path / "run" / "report.html").exists()


def test_the_last_line_names_the_report(foveal, colours, quick, tmp_path):
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--epochs", "1")
    assert said.out.splitlines()[-1] == f"Report, to open in a browser: {tmp_path / 'run' / 'report.html'}"


def test_the_document_of_a_run_names_its_report(foveal, colours, quick, tmp_path):
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick, "--json")
    assert json.loads(said.out)["report"] == str(tmp_path / "run" / "report.html")


def test_an_interrupted_run_has_none_and_a_resumed_one_shows_its_whole_history(
    foveal, colours, quick, tmp_path, monkeypatch
):
    words = ["train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick]
    create = train.create_task
    with monkeypatch.context() as patched:
        patched.setattr(train, "create_task", lambda *args, **kwargs: leaving_in_update(create(*args, **kwargs), 8))
        assert foveal(*words).code == 0
    assert not (tmp_path / "run" / "report.html").exists()
    assert foveal(*words, "--resume").code == 0
    text = (tmp_path / "run" / "report.html").read_text()
    assert list(rows(text, "Every epoch of the run")) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("error", [FovealError("An image is gone."), RuntimeError("no memory\nleft"), KeyError("x")])
def test_a_report_that_cannot_be_made_is_one_sentence_and_the_run_is_whole(
    error, foveal, colours, quick, tmp_path, monkeypatch
):
    def fails(*_):
        raise error

    monkeypatch.setattr(train_report, "look", fails)
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick)
    assert said.code == 0
    (sentence,) = [line for line in said.error.splitlines() if "No report" in line]
    assert sentence.startswith("foveal: No report: ")
    assert sentence.endswith(".")
    assert "weights saved to" in said.out
    assert not list((tmp_path / "run").glob("*report*"))


def test_ctrl_c_during_the_report_keeps_the_run(foveal, colours, quick, tmp_path, monkeypatch):
    def pressed(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train_report, "look", pressed)
    said = foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick)
    assert said.code == 0
    assert "foveal: No report: stopped; foveal train --resume writes it." in said.error
    assert "weights saved to" in said.out


def test_only_the_main_process_writes_it_after_the_others_have_left(foveal, colours, quick, tmp_path, monkeypatch):
    order = []
    leave, look = train.leave_processes, train_report.look
    monkeypatch.setattr(train, "leave_processes", lambda: (order.append("left"), leave()))
    monkeypatch.setattr(train_report, "look", lambda *args: (order.append("looked"), look(*args))[1])
    words = ["train", RECIPE, "--data", colours, *quick, "--epochs", "1"]
    assert foveal(*words, "--out", tmp_path / "main").code == 0
    assert order == ["left", "looked"]
    monkeypatch.setenv("RANK", "1")
    assert foveal(*words, "--out", tmp_path / "other").code == 0
    assert order == ["left", "looked", "left"]


def test_the_validation_images_are_looked_at_once(foveal, colours, quick, tmp_path, monkeypatch):
    """Not more often, whatever the page shows of them."""
    seen = []
    count = findings_classification.score
    monkeypatch.setattr(
        findings_classification, "score", lambda *args, **kwargs: (seen.append(args[1]), count(*args, **kwargs))[1]
    )
    assert foveal("train", RECIPE, "--data", colours, "--out", tmp_path / "run", *quick).code == 0
    assert [len(images) for images in seen] == [12]
