"""Files of predictions, read by other programs: CSV, JSON, JSON lines, COCO's format, NumPy."""

import csv
import io
import json

import numpy as np
import pytest

from foveal.errors import FovealError
from foveal.report.answer_files import check_place, class_file, feature_file, json_list
from foveal.report.coco_file import coco_document
from foveal.tasks.detection.predict import DetectedObject, DetectionPrediction, to_coco

DOCUMENTS = [
    {
        "path": 'photos/a, "b".jpg',
        "guesses": [
            {"index": 1, "name": "dog, small", "probability": 0.75},
            {"index": 0, "name": "cat", "probability": 0.25},
        ],
    },
    {"path": "ä.png", "guesses": [{"index": 0, "name": "cat", "probability": 1.0}]},
]


def write(path, documents):
    with class_file(path) as add:
        for document in documents:
            add(document)
    return path


def stopped(items):
    """Items, and then Ctrl-C."""
    yield from items
    raise KeyboardInterrupt


def test_csv_has_a_row_for_each_class(tmp_path):
    with write(tmp_path / "a.csv", DOCUMENTS).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row.values()) for row in rows] == [
        ('photos/a, "b".jpg', "1", "dog, small", "0.75"),
        ('photos/a, "b".jpg', "2", "cat", "0.25"),
        ("ä.png", "1", "cat", "1"),
    ]
    assert list(rows[0]) == ["path", "rank", "class", "probability"]


@pytest.mark.parametrize("documents", [DOCUMENTS, []])
def test_json_is_a_list_and_json_lines_are_a_document_each(tmp_path, documents):
    assert json.loads(write(tmp_path / "a.json", documents).read_text()) == documents
    lines = write(tmp_path / "a.JSONL", documents).read_text().splitlines()
    assert [json.loads(line) for line in lines] == documents


@pytest.mark.parametrize("items", [[], [1], DOCUMENTS])
def test_a_list_looks_as_if_written_at_once(items):
    file = io.StringIO()
    with json_list(file) as add:
        for item in items:
            add(item)
    assert file.getvalue() == json.dumps(items, indent=2) + "\n"


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
def test_a_file_appears_whole_or_not_at_all(tmp_path, name):
    (tmp_path / name).write_text("before")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / name, stopped(DOCUMENTS))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "before"


def test_a_name_that_is_not_utf8_keeps_its_bytes(tmp_path):
    write(tmp_path / "a.csv", [{**DOCUMENTS[1], "path": "caf\udce9.png"}])
    assert b"caf\xe9.png,1,cat,1\n" in (tmp_path / "a.csv").read_bytes()


def found(path, *objects):
    return DetectionPrediction(path, 40, 60, [DetectedObject(*thing) for thing in objects])


@pytest.mark.parametrize(
    "predictions",
    [
        [],
        [found("a.png")],
        [found("a.png", (1, "dog", 0.9, (1.0, 2.0, 4.0, 8.0)), (0, "cat", 0.5, (0.0, 0.0, 9.0, 9.0))), found("b.png")],
        [found("a.png"), found("b.png", (0, "cat", 0.5, (0.0, 0.0, 9.0, 9.0)))],
    ],
)
def test_a_coco_document_is_that_of_all_predictions_at_once(predictions):
    file = io.StringIO()
    with coco_document(file, ["cat", "dog"], [7, 3]) as add:
        for prediction in predictions:
            add(prediction)
    assert json.loads(file.getvalue()) == to_coco(predictions, ["cat", "dog"], [7, 3])


def write_features(path, features):
    with feature_file(path) as add:
        for number, feature in enumerate(features):
            add(f"{number}\n.png", feature)


@pytest.mark.parametrize("rows", [0, 1, 3, 1234])
def test_numpy_reads_features_with_their_names(tmp_path, rows):
    features = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)
    write_features(tmp_path / "f.npy", features)
    read = np.load(tmp_path / "f.npy", mmap_mode="r")
    assert (read.dtype, read.shape) == (np.dtype("float32"), (rows, 5) if rows else (0, 0))
    assert np.array_equal(read.ravel(), features.ravel())
    assert json.loads((tmp_path / "f.json").read_text()) == [f"{number}\n.png" for number in range(rows)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.json", "f.npy"]


def test_stopped_features_leave_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "f.npy", stopped(np.ones((2, 3), np.float32)))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path):
    sentence = r"a.csv could not be written \(No space left on device\): choose another --out."
    with pytest.raises(FovealError, match=sentence), class_file(tmp_path / "a.csv"):
        raise OSError(28, "No space left on device")


def test_places_that_cannot_be_written_are_refused_before_anything_is_computed(tmp_path):
    check_place(tmp_path / "new.csv", "choose another --out")
    with pytest.raises(FovealError, match=r"is a folder: pass the name of a file."):
        check_place(tmp_path, "choose another --out")
    with pytest.raises(FovealError, match=r"There is no folder .*none: create it, or choose another --out."):
        check_place(tmp_path / "none" / "a.csv", "choose another --out")
