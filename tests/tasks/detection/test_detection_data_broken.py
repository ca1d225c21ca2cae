"""Broken entries are named with their id and file, and rejected or skipped."""

import math
import sys

import pytest

from foveal.errors import FovealError
from foveal.tasks.detection.data import open_split
from support.coco_folders import annotation, change, write_split

GOOD = annotation(1)
BROKEN = {
    "box outside": (annotation(2, box=(31, 3, 4, 5)), r"has the box \[31, 3, 4, 5\] outside of its image of 30x20"),
    "box above": (annotation(2, box=(3, -9, 4, 9)), r"has the box \[3, -9, 4, 9\] outside"),
    "zero area": (annotation(2, box=(3, 3, 4, 0)), r"has the box \[3, 3, 4, 0\] of zero area"),
    "negative width": (annotation(2, box=(3, 3, -4, 2), segmentation=[]), r"has the box \[3, 3, -4, 2\] of zero area"),
    "NaN": (
        annotation(2, bbox=[1, math.nan, 3, 4], segmentation=[]),
        r"has the box \[1, nan, 3, 4\], which is not four finite numbers",
    ),
    "a word in box": (
        annotation(2, bbox=[1, "b", 3, 4], segmentation=[]),
        r"has the box .* which is not four finite numbers",
    ),
    "three values": (
        annotation(2, bbox=[1, 2, 3], segmentation=[]),
        r"has the box .* which is not four finite numbers",
    ),
    "unknown category": (annotation(2, category=4), r"has the category_id 4, and there is no such category"),
    "unknown image": (annotation(2, image=12), r"has the image_id 12, and there is no such image"),
    "a 400-digit number": (
        annotation(2, bbox=[1, 2, 10**400, 4], segmentation=[]),
        r"has the box .* which is not four finite",
    ),
    "no category": ({k: v for k, v in annotation(2).items() if k != "category_id"}, r"has no category_id"),
    "iscrowd of 2": (annotation(2, iscrowd=2), r"has iscrowd 2, which must be 0 or 1"),
}

BROKEN_MASKS = {
    "two points": (
        annotation(2, segmentation=[[1, 1, 5, 5]]),
        r"has a polygon of 2 points",
    ),
    "odd polygon": (annotation(2, segmentation=[[1, 1, 5, 5, 3, 4, 2]]), r"has a polygon that is not a list"),
    "NaN polygon": (annotation(2, segmentation=[[1, 1, 5, 5, 3, math.nan]]), r"has a polygon that is not a list"),
    "far polygon": (annotation(2, segmentation=[[1, 1, 5, 5, -1e9, 4]]), r"has a polygon that reaches far beyond"),
    "run lengths of another size": (
        annotation(2, segmentation={"size": [30, 20], "counts": [600]}),
        r"neither polygons nor run lengths of its image's size \[20, 30\]",
    ),
    "too few run lengths": (
        annotation(2, segmentation={"size": [20, 30], "counts": [10, 20]}),
        r"run lengths do not add up to its 600 pixels",
    ),
    "negative run lengths": (
        annotation(2, segmentation={"size": [20, 30], "counts": [601, -1]}),
        r"run lengths do not add up to its 600 pixels",
    ),
    "invalid run length text": (
        annotation(2, segmentation={"size": [20, 30], "counts": "no runs"}),
        r"run lengths do not add up to its 600 pixels",
    ),
    "no run of ones": (
        annotation(2, segmentation={"size": [20, 30], "counts": [600]}),
        r"has a segmentation that covers no pixel of its image",
    ),
    "ones of length zero": (
        annotation(2, segmentation={"size": [20, 30], "counts": [200, 0, 400]}),
        r"has a segmentation that covers no pixel of its image",
    ),
    "points on a line": (annotation(2, segmentation=[[1, 1, 5, 5, 9, 9]]), r"covers no pixel of its image"),
    "one point": (annotation(2, segmentation=[[3, 3, 3, 3, 3, 3]]), r"covers no pixel of its image"),
    "polygon beside its image": (
        annotation(2, segmentation=[[40, 30, 50, 30, 50, 40]]),
        r"covers no pixel of its image",
    ),
    "run lengths without counts": (
        annotation(2, segmentation={"size": [20, 30]}),
        r"counts are neither text nor whole numbers",
    ),
}


@pytest.fixture
def folder(tmp_path):
    return write_split(tmp_path, "train", [GOOD])


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_annotation_is_named_and_rejected_or_skipped(folder, kind):
    entry, sentence = BROKEN[kind]
    change(folder, "train", lambda content: content["annotations"].append(entry))
    named = rf"^Annotation {entry['id']}( of image 1 \(1.png\))? in .*annotations/instances_train.json .*{sentence}"
    for masks in (False, True):
        with pytest.raises(FovealError, match=named + r".*: repair it, or pass --broken skip to leave it out\.$"):
            open_split(folder, "train", masks=masks)
    images = open_split(folder, "train", masks=True, broken="skip")
    assert len(images.problems) == 1
    assert images.target(0)["boxes"].tolist() == [[2, 3, 6, 8]]
    assert images.ground_truth()["annotations"] == [GOOD]


@pytest.mark.parametrize("kind", BROKEN_MASKS)
def test_a_broken_mask_is_named_and_rejected_or_skipped_where_masks_are_read(folder, kind):
    entry, sentence = BROKEN_MASKS[kind]
    change(folder, "train", lambda content: content["annotations"].append(entry))
    named = rf"^Annotation 2 of image 1 \(1.png\) in .*annotations/instances_train.json .*{sentence}"
    with pytest.raises(FovealError, match=named + r".*: repair it, or pass --broken skip to leave it out\.$"):
        open_split(folder, "train", masks=True)
    images = open_split(folder, "train", masks=True, broken="skip")
    assert len(images.problems) == 1
    assert images.ground_truth()["annotations"] == [GOOD]
    unread = open_split(folder, "train", masks=False)
    assert (len(unread.target(0)["boxes"]), unread.notices) == (
        2,
        [f"{unread.annotation_file} has no object of 1 of its 2 classes: dog."],
    )


def test_segmentation_is_optional_without_masks(folder):
    change(folder, "train", lambda content: content["annotations"][0].pop("segmentation"))
    assert len(open_split(folder, "train", masks=False).target(0)["boxes"]) == 1
    with pytest.raises(FovealError, match=r"Annotation 1 of image 1 .* has no segmentation, which masks need"):
        open_split(folder, "train", masks=True)


IMAGES = {
    "missing file": (
        {"id": 2, "file_name": "9.png", "height": 4, "width": 4},
        r"has no file: there is no .*train/9.png",
    ),
    "duplicate id": ({"id": 1, "file_name": "2.png", "height": 20, "width": 30}, r"has the id of another image"),
    "no id": ({"file_name": "2.png", "height": 20, "width": 30}, r"has no id that is a whole number"),
    "no name": ({"id": 2, "height": 20, "width": 30}, r"has no file_name"),
    "no size": (
        {"id": 2, "file_name": "x.png", "height": 20},
        r"has no height and width in pixels, and .*x.png is not",
    ),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_broken_image_is_named_and_rejected_or_skipped(tmp_path, kind):
    entry, sentence = IMAGES[kind]
    write_split(tmp_path, "train", [GOOD, annotation(2, image=2)], [(20, 30), (20, 30)])
    (tmp_path / "train" / "x.png").write_bytes(b"no image")
    change(tmp_path, "train", lambda content: content["images"].__setitem__(1, entry))
    if "id" not in entry or entry["id"] == 1:
        change(tmp_path, "train", lambda content: content["annotations"].pop())
    named = rf"^Image {entry.get('id')} \({entry.get('file_name')}\) in .*/instances_train.json {sentence}"
    with pytest.raises(FovealError, match=named):
        open_split(tmp_path, "train", masks=False)
    images = open_split(tmp_path, "train", masks=True, broken="skip")
    assert len(images.problems) == 1
    assert images.image_ids == [1]
    assert [image["file_name"] for image in images.ground_truth()["images"]] == ["1.png"]
    assert images.ground_truth()["annotations"] == [GOOD]


@pytest.mark.parametrize("name", ["image_id", "category_id", "bbox"])
@pytest.mark.parametrize("value", ["text", [1], {}])
def test_a_field_of_another_type_is_reported(folder, name, value):
    change(
        folder,
        "train",
        lambda content: content["annotations"].append({**annotation(2), "segmentation": [], name: value}),
    )
    assert len(open_split(folder, "train", masks=True, broken="skip").problems) == 1


@pytest.mark.parametrize("value", ["text", 5, [5], ["text"], [["text"]], [{}], {"size": [20, 30], "counts": {}}])
def test_a_segmentation_of_another_type_is_reported(folder, value):
    change(folder, "train", lambda content: content["annotations"].append({**annotation(2), "segmentation": value}))
    assert len(open_split(folder, "train", masks=True, broken="skip").problems) == 1


def test_all_broken_entries_are_found_and_counted(folder):
    change(folder, "train", lambda content: content["annotations"].extend([BROKEN["zero area"][0], annotation(3, 8)]))
    with pytest.raises(FovealError, match=r"^Annotation 2 .* zero area, and 1 more of its entries are broken: repair"):
        open_split(folder, "train", masks=False)
    problems = open_split(folder, "train", masks=False, broken="skip").problems
    assert [problem.split(" in ")[0] for problem in problems] == ["Annotation 2 of image 1 (1.png)", "Annotation 3"]
    assert all(problem.endswith(".") for problem in problems)


def test_missing_faster_coco_eval_names_the_extra_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(FovealError, match=r"pip install 'foveal\[dense\]'"):
        open_split(folder, "train", masks=True)
    assert len(open_split(folder, "train", masks=False)) == 1


@pytest.mark.parametrize("box", [(5, 7, 0.4, 0.4), (5.1, 2, 0.05, 15)])
def test_masks_too_small_or_thin_for_a_pixel_are_kept_with_a_notice(folder, box):
    """COCO has some, and its evaluation counts them."""
    tiny = annotation(2, box=box, category=7)
    change(folder, "train", lambda content: content["annotations"].append(tiny))
    images = open_split(folder, "train", masks=True)
    assert images.target(0)["masks"].flatten(1).sum(1).tolist() == [20, 0]
    assert images.ground_truth()["annotations"] == [GOOD, tiny]
    assert images.notices == [
        f"{images.annotation_file}: masks too small or thin to cover a pixel (annotation 2 of image 1 (1.png))."
    ]
