"""Validation images drawn from a folder without a split: by their rarest class, and the same for a run and its
evaluation."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from foveal.errors import FovealError
from foveal.tasks.detection.data import open_split, open_train_and_val
from support.coco_folders import annotation, change, write_split


@pytest.fixture
def folder(tmp_path):
    """Twenty images with a cat, five of which have a dog as well, and four images without objects."""
    entries = [annotation(number, image=number) for number in range(1, 21)]
    entries += [annotation(20 + number, image=number, category=7) for number in range(1, 6)]
    return write_split(tmp_path, "train", entries, [(40, 40)] * 24)


def test_each_class_gives_its_share(folder):
    train, val = open_train_and_val(folder, masks=False, val_fraction=0.2)
    assert sorted(train.image_ids + val.image_ids) == list(range(1, 25))
    rarest = [{2: "dog", 1: "cat", 0: "empty"}[len(val.target(index)["boxes"])] for index in range(len(val))]
    assert Counter(rarest) == {"dog": 1, "cat": 3, "empty": 1}
    assert list(val.held_out.names) == sorted(val.names)
    assert val.set_name == "20 % drawn for validation with seed 0"
    assert (val.held_out.fraction, val.held_out.seed, train.held_out) == (0.2, 0, None)
    drawn = f"5 of the 24 images of {train.annotation_file} were drawn for validation, by class with seed 0; "
    assert train.notices == [drawn + "the checkpoints name them, and evaluation uses them."]
    assert val.notices == []
    truth = val.ground_truth()
    assert [image["id"] for image in truth["images"]] == val.image_ids
    assert {entry["image_id"] for entry in truth["annotations"]} <= {*val.image_ids}


def test_the_draw_is_the_same_each_time_and_another_with_another_seed(folder):
    first = open_train_and_val(folder, masks=False, val_fraction=0.2)[1].names
    change(folder, "train", lambda content: content["images"].reverse())
    assert sorted(open_train_and_val(folder, masks=False, val_fraction=0.2)[1].names) == sorted(first)
    assert sorted(open_train_and_val(folder, masks=False, val_fraction=0.2, seed=1)[1].names) != sorted(first)


def test_empty_images_are_dropped_from_training_alone(folder):
    train, val = open_train_and_val(folder, masks=False, empty="drop", val_fraction=0.2)
    assert (len(train), len(val)) == (16, 5)
    assert "3 images of" in train.notices[1]
    assert "no annotation (3, the first: 2" in train.notices[1]


def test_the_rarest_label_of_each_image(folder):
    assert open_split(folder, "train", masks=False).rarest_labels() == [1] * 5 + [0] * 15 + [-1] * 4


def test_evaluation_opens_the_images_of_the_run_whatever_was_added(folder):
    _, val = open_train_and_val(folder, masks=False, val_fraction=0.2)

    def add(content):
        for number in range(30, 40):
            shutil.copy(folder / "train" / "1.png", folder / "train" / f"{number}.png")
            content["images"].append({**content["images"][0], "id": number, "file_name": f"{number}.png"})

    change(folder, "train", add)
    again = open_split(folder, "val", masks=False, held_out=val.held_out)
    assert (again.names, again.held_out) == (val.names, val.held_out)
    assert len(open_split(folder, "train", masks=False, held_out=val.held_out)) == 34


@pytest.mark.parametrize("gone", ["entry", "file"])
def test_missing_validation_images_are_counted_whether_their_entry_or_file_is_gone(folder, gone):
    _, val = open_train_and_val(folder, masks=False, val_fraction=0.2)
    lost = val.names[0]

    def lose(content):
        content["images"] = [image for image in content["images"] if image["file_name"] != lost]
        content["annotations"] = [entry for entry in content["annotations"] if f"{entry['image_id']}.png" != lost]

    if gone == "entry":
        change(folder, "train", lose)
    else:
        (folder / "train" / lost).unlink()
    again = open_split(folder, "val", masks=False, held_out=val.held_out)
    assert again.names == val.names[1:]
    assert (
        f"1 of the 5 images that training held out for validation is missing from {val.annotation_file}, the first of "
        f"them {lost}: the figures are over the others."
    ) in again.notices
    assert len(again.ground_truth()["images"]) == 4


def test_no_validation_image_of_a_run_is_refused_and_so_is_another_broken_entry(folder, tmp_path):
    _, val = open_train_and_val(folder, masks=False, val_fraction=0.2)
    other = write_split(tmp_path / "other", "train", [annotation()])
    (other / "train" / "1.png").rename(other / "train" / "x.png")
    change(other, "train", lambda content: content["images"][0].update(file_name="x.png"))
    with pytest.raises(
        FovealError, match=r"has none of the 5 images that training held out for validation, such as .*: pass the --da"
    ):
        open_split(other, "val", masks=False, held_out=val.held_out)
    (folder / "train" / val.names[0]).unlink()
    change(folder, "train", lambda content: content["annotations"][0].update(category_id=9))
    with pytest.raises(FovealError, match=r"and 1 more of its entries are broken"):
        open_split(folder, "val", masks=False, held_out=val.held_out)


def test_a_validation_split_of_its_own_is_used_and_excludes_a_draw(folder):
    _, val = open_train_and_val(folder, masks=False, val_fraction=0.2)
    write_split(folder, "valid", [annotation()])
    assert open_split(folder, "val", masks=False, held_out=val.held_out).annotation_file.name == "instances_valid.json"
    (notice,) = (
        found
        for found in open_split(folder, "val", masks=False, held_out=val.held_out).notices
        if "of its own" in found
    )
    assert notice == (
        f"{folder} has validation images of its own, {folder / 'annotations' / 'instances_valid.json'}: they are read, "
        "and not the 5 that training held out."
    )
    with pytest.raises(FovealError, match=r"has validation images of its own: leave --val-fraction out\.$"):
        open_train_and_val(folder, masks=False, val_fraction=0.2)


def test_a_draw_without_objects_is_refused(folder):
    def keep_few(content):
        content["annotations"] = content["annotations"][:1]

    change(folder, "train", keep_few)
    with pytest.raises(FovealError, match=r", of which 5 images are for validation, has no object to evaluate: no ann"):
        open_train_and_val(folder, masks=False, val_fraction=0.2)


def test_one_drawn_image_is_said_in_the_singular(tmp_path):
    entries = [annotation(1, image=1), annotation(2, image=2, category=7), annotation(3, image=3)]
    folder = write_split(tmp_path, "train", entries, [(40, 40)] * 3)
    train, val = open_train_and_val(folder, masks=False, val_fraction=0.3)
    assert train.notices[0].startswith(f"1 of the 3 images of {train.annotation_file} was drawn for validation, by cl")
    assert val.notices[0].startswith(f"{val.annotation_file}, of which one image is for validation, has no object of 1")


def test_images_of_one_export_are_drawn(folder, tmp_path):
    export = tmp_path / "export"
    shutil.copytree(folder / "train", export / "images")
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    (export / "result.json").write_text(json.dumps(content))
    train, val = open_train_and_val(export, masks=True, val_fraction=0.25, seed=3)
    assert (len(train), len(val)) == (18, 6)
    assert not np.isin(train.names, val.names).any()
    assert open_split(export, "val", masks=True, held_out=val.held_out).paths == val.paths
