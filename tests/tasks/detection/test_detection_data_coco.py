"""Datasets in the COCO layout: targets contain the annotations of the files."""

import gc
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as pycoco
from pycocotools.coco import COCO

from foveal.errors import BrokenSample, FovealError
from foveal.tasks.detection.average_precision import average_precision
from foveal.tasks.detection.data import open_split, open_train_and_val
from foveal.tasks.detection.detector import check_targets
from foveal.tasks.detection.rle import decode_runs, run_lengths
from support.coco_folders import annotation, change, write_split


@pytest.mark.parametrize("year", ["", "2017"])
def test_an_item_is_an_image_and_its_annotations(tmp_path, year):
    annotations = [
        annotation(5, image=2, box=(1.5, 2, 10, 4), category=7, area=33.5),
        annotation(6, image=1, box=(0, 0, 30, 20), category=3),
        annotation(9, image=2, box=(20, 3, 4, 6), category=3),
    ]
    write_split(tmp_path, "train", annotations, [(20, 30), (12, 40)], year)
    images = open_split(tmp_path, "train", masks=False)
    assert (images.classes, images.category_ids, images.image_ids) == (["cat", "dog"], [3, 7], [1, 2])
    assert images.paths == [str(tmp_path / f"train{year}" / f"{number}.png") for number in (1, 2)]
    image, target = images[1]
    pixels = np.asarray(Image.open(images.paths[1]))
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255)
    assert target["boxes"].tolist() == [[1.5, 2, 11.5, 6], [20, 3, 24, 9]]
    assert target["labels"].tolist() == [1, 0]
    assert target["area"].tolist() == [33.5, 24]
    assert target["iscrowd"].tolist() == [0, 0]
    assert target["image_id"].item() == 2
    assert "masks" not in target


def test_boxes_are_clipped_to_the_image(tmp_path):
    write_split(tmp_path, "train", [annotation(box=(-1, 15, 10, 6.5)), annotation(2, box=(28, -2, 5, 8))])
    target = open_split(tmp_path, "train", masks=False).target(0)
    assert target["boxes"].tolist() == [[0, 15, 9, 20], [28, 0, 30, 6]]


def test_masks_of_polygons_and_run_lengths_match_pycocotools(tmp_path):
    draw = np.random.default_rng(1)
    height, width = 43, 61
    blob = draw.random((height, width)) < 0.4
    coded = pycoco.encode(np.asfortranarray(blob, dtype=np.uint8))
    runs = np.diff(np.flatnonzero(np.diff(blob.T.ravel(), prepend=False)), prepend=0).tolist()
    uncompressed = {"size": [height, width], "counts": [*runs, height * width - sum(runs)]}
    star = (np.array([30, 20]) + np.array([[20, 0], [3, 4], [-8, 19.3], [-4, 0], [6, -18.7]])).ravel().tolist()
    two = [star, [1.2, 1.7, 9.9, 2.5, 3.3, 8.1]]
    outside = [[-5.5, -3, 70, 10, 20.2, 50]]
    everything = {"size": [height, width], "counts": [0, height * width]}
    kinds = [{**coded, "counts": coded["counts"].decode()}, uncompressed, [star], two, outside, everything]
    annotations = [annotation(number, segmentation=kind) for number, kind in enumerate(kinds, 1)]
    write_split(tmp_path, "train", annotations, [(height, width)])
    masks = open_split(tmp_path, "train", masks=True).target(0)["masks"]
    assert masks.dtype == torch.uint8
    peer = COCO(tmp_path / "annotations" / "instances_train.json")
    assert (masks.numpy() == np.stack([peer.annToMask(peer.anns[number]) for number in range(1, 7)])).all()
    assert (masks[:2].numpy() == blob).all()
    assert masks[5].all()


def test_masks_match_their_boxes_if_annotations_of_images_alternate(tmp_path):
    boxes = [(1, 2, 5, 4), (3, 3, 2, 6), (0, 0, 9, 9), (10, 1, 7, 2), (4, 5, 6, 7)]
    annotations = [annotation(number, image=1 + number % 2, box=box) for number, box in enumerate(boxes, 1)]
    write_split(tmp_path, "train", annotations, [(20, 30), (25, 31)])
    images = open_split(tmp_path, "train", masks=True)
    assert [len(images.target(index)["masks"]) for index in (0, 1)] == [2, 3]
    for index in (0, 1):
        target = images.target(index)
        for box, mask in zip(target["boxes"].int().tolist(), target["masks"], strict=True):
            expected = torch.zeros_like(mask)
            expected[box[1] : box[3], box[0] : box[2]] = 1
            assert torch.equal(mask, expected)


def test_run_lengths_are_decoded_as_by_pycocotools():
    draw = np.random.default_rng(0)
    for share in (0.001, 0.03, 0.5, 0.99):
        mask = (draw.random((97, 203)) < share).astype(np.uint8)
        counts = pycoco.encode(np.asfortranarray(mask))["counts"]
        assert (decode_runs(counts, 97, 203) == mask).all()
    assert decode_runs(pycoco.encode(np.zeros((3, 5), np.uint8, order="F"))["counts"], 3, 5).tolist() == [[0] * 5] * 3


def test_truncated_run_lengths_are_rejected():
    assert run_lengths(b"0").tolist() == [0]
    assert run_lengths(b"0P").tolist() == []
    assert run_lengths(b"").tolist() == []


def test_images_may_be_in_subfolders(tmp_path):
    write_split(tmp_path, "train", [annotation()])
    (tmp_path / "train" / "a").mkdir()
    (tmp_path / "train" / "1.png").rename(tmp_path / "train" / "a" / "1.png")
    change(tmp_path, "train", lambda content: content["images"][0].update(file_name="a/1.png"))
    assert open_split(tmp_path, "train", masks=False)[0][0].shape == (3, 20, 30)


def test_crowds_are_in_the_ground_truth_but_not_in_targets(tmp_path):
    crowd = {"size": [20, 30], "counts": [0, 300, 300]}
    annotations = [annotation(1), annotation(2, box=(0, 0, 15, 20), iscrowd=1, segmentation=crowd)]
    images = open_split(write_split(tmp_path, "train", annotations), "train", masks=True)
    assert images.target(0)["boxes"].tolist() == [[2, 3, 6, 8]]
    assert images.target(0)["masks"].shape == (1, 20, 30)
    assert [entry["id"] for entry in images.ground_truth()["annotations"]] == [1, 2]


def test_an_image_without_objects_has_a_valid_target(tmp_path):
    images = open_split(write_split(tmp_path, "train", []), "train", masks=True)
    image, target = images[0]
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 20, 30)
    check_targets([image], [target], num_classes=2, masks=True)


def test_dropping_keeps_images_with_objects_and_at_least_32_pixels(tmp_path):
    sizes = [(32, 32), (32, 31), (50, 60), (50, 60), (32, 40)]
    annotations = [annotation(1, 1), annotation(2, 2), annotation(3, 4, iscrowd=1), annotation(4, 5, category=7)]
    write_split(tmp_path, "train", annotations, sizes)
    write_split(tmp_path, "val", annotations, sizes)
    train, val = open_train_and_val(tmp_path, masks=False, empty="drop")
    assert train.image_ids == [1, 5]
    assert train.target(1)["labels"].tolist() == [1]
    assert [entry["id"] for entry in train.ground_truth()["images"]] == [1, 5]
    assert [entry["id"] for entry in train.ground_truth()["annotations"]] == [1, 4]
    assert val.image_ids == [1, 2, 3, 4, 5]


OTHER_IDS = "categories with other ids than in training, read by their names"
CATEGORIES = {  # of validation: ids of cat and dog, which are 3 and 7 in training, and the notice
    "other ids": ({10: "cat", 20: "dog"}, f"{OTHER_IDS} (2, the first: category 10 ('cat'))."),
    "exchanged": ({3: "dog", 7: "cat"}, f"{OTHER_IDS} (2, the first: category 3 ('dog'))."),
    "one moved": ({3: "cat", 9: "dog"}, f"{OTHER_IDS} (category 9 ('dog'))."),
    "one more": (
        {3: "cat", 7: "dog", 8: "eel"},
        "has categories without an object that training does not have, left out: eel.",
    ),
    "text": ({"7": "cat", "3": "dog"}, f"{OTHER_IDS} (2, the first: category 3 ('dog'))."),
}


@pytest.mark.parametrize("kind", CATEGORIES)
def test_categories_of_validation_are_matched_by_name(tmp_path, kind):
    names, notice = CATEGORIES[kind]
    ids = {name: int(number) for number, name in names.items()}
    entries = [annotation(1, category=ids["dog"]), annotation(2, category=ids["cat"], iscrowd=1)]
    entries += [annotation(3, category=ids["eel"], iscrowd=1)] if "eel" in ids else []
    write_split(tmp_path, "train", [annotation(1), annotation(2, category=7)])
    categories = [{"id": number, "name": name} for number, name in names.items()]
    write_split(tmp_path, "val", entries, categories=categories)
    _, val = open_train_and_val(tmp_path, masks=False)
    evaluated = open_split(tmp_path, "val", masks=False, classes={3: "cat", 7: "dog"})
    for images in (val, evaluated):
        assert (images.classes, images.category_ids) == (["cat", "dog"], [3, 7])
        assert images.target(0)["labels"].tolist() == [1]
        assert any(notice in found for found in images.notices)
        truth = images.ground_truth()
        assert [entry["category_id"] for entry in truth["annotations"]] == [7, 3]
        assert sorted(truth["categories"], key=lambda entry: entry["id"]) == [
            {"id": 3, "name": "cat"},
            {"id": 7, "name": "dog"},
        ]
        found = [{"image_id": 1, "category_id": 7, "bbox": [2, 3, 4, 5], "score": 0.9}]
        assert average_precision(truth, found, "box").classes == {"dog": pytest.approx(100)}


@pytest.mark.parametrize("broken", ["stop", "skip"])
def test_objects_of_classes_that_training_does_not_have_are_refused(tmp_path, broken):
    write_split(tmp_path, "train", [annotation()])
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "Dog"}]
    write_split(tmp_path, "val", [annotation(), annotation(2, category=7)], categories=categories)
    with pytest.raises(
        FovealError,
        match=r"val.json has objects of classes that training does not have, Dog \(annotation 2 of image 1 \(1.png\)\)"
        r": name its categories as in training \(cat, dog\), or pass other --data\.$",
    ):
        open_train_and_val(tmp_path, masks=False, broken=broken)


def test_a_train_split_without_objects_is_rejected(tmp_path):
    write_split(tmp_path, "train", [annotation(iscrowd=1)])
    write_split(tmp_path, "val", [])
    with pytest.raises(FovealError, match=r"instances_train.json has no object to train on"):
        open_train_and_val(tmp_path, masks=False)


@pytest.mark.parametrize(("split", "year"), [("val", "2017"), ("val", ""), ("valid", ""), ("test", "2017")])
def test_a_set_is_called_as_on_the_disk(tmp_path, split, year):
    write_split(tmp_path, split, [annotation()], year=year)
    assert open_split(tmp_path, "test" if split == "test" else "val", masks=False).set_name == split


def test_missing_files_are_named_in_the_error(tmp_path):
    with pytest.raises(FovealError, match=r"There is no folder .*nowhere"):
        open_split(tmp_path / "nowhere", "train", masks=False)
    write_split(tmp_path, "train", [annotation()])
    with pytest.raises(FovealError, match=r"has no annotations for val: .*instances_val2017.json"):
        open_train_and_val(tmp_path, masks=False)
    (tmp_path / "train").rename(tmp_path / "pictures")
    with pytest.raises(FovealError, match=r"instances_train.json needs its images in .*train"):
        open_split(tmp_path, "train", masks=False)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "has no list of images"),
        ('{"images": [], "annotations": 3}', "has no list of annotations"),
        ('{"images": [], "annotations": [], "categories": []}', "has no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "has a category without an id or a name"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            r"has the category 1 \('b'\) twice",
        ),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "has no usable image"),
    ],
)
def test_an_invalid_annotation_file_is_rejected(tmp_path, content, sentence):
    file = write_split(tmp_path) / "annotations" / "instances_train.json"
    file.write_text(content)
    with pytest.raises(FovealError, match=rf"^{file} {sentence}"):
        open_split(tmp_path, "train", masks=False, broken="skip")


def test_class_names_are_utf_8_with_or_without_a_byte_order_mark(tmp_path):
    file = write_split(tmp_path) / "annotations" / "instances_train.json"
    text = json.dumps(
        {**json.loads(file.read_text()), "categories": [{"id": 1, "name": "Häschen"}]}, ensure_ascii=False
    )
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(text, encoding=encoding)
        assert open_split(tmp_path, "train", masks=False).classes == ["Häschen"]


def test_broken_images_and_wrong_sizes_raise_an_error_when_read(tmp_path):
    write_split(tmp_path, "train", [annotation()], [(20, 30), (20, 30)])
    (tmp_path / "train" / "1.png").write_bytes(b"no image")
    change(tmp_path, "train", lambda content: content["images"][1].update(width=31))
    images = open_split(tmp_path, "train", masks=False)
    with pytest.raises(BrokenSample, match=r"train/1.png is not a readable image"):
        images[0]
    with pytest.raises(BrokenSample, match=r"train/2.png has 30x20 pixels, and .*instances_train.json says 31x20"):
        images[1]


def test_the_ground_truth_equals_the_file(tmp_path):
    write_split(tmp_path, "val", [annotation(), annotation(2, category=7)], [(20, 30), (9, 9)])
    images = open_split(tmp_path, "val", masks=False)
    assert images.ground_truth() == json.loads(images.annotation_file.read_text())


def test_the_garbage_collector_is_enabled_again_after_reading(tmp_path):
    write_split(tmp_path, "train", [annotation()])
    open_split(tmp_path, "train", masks=False)
    assert gc.isenabled()
    (tmp_path / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(FovealError):
        open_split(tmp_path, "train", masks=False)
    assert gc.isenabled()


@pytest.mark.parametrize("size", [(20, 30), (30, 20)])
def test_exif_orientation_is_applied_if_it_matches_the_annotated_size(tmp_path, size):
    """A file of 20 x 30 with orientation 6 is 30 x 20 upright."""
    folder = write_split(tmp_path, annotations=[annotation()], sizes=[size])
    ramp = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) % 251
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)).save(folder / "train" / "1.png", exif=exif)
    image = open_split(folder, "train", masks=False).image(0)
    expected = ramp if size == (20, 30) else np.rot90(ramp, -1)
    assert image[0].tolist() == expected.tolist()
