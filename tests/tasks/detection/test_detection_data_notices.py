"""What is left out is said with its number and the first of it, and data that training or evaluation cannot use is
refused before training, with the reasons."""

import json
import sys

import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.detection.average_precision import average_precision
from foveal.tasks.detection.data import open_split, open_train_and_val
from foveal.tasks.recipes import create_task, plan_recipe
from support.coco_folders import annotation, change, write_objects, write_split
from support.detectors import small_recipe

CROWD = dict(iscrowd=1, segmentation={"size": [40, 40], "counts": [0, 800, 800]})
SIZES = [(40, 40)] * 4


def write_train(tmp_path, entries, sizes=SIZES):
    write_split(tmp_path, "val", [annotation(1), annotation(2, category=7)])
    return write_split(tmp_path, "train", entries, sizes)


def test_broken_entries_are_counted_by_reason_with_the_first_of_each(tmp_path):
    entries = [
        annotation(1),
        annotation(2, category=7),
        annotation(3, box=(3, 3, 4, 0)),
        annotation(4, image=2, box=(3, 3, 0, 2)),
        annotation(5, category=9),
        annotation(6, image=9),
    ]
    write_train(tmp_path, entries)
    (tmp_path / "train" / "4.png").unlink()
    images = open_split(tmp_path, "train", masks=False, broken="skip")
    assert images.notices == [
        f"{images.annotation_file} has 5 broken entries, left out here: no file (image 4 (4.png)); box of zero area "
        "(2, the first: annotation 3 of image 1 (1.png)); unknown category (annotation 5 of image 1 (1.png)); unknown "
        "image (annotation 6)."
    ]


def test_images_that_are_not_trained_on_are_counted_by_reason(tmp_path):
    entries = [
        annotation(1, image=1),
        annotation(2, image=2, **CROWD),
        annotation(3, image=3, box=(3, 3, 4, 0)),
        annotation(4, image=5, category=7),
        annotation(5, image=6),
    ]
    write_train(tmp_path, entries, [(40, 40)] * 5 + [(40, 31)])
    train, _ = open_train_and_val(tmp_path, masks=False, broken="skip", empty="drop")
    assert train.image_ids == [1, 5]
    assert train.notices[1] == (
        f"4 images of {train.annotation_file} will not be used: only crowds (2.png); only broken annotations (3.png); "
        "no annotation (4.png); a side below 32 pixels (6.png)."
    )


UNUSABLE = {
    "crowds": (
        [annotation(1, image=1, **CROWD), annotation(2, image=3, **CROWD)],
        r"only crowds \(2, the first: 1.png\); no annotation \(2, the first: 2.png\): set iscrowd to 0 .* CVAT",
    ),
    "no annotation": ([], r"no annotation \(4, the first: 1.png\): add annotations"),
    "zero boxes": (
        [annotation(number, image=number, box=(3, 3, 0, 5)) for number in range(1, 5)],
        r"only broken annotations \(4, the first: 1.png\); box of zero area \(4, the first: annotation 1 of image 1 "
        r"\(1.png\)\): repair these entries",
    ),
    "unknown categories": (
        [annotation(number, image=number, category=1) for number in range(1, 5)],
        r"only broken annotations \(4, .*unknown category \(4, the first: annotation 1 of image 1 \(1.png\)\): repair",
    ),
    "unknown images": (
        [annotation(number, image=number) for number in range(11, 15)],
        r"no annotation \(4, the first: 1.png\); unknown image \(4, the first: annotation 11\): repair",
    ),
    "boxes outside": (
        [annotation(1, box=(100, 3, 4, 5))],
        r"only broken annotations \(1.png\); no annotation \(3, .*box outside of its image \(annotation 1 of image 1",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_is_left_over_says_why(tmp_path, kind):
    entries, reasons = UNUSABLE[kind]
    write_train(tmp_path, entries)
    with pytest.raises(FovealError, match=rf"instances_train.json has no usable image: {reasons}.*\.$"):
        open_train_and_val(tmp_path, masks=False, broken="skip", empty="drop")
    with pytest.raises(FovealError, match=rf"instances_train.json has no object to train on: {reasons}.*\.$"):
        open_train_and_val(tmp_path, masks=False, broken="skip", empty="keep")


def test_missing_files_and_small_images_say_why(tmp_path):
    write_train(tmp_path, [annotation(1)], [(40, 31)])
    with pytest.raises(FovealError, match=r"no usable image: a side below 32 pixels \(1.png\): use larger images\.$"):
        open_train_and_val(tmp_path, masks=False, broken="skip", empty="drop")
    (tmp_path / "train" / "1.png").unlink()
    with pytest.raises(FovealError, match=r"no usable image: no file \(image 1 \(1.png\)\): repair these entries\.$"):
        open_train_and_val(tmp_path, masks=False, broken="skip", empty="drop")


@pytest.mark.parametrize(
    ("entries", "reasons"),
    [([], r"no annotation \(1.png\)"), ([annotation(1, **CROWD)], r"only crowds \(1.png\): set iscrowd to 0")],
)
def test_validation_images_that_evaluation_refuses_are_refused_before_training(tmp_path, entries, reasons):
    folder = write_objects(tmp_path)
    change(folder, "val", lambda content: content.update(annotations=entries, images=content["images"][:1]))
    for ask in (create_task, plan_recipe):
        with pytest.raises(FovealError, match=rf"instances_val.json has no object to evaluate: {reasons}"):
            ask(small_recipe("retinanet", broken="skip"), folder)


def test_average_precision_needs_its_library_before_training(tmp_path, monkeypatch):
    folder = write_objects(tmp_path)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    for ask in (create_task, plan_recipe):
        with pytest.raises(FovealError, match=r"pip install 'foveal\[dense\]'"):
            ask(small_recipe("retinanet"), folder)


def test_classes_without_an_object_are_named_before_training(tmp_path):
    write_split(tmp_path, "train", [annotation(1), annotation(2, category=7)])
    write_split(tmp_path, "val", [annotation(1), annotation(2, category=7, iscrowd=1)])
    _, val = open_train_and_val(tmp_path, masks=False)
    assert val.classes_without_objects == ["dog"]
    assert val.notices[-1] == f"{val.annotation_file} has no object of 1 of its 2 classes: dog."
    many = [{"id": number, "name": f"c{number}"} for number in range(1, 14)]
    images = open_split(write_split(tmp_path / "many", "val", [annotation()], categories=many), "val", masks=False)
    assert images.notices[-1].endswith(" has no object of 12 of its 13 classes: c1, c2, c4, c5, c6 and 7 more.")


def test_validation_may_lack_categories_of_training(tmp_path):
    write_split(tmp_path, "train", [annotation(1), annotation(2, category=7)])
    write_split(tmp_path, "val", [annotation(1, category=7)], categories=[{"id": 7, "name": "dog"}])
    train, val = open_train_and_val(tmp_path, masks=False)
    assert (val.classes, val.category_ids) == (train.classes, train.category_ids) == (["cat", "dog"], [3, 7])
    assert val.target(0)["labels"].tolist() == [1]
    assert val.ground_truth()["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    assert val.notices == [f"{val.annotation_file} has no object of 1 of its 2 classes: cat."]


def test_a_mean_says_over_how_many_classes_it_is(tmp_path):
    images = open_split(write_split(tmp_path, "val", [annotation()]), "val", masks=False)
    found = [{"image_id": 1, "category_id": 3, "bbox": [2, 3, 4, 5], "score": 0.9}]
    scores = average_precision(images.ground_truth(), found, "box")
    assert scores.overall["ap"] == pytest.approx(100)
    assert (scores.classes, scores.without_objects) == ({"cat": pytest.approx(100)}, ("dog",))
    assert scores.scope == " over 1 of 2 classes"
    change(tmp_path, "val", lambda content: content["annotations"].append(annotation(2, category=7)))
    assert average_precision(images.ground_truth(), found, "box").scope == ""


def test_images_that_the_file_does_not_name_are_counted(tmp_path):
    folder = write_split(tmp_path, "train", [annotation(), annotation(2, category=7)])
    for name in ("x.png", "y.jpg", "notes.txt", ".hidden.png"):
        Image.new("RGB", (9, 9)).save(folder / "train" / name, format="PNG")
    images = open_split(folder, "train", masks=False)
    assert images.notices == [
        f"{images.annotation_file} has 2 images that it does not name in {images.folder}, left out; the first: x.png."
    ]


def test_other_files_beside_the_images_are_counted(tmp_path):
    folder = write_split(tmp_path, "train", [annotation(), annotation(2, category=7)])
    for name in ("a.heic", "b.HEIC", "c.mp4", "notes.txt", "_annotations.coco.json", ".d.heic", "Thumbs.db", "noend"):
        (folder / "train" / name).write_bytes(b"")
    (folder / "train" / "sub.heic").mkdir()
    images = open_split(folder, "train", masks=False)
    assert images.notices == [
        f"{images.folder} has 4 files that Pillow does not read as images, left out: 2 .heic, 1 .mp4, 1 without an "
        "ending."
    ]


def test_validation_images_that_are_training_images_are_counted(tmp_path):
    folder = write_split(tmp_path, "images", [annotation(), annotation(2, category=7)])
    content = (folder / "annotations" / "instances_images.json").read_text()
    for split in ("train", "val"):
        (folder / "annotations" / f"instances_{split}.json").write_text(content)
    _, val = open_train_and_val(folder, masks=False)
    assert val.notices == [
        "1 of 1 validation images is a training image as well, so their figures say nothing about others; the first: "
        "1.png."
    ]


def test_a_file_of_nonsense_is_one_sentence(tmp_path):
    folder = write_split(tmp_path, "train", [annotation()])
    for image in ({"id": 10**30}, {"id": [1]}, {"file_name": [2]}, {"file_name": "a" * 5000}, {"file_name": ""}):
        content = {
            "images": [{"id": 1, "file_name": "1.png", **image}, {}],
            "annotations": [{}, {"id": {}}, {**annotation(), "image_id": {}, "category_id": []}],
            "categories": [{"id": 1, "name": "a"}],
        }
        (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
        with pytest.raises(FovealError, match=r"instances_train.json has no usable image: .*: repair these entries\.$"):
            open_split(folder, "train", masks=False, broken="skip")


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_that_would_stop_a_run_later_are_found_at_its_start(tmp_path, split):
    entries = [annotation(number, image=number, category=(3, 7)[number % 2]) for number in range(1, 13)]
    for name in ("train", "val"):
        write_split(tmp_path, name, entries, [(40, 40)] * 12)
    for number in range(1, 13):
        Image.new("F", (40, 40), 200.0).save(tmp_path / split / f"{number}.png", format="TIFF")
    for ask in (create_task, plan_recipe):
        with pytest.raises(FovealError, match=rf"{split}/1.png has fractions of 32 bits from 200 to 200, and which of"):
            ask(small_recipe("retinanet"), tmp_path)
        with pytest.raises(
            FovealError, match=rf"None of the 12 images of .*instances_{split}.json can be read; the fir"
        ):
            ask(small_recipe("retinanet", broken="skip"), tmp_path)
    Image.new("RGB", (40, 40)).save(tmp_path / split / "7.png")
    train, val = open_train_and_val(tmp_path, masks=False, broken="skip")
    (notice,) = {"train": train, "val": val}[split].notices
    assert "images of" in notice
    assert "that were looked at cannot be read, and such images are skipped; the first: " in notice


def test_eight_images_of_a_set_are_looked_at(tmp_path, monkeypatch):
    write_train(tmp_path, [annotation(n, image=n, category=(3, 7)[n % 2]) for n in range(1, 31)], [(40, 40)] * 30)
    seen = []
    monkeypatch.setattr(
        "foveal.tasks.detection.data.coco.load_rgb_of_size",
        lambda path, size: seen.append(path) or Image.new("RGB", size),
    )
    open_train_and_val(tmp_path, masks=False)
    assert len(seen) == 9  # of 30 and of one
    assert [seen[0], seen[7]] == [str(tmp_path / "train" / name) for name in ("1.png", "30.png")]
