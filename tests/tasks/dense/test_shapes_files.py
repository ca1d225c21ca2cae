"""The shapes dataset: reproducible, written completely or not at all, and without broken entries."""

import hashlib
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from foveal.errors import FovealError
from foveal.tasks.dense.shapes import CLASSES, shapes_folder, write_shapes
from foveal.tasks.dense.shapes import textures as photos
from foveal.tasks.dense.shapes.scenes import random_scene
from foveal.tasks.detection.data import open_train_and_val

COUNTS = dict(train=60, val=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", **COUNTS)


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_the_same_arguments_give_the_same_bytes(folder, tmp_path):
    assert digests(write_shapes(tmp_path / "again", **COUNTS)) == digests(folder)


def test_an_image_depends_on_the_seed_but_not_on_the_number_of_images(folder, tmp_path):
    few, other = write_shapes(tmp_path / "few", train=5, val=1), write_shapes(tmp_path / "s", seed=1, train=5, val=1)
    for number in range(1, 6):
        name = f"train/{number:06d}.jpg"
        assert (few / name).read_bytes() == (folder / name).read_bytes() != (other / name).read_bytes()


def test_train_and_val_share_no_background_photo(folder):
    assert set(photos.PHOTOGRAPHS["train"]) & set(photos.PHOTOGRAPHS["val"]) == set()
    known = {photo.tobytes() for photo in photos.photographs("train")}
    assert len(known) == len(photos.PHOTOGRAPHS["train"])
    assert known.isdisjoint(photo.tobytes() for photo in photos.photographs("val"))


def test_the_dataset_opens_and_has_every_class_and_kind_of_segmentation(folder):
    train, val = open_train_and_val(folder, masks=True)
    assert (len(train), len(val)) == (60, 12)
    assert train.classes == val.classes == list(CLASSES)
    assert {tuple(image.shape[-2:]) for image, _ in train} == {(128, 128), (128, 160), (160, 128)}
    labels = torch.cat([target["labels"] for _, target in train])
    assert labels.bincount(minlength=len(CLASSES)).min() > 10
    kinds = {type(entry["segmentation"]) for entry in train.ground_truth()["annotations"]}
    assert kinds == {list, dict}


@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_areas_and_label_maps_match_the_masks_of_pycocotools(folder, split):
    peer = COCO(folder / "annotations" / f"instances_{split}.json")
    for image in peer.imgs.values():
        labels = np.zeros((image["height"], image["width"]), dtype=np.uint8)
        for entry in peer.loadAnns(peer.getAnnIds(image["id"])):
            mask = peer.annToMask(entry).astype(bool)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            left, top, width, height = entry["bbox"]
            assert (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1) == (left, left + width, top, top + height)
            assert entry["area"] == mask.sum()
            assert not labels[mask].any()  # objects do not overlap
            labels[mask] = entry["category_id"]
        stored = np.asarray(Image.open(folder / "labels" / split / image["file_name"].replace("jpg", "png")))
        assert (stored == labels).all()


def test_background_pixels_equal_the_photo(folder):
    """Only objects and the pixels at their edges are drawn."""
    scene = random_scene(np.random.default_rng([0, False, 1]), "train", 128, 160)
    background = photos.random_crop(np.random.default_rng([0, False, 1]), "train", 128, 160)
    changed = (scene.image != background).any(2)
    assert changed[scene.owner >= 0].mean() > 0.9
    inside = np.pad(scene.owner >= 0, 2)
    near = np.zeros_like(changed)
    for y in range(5):
        for x in range(5):
            near |= inside[y : y + 128, x : x + 160]
    assert not changed[~near].any()


def test_few_images_are_empty_and_objects_are_mostly_visible():
    draws = [random_scene(np.random.default_rng(seed), "val", 64, 80) for seed in range(300)]
    empty = sum(not scene.labels for scene in draws)
    assert 1 <= empty <= 20
    assert max(len(scene.labels) for scene in draws) == 5
    for scene in draws:
        for mask, size in zip(scene.masks(), scene.sizes, strict=True):
            assert mask.sum() >= 0.6 * size


def test_the_cache_folder_depends_on_its_content_and_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path))
    first = shapes_folder(train=3, val=1)
    assert first.parent == tmp_path
    before = (first / "train" / "000001.jpg").stat().st_mtime_ns
    assert shapes_folder(train=3, val=1) == first
    assert (first / "train" / "000001.jpg").stat().st_mtime_ns == before
    assert shapes_folder(train=3, val=1, seed=1) != first


def test_an_interruption_leaves_no_files(tmp_path, monkeypatch):
    written = []

    def interrupted(self, path, **words):
        written.append(path)
        if len(written) == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "shapes", **COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_content_is_rejected(folder, tmp_path):
    assert write_shapes(folder, **COUNTS) == folder
    with pytest.raises(FovealError, match="has 60 of the 61 images"):
        write_shapes(folder, train=61, val=12)
    (tmp_path / "train").mkdir()
    with pytest.raises(FovealError, match="has 0 of the 60 images of shapes for train"):
        write_shapes(tmp_path, **COUNTS)


def test_string_paths_and_images_of_32_pixels_are_supported(tmp_path):
    folder = write_shapes(str(tmp_path / "small"), train=40, val=2, side=32)
    train, _ = open_train_and_val(folder, masks=True)
    assert min(train[0][0].shape[-2:]) == 32


@pytest.mark.parametrize("wrong", [dict(side=31), dict(train=-1), dict(val=-1), dict(seed=-1)])
def test_out_of_range_numbers_are_rejected(tmp_path, wrong):
    with pytest.raises(FovealError, match="at least 32 pixels, and non-negative numbers of images and seeds"):
        write_shapes(tmp_path / "shapes", **wrong)


def test_an_unwritable_folder_is_named_in_the_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FovealError, match=r"file/shapes could not be written \(.+\): make room"):
        write_shapes(tmp_path / "file" / "shapes", **COUNTS)


def test_missing_scikit_image_names_the_extra_to_install(tmp_path, monkeypatch):
    photos.photographs.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(FovealError, match=r"pip install 'foveal\[dense\]'"):
        write_shapes(tmp_path / "shapes", **COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_category_ids_start_at_1(folder):
    content = json.loads((folder / "annotations" / "instances_val.json").read_text())
    assert [entry["id"] for entry in content["categories"]] == [1, 2, 3, 4, 5]
    assert [entry["name"] for entry in content["categories"]] == list(CLASSES)


def test_classes_txt_names_the_labels_of_the_label_maps(folder):
    assert (folder / "classes.txt").read_text() == "background\ncircle\nrectangle\ntriangle\nstar\nring\n"
