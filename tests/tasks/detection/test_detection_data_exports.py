"""Exports of Roboflow, Label Studio and CVAT are read as they come, without a notice where nothing is missing."""

import json
from pathlib import Path

import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.detection.data import open_split, open_train_and_val


def image(folder: Path, name: str, size=(30, 20)) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(folder / name)


def write_json(path: Path, images, annotations, categories, **others) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "categories": categories, "annotations": annotations, **others}
    path.write_text(json.dumps(content))


def box(number, picture, category, **others):
    return {
        "id": number,
        "image_id": picture,
        "category_id": category,
        "bbox": [2.5, 3, 4, 5],
        "area": 20,
        "segmentation": [],
        "iscrowd": 0,
        **others,
    }


def roboflow(folder: Path, splits=("train", "valid", "test"), root=True) -> Path:
    """Ids from 0, and a heading of all classes as category 0."""
    categories = [{"id": 0, "name": "sea", "supercategory": "none"}] if root else []
    categories += [{"id": number, "name": name, "supercategory": "sea"} for number, name in ((1, "crab"), (2, "eel"))]
    for split in splits:
        names = [f"{letter}_jpg.rf.7{letter}.jpg" for letter in "ab"]
        pictures = []
        for number, name in enumerate(names):
            image(folder / split, name)
            captured = {"license": 1, "date_captured": "2026-01-01T00:00:00+00:00"}
            pictures.append({"id": number, "file_name": name, "height": 20, "width": 30, **captured})
        entries = [box(0, 0, 1), box(1, 0, 2), box(2, 1, 1)]
        write_json(folder / split / "_annotations.coco.json", pictures, entries, categories, info={}, licenses=[{}])
    (folder / "README.roboflow.txt").write_text("from Roboflow")
    return folder


def test_roboflow(tmp_path):
    train, val = open_train_and_val(roboflow(tmp_path, root=False), masks=False)
    assert (train.annotation_file.parent.name, val.annotation_file.parent.name) == ("train", "valid")
    assert (train.set_name, val.set_name) == ("train", "valid")
    for images in (train, val):
        assert (images.classes, images.category_ids, images.image_ids) == (["crab", "eel"], [1, 2], [0, 1])
        assert [images.target(index)["labels"].tolist() for index in (0, 1)] == [[0, 1], [0]]
        assert images[1][0].shape == (3, 20, 30)
        assert images.notices == []
    for name in ("val", "valid", "validation"):
        assert open_split(tmp_path, name, masks=False).paths == val.paths
    assert open_split(tmp_path, "test", masks=False).annotation_file.parent.name == "test"


def test_roboflows_heading_is_a_class_without_objects(tmp_path):
    train, _ = open_train_and_val(roboflow(tmp_path), masks=False)
    assert train.classes == ["sea", "crab", "eel"]
    assert train.notices == [f"{train.annotation_file} has no object of 1 of its 3 classes: sea."]


@pytest.mark.parametrize("prefix", ["images/", "images/3/", "images\\", "../../data/media/upload/3/", ""])
def test_label_studio(tmp_path, prefix):
    """Ids from 0, no supercategory, ``ignore`` beside ``iscrowd``; where file names start depends on the version."""
    folder = "images/3/" if prefix == "images/3/" else "images/"
    pictures = []
    for number, name in enumerate(("4f3a-my cat.jpg", "91bc-dog.jpg")):
        image(tmp_path, folder + name)
        pictures.append({"width": 30, "height": 20, "id": number, "file_name": prefix + name})
    entries = [box(0, 0, 0, ignore=0), box(1, 1, 1, ignore=0)]
    write_json(tmp_path / "result.json", pictures, entries, [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}])
    images = open_split(tmp_path.parent, tmp_path.name, masks=False)
    assert images.classes == ["cat", "dog"]
    assert images.target(1)["boxes"].tolist() == [[2.5, 3, 6.5, 8]]
    assert [item[0].shape for item in (images[0], images[1])] == [(3, 20, 30)] * 2
    assert len(images.notices) == (prefix in ("images\\", "../../data/media/upload/3/"))
    assert images.ground_truth()["annotations"][0]["id"] == 0


@pytest.mark.parametrize("folder", ["images", "images/default"])
def test_cvat(tmp_path, folder):
    for name in ("frame_000000.png", "sub/frame_000001.png"):
        image(tmp_path / folder, name)
    pictures = [
        {"id": 1, "width": 30, "height": 20, "file_name": "frame_000000.png", "license": 0, "coco_url": ""},
        {"id": 2, "width": 30, "height": 20, "file_name": "sub/frame_000001.png", "license": 0, "coco_url": ""},
    ]
    entries = [
        box(1, 1, 1, area=20.0, attributes={"occluded": False, "rotation": 0.0}),
        box(2, 2, 2, segmentation=[[4.0, 4.0, 14.0, 4.0, 4.0, 10.0]], area=30.0),
    ]
    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in ((1, "cat"), (2, "dog"))]
    write_json(tmp_path / "annotations" / "instances_default.json", pictures, entries, categories)
    images = open_split(tmp_path.parent, tmp_path.name, masks=False)
    assert [item[0].shape for item in (images[0], images[1])] == [(3, 20, 30)] * 2
    assert images.notices == []


def test_cvats_masks_are_crowds_and_the_error_says_what_to_do(tmp_path):
    image(tmp_path / "images", "a.png")
    entry = box(1, 1, 1, iscrowd=1, segmentation={"counts": [63, 5, 532], "size": [20, 30]})
    pictures = [{"id": 1, "width": 30, "height": 20, "file_name": "a.png"}]
    for subset in ("Train", "Validation"):
        file = tmp_path / "annotations" / f"instances_{subset}.json"
        write_json(file, pictures, [entry], [{"id": 1, "name": "cat"}])
    with pytest.raises(
        FovealError, match=r"instances_Train.json has no usable image: only crowds \(a.png\): set iscrowd to 0 .*CVAT"
    ):
        open_train_and_val(tmp_path, masks=True, broken="skip", empty="drop")


def test_cvats_subsets_have_capital_letters(tmp_path):
    for subset in ("Train", "Validation"):
        image(tmp_path / "images" / subset, "a.png")
        pictures = [{"id": 1, "width": 30, "height": 20, "file_name": "a.png"}]
        file = tmp_path / "annotations" / f"instances_{subset}.json"
        write_json(file, pictures, [box(1, 1, 1)], [{"id": 1, "name": "cat"}])
    train, val = open_train_and_val(tmp_path, masks=False)
    assert [Path(images.paths[0]).parent.name for images in (train, val)] == ["Train", "Validation"]
    assert [images.set_name for images in (train, val)] == ["Train", "Validation"]
    assert [images.notices for images in (train, val)] == [[], []]
    assert val[0][0].shape == (3, 20, 30)


@pytest.mark.parametrize(
    "export",
    [
        "result.json",
        "annotations/instances_default.json",
        "annotations.json",
        "_annotations.coco-segmentation.json",
        "labels.json",
    ],
)
def test_a_split_may_be_an_export_of_its_own(tmp_path, export):
    for split in ("train", "valid"):
        image(tmp_path / split / "images", "a.png")
        pictures = [{"id": 1, "width": 30, "height": 20, "file_name": "images/a.png"}]
        write_json(tmp_path / split / export, pictures, [box(1, 1, 1)], [{"id": 1, "name": "cat"}])
    train, val = open_train_and_val(tmp_path, masks=False)
    assert [images.paths for images in (train, val)] == [
        [str(tmp_path / split / "images" / "a.png")] for split in ("train", "valid")
    ]


@pytest.mark.parametrize("file", ["annotations/{}.json", "{}.json"])
@pytest.mark.parametrize("name", ["{}/a.png", "images/{}/a.png", "images/{}_a.png"])
def test_annotation_files_may_be_called_like_their_split(tmp_path, file, name):
    for split in ("train", "validation"):
        image(tmp_path, name.format(split))
        pictures = [{"id": 1, "width": 30, "height": 20, "file_name": name.format(split)}]
        write_json(tmp_path / file.format(split), pictures, [box(1, 1, 1)], [{"id": 1, "name": "cat"}])
    train, val = open_train_and_val(tmp_path, masks=False)
    assert [images.set_name for images in (train, val)] == ["train", "validation"]
    assert [Path(images.paths[0]) for images in (train, val)] == [
        tmp_path / name.format(split) for split in ("train", "validation")
    ]
    assert [images.notices for images in (train, val)] == [[], []]


def test_a_folder_without_a_split_says_what_to_pass(tmp_path):
    roboflow(tmp_path, splits=("train",))
    with pytest.raises(FovealError, match=r"no annotations for val: put them .*, or pass --val-fraction 0.2 to draw"):
        open_train_and_val(tmp_path, masks=False)
    with pytest.raises(FovealError, match=r"no annotations for train: .*, or pass --val-fraction 0.2 to draw"):
        open_train_and_val(tmp_path / "train", masks=False)
    for split in ("val", "test"):  # evaluation draws no images
        with pytest.raises(
            FovealError,
            match=rf"no annotations for {split}: put them into \S+ or \S+; it has README.roboflow.txt, train\.$",
        ):
            open_split(tmp_path, split, masks=False)


def test_fiftyone(tmp_path):
    for split in ("train", "validation"):
        image(tmp_path / split / "data", "a.png")
        pictures = [{"id": 1, "width": 30, "height": 20, "file_name": "a.png"}]
        write_json(tmp_path / split / "labels.json", pictures, [box(1, 1, 1)], [{"id": 1, "name": "cat"}], info={})
    for images in open_train_and_val(tmp_path, masks=False):
        assert images.notices == []
        assert images[0][0].shape == (3, 20, 30)
