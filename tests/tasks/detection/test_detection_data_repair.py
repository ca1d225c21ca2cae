"""Entries that are not written as in COCO are read as what they mean, with a notice and a count."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco

from foveal.errors import FovealError
from foveal.tasks.detection.data import open_split
from foveal.tasks.detection.evaluate import counted_truth
from support.coco_folders import annotation, change, write_split

TRIANGLE = [4, 4, 14, 4, 4, 10]  # 30 pixels
BOX = {"boxes": [[2, 3, 6, 8]], "area": [20]}


def without(entry, *names):
    return {name: value for name, value in entry.items() if name not in names}


def rle(top, left, bottom, right, text=True):
    pixels = np.zeros((20, 30), dtype=np.uint8, order="F")
    pixels[top:bottom, left:right] = 1
    coded = pycoco.encode(pixels)
    if text:
        return {**coded, "counts": coded["counts"].decode()}
    ends = np.flatnonzero(np.diff(pixels.T.ravel(), prepend=0)).tolist()
    return {"size": [20, 30], "counts": np.diff([0, *ends, 600]).tolist()}


AREA = "area missing or not above zero, computed from the mask, or from the box if there is none"
NUMBERS = "numbers written as text or with a decimal point, read as whole numbers"
TEXT = "numbers written as text, read as numbers"
BOX_MISSING = "box missing or without area, computed from the mask"
RUNS = rle(3, 2, 6, 7, text=False)
MASK_BOX = {"boxes": [[2, 3, 7, 6]], "area": [3]}
ANNOTATIONS = {
    "area as text": (annotation(area="20.0"), BOX, TEXT),
    "area zero as text": (annotation(area="0", segmentation=[]), BOX, TEXT),
    "area in a list": (annotation(area=[7], segmentation=[TRIANGLE]), {**BOX, "area": [30]}, AREA),
    "area a word": (annotation(area="large"), BOX, AREA),
    "box as text": (annotation(bbox=["2", "3.0", " 4", "5"]), BOX, TEXT),
    "box of zeros": (annotation(bbox=[0, 0, 0, 0], area=3, segmentation=RUNS), MASK_BOX, BOX_MISSING),
    "box of corners": (annotation(bbox={"x": 1}, area=3, segmentation=RUNS), MASK_BOX, BOX_MISSING),
    "box of five numbers": (annotation(bbox=[1, 2, 3, 4, 0.9], area=3, segmentation=RUNS), MASK_BOX, BOX_MISSING),
    "box NaN": (annotation(bbox=[1, math.nan, 3, 4], area=3, segmentation=RUNS), MASK_BOX, BOX_MISSING),
    "box of negative width": (annotation(bbox=[7, 3, -5, 3], area=3, segmentation=RUNS), MASK_BOX, BOX_MISSING),
    "area missing": (without(annotation(), "area"), BOX, AREA),
    "area missing, no mask": (without(annotation(), "area", "segmentation"), BOX, AREA),
    "area null": (annotation(area=None), BOX, AREA),
    "area zero": (annotation(area=0), BOX, AREA),
    "area negative": (annotation(area=-20.0), BOX, AREA),
    "area NaN": (annotation(area=math.nan), BOX, AREA),
    "area of a polygon": (annotation(area=0, segmentation=[TRIANGLE]), {**BOX, "area": [30]}, AREA),
    "area of run lengths": (annotation(area=0, segmentation=rle(3, 2, 6, 6)), {**BOX, "area": [12]}, AREA),
    "area of long run lengths": (
        annotation(area=0, segmentation=rle(3, 2, 6, 6, text=False)),
        {**BOX, "area": [12]},
        AREA,
    ),
    "area of the good polygon": (
        annotation(area=0, segmentation=[[1, 1], TRIANGLE, "x"]),
        {**BOX, "area": [30]},
        AREA,
    ),
    "box missing": (
        without(annotation(segmentation=[TRIANGLE]), "bbox"),
        {"boxes": [[4, 4, 14, 10]], "area": [20]},
        BOX_MISSING,
    ),
    "box null, run lengths": (
        {**annotation(area=3, segmentation=rle(3, 2, 6, 7)), "bbox": None},
        {"boxes": [[2, 3, 7, 6]], "area": [3]},
        BOX_MISSING,
    ),
    "iscrowd null": (annotation(iscrowd=None), BOX, "iscrowd null or text, read as the number that it means"),
    "iscrowd text": (annotation(iscrowd="0"), BOX, "iscrowd null or text, read as the number that it means"),
    "ids as text": ({**annotation(), "id": "1", "image_id": "1", "category_id": "3"}, BOX, NUMBERS),
    "ids with a decimal point": ({**annotation(), "id": 1.0, "image_id": 1.0, "category_id": 3.0}, BOX, NUMBERS),
}


BOXES_ONLY = (
    "area missing, no mask",
    "area zero as text",
    "area of the good polygon",
)  # with masks there is something else to say


@pytest.mark.parametrize(
    ("kind", "masks"),
    [*((kind, False) for kind in ANNOTATIONS), *((kind, True) for kind in ANNOTATIONS if kind not in BOXES_ONLY)],
)
def test_what_an_annotation_means_is_derived(tmp_path, kind, masks):
    entry, expected, notice = ANNOTATIONS[kind]
    images = open_split(write_split(tmp_path, "train", [entry]), "train", masks=masks)
    target = images.target(0)
    assert {name: target[name].tolist() for name in expected} == expected
    which = f"annotation {entry['id']} of image 1 (1.png)"
    assert images.notices[0] == f"{images.annotation_file}: {notice} ({which})."
    truth = counted_truth(images, [1], masks)
    x1, y1, x2, y2 = expected["boxes"][0]
    (read,) = truth["annotations"]
    assert (read["bbox"], read["area"], read.get("iscrowd", 0)) == ([x1, y1, x2 - x1, y2 - y1], expected["area"][0], 0)
    assert [type(read[name]) for name in ("id", "image_id", "category_id")] == [int] * 3


RENUMBERED = "ids that are missing, no whole numbers or used twice: annotations are numbered anew"


@pytest.mark.parametrize(
    "ids", [(1, 1, 1), (None, None, None), ("x1", "x2", "x3"), (1.5, [2], {}), ("1", 1, 1.0), (7, "a", "a")]
)
@pytest.mark.parametrize("broken", ["stop", "skip"])
def test_no_object_is_lost_for_the_id_of_its_annotation(tmp_path, ids, broken):
    boxes = [(2, 3, 4, 5), (6, 3, 4, 5), (8, 9, 7, 6)]
    entries = [{**annotation(box=box), "id": number} for number, box in zip(ids, boxes, strict=True)]
    if ids[0] is None:
        entries = [without(entry, "id") for entry in entries]
    images = open_split(write_split(tmp_path, "train", entries), "train", masks=True, broken=broken)
    assert images.target(0)["boxes"].tolist() == [[x, y, x + w, y + h] for x, y, w, h in boxes]
    count = sum(f"{RENUMBERED} (" in notice for notice in images.notices)
    first = {1: 1, None: "at place 1", "x1": "x1", 1.5: 1.5, "1": 1, 7: "a"}[ids[0]]
    number = 3 - (type(ids[0]) is int or ids[0] == "1")
    assert count == 1
    assert f"{RENUMBERED} ({number}, the first: annotation {first} of image 1 (1.png))." in str(images.notices)
    assert images.problems == []
    truth = images.ground_truth()["annotations"]
    assert ([entry["id"] for entry in truth], [entry["bbox"] for entry in truth]) == ([1, 2, 3], [[*b] for b in boxes])


@pytest.mark.parametrize("ids", [(4, 4, 4), (None, None, None), ("x", "x", "x")])
def test_only_equal_entries_are_copies(tmp_path, ids):
    entries = [{**annotation(box=box), "id": number} for number, box in zip(ids, [(2, 3, 4, 5)] * 3, strict=True)]
    entries[2]["category_id"] = 7
    images = open_split(write_split(tmp_path, "train", entries), "train", masks=False)
    assert images.target(0)["labels"].tolist() == [0, 1]
    which = "at place 2" if ids[0] is None else ids[0]
    assert f"copies of an annotation, left out (annotation {which} of image 1 (1.png))." in str(images.notices)
    assert len(images.ground_truth()["annotations"]) == 2


def test_a_stray_polygon_beside_good_ones_is_left_out_of_the_mask(tmp_path):
    strays = [[], [1, 1, 5, 5], [1, 1, 5, 5, 3], [1, 1, math.nan, 5, 3, 3], [1, 1, 5, 5, -1e9, 4], "text"]
    entries = [annotation(number, segmentation=[TRIANGLE, stray]) for number, stray in enumerate(strays, 1)]
    entries.append(annotation(7, segmentation=TRIANGLE))
    images = open_split(
        write_split(tmp_path, "train", [annotation(9, segmentation=[TRIANGLE]), *entries]), "train", True
    )
    first, *others = images.target(0)["masks"]
    assert first.sum() > 0
    assert len(others) == 7
    assert all((mask == first).all() for mask in others)
    file = images.annotation_file
    assert images.notices[:2] == [
        f"{file}: polygons that are none beside good ones, left out (6, the first: annotation 1 of image 1 (1.png)).",
        f"{file}: a polygon without the list around it, read as one (annotation 7 of image 1 (1.png)).",
    ]
    assert [entry["segmentation"] for entry in images.ground_truth()["annotations"]] == [[TRIANGLE]] * 8


MASKS = {
    "run lengths as floats": ({**RUNS, "counts": [float(run) for run in RUNS["counts"]]}, NUMBERS),
    "run lengths as text": ({**RUNS, "counts": [str(run) for run in RUNS["counts"]]}, NUMBERS),
    "size as text": ({**RUNS, "size": ["20", "30.0"]}, NUMBERS),
    "size as text, compressed": ({**rle(3, 2, 6, 7), "size": ["20", 30.0]}, NUMBERS),
    "in a list": ([RUNS], "run lengths with a list around them, read without it"),
    "compressed in a list": ([rle(3, 2, 6, 7)], "run lengths with a list around them, read without it"),
    "polygon as text": ([["2", "3", "7", "3", "7", "6", "2", "6"]], TEXT),
    "flat polygon as text": (["2", "3", "7", "3", "7", "6", "2", "6"], TEXT),
}


@pytest.mark.parametrize("kind", MASKS)
def test_what_a_mask_means_is_read(tmp_path, kind):
    segmentation, notice = MASKS[kind]
    entry = {**annotation(segmentation=segmentation, area=0), "bbox": None}
    images = open_split(write_split(tmp_path, "train", [entry]), "train", masks=True)
    target = images.target(0)
    expected = np.zeros((20, 30), dtype=np.uint8)
    expected[3:6, 2:7] = 1
    assert (target["masks"][0].numpy() == expected).all()
    assert (target["boxes"].tolist(), target["area"].tolist()) == ([[2, 3, 7, 6]], [15])
    assert any(f"{notice} (annotation 1 of image 1 (1.png))." in found for found in images.notices)
    truth = counted_truth(images, [1], masks=True)["annotations"][0]
    assert (truth["bbox"], truth["area"]) == ([2, 3, 5, 3], 15)
    coded = truth["segmentation"]
    coded = pycoco.frPyObjects(coded, 20, 30) if isinstance(coded, list) or isinstance(coded["counts"], list) else coded
    assert (pycoco.decode(coded).reshape(20, 30) == expected).all()


@pytest.mark.parametrize("segmentation", [[[]], [[1, 1, 5, 5]], "text", {"size": [1, 1]}, None, 7])
def test_masks_that_are_not_read_are_not_checked(tmp_path, segmentation):
    folder = write_split(tmp_path, "train", [annotation(segmentation=segmentation)])
    assert open_split(folder, "train", masks=False).target(0)["boxes"].tolist() == BOX["boxes"]
    with pytest.raises(FovealError, match="Annotation 1 of image 1"):
        open_split(folder, "train", masks=True)


SIZES = "height and width not in whole pixels, taken from the image"
IMAGES = {
    "sizes as floats": ({"height": 20.0, "width": 30.0}, NUMBERS),
    "sizes as text": ({"height": "20", "width": "30"}, NUMBERS),
    "sizes null": ({"height": None, "width": None}, SIZES),
    "sizes of zero": ({"height": 0, "width": 0}, SIZES),
    "half pixels": ({"height": 19.5, "width": 30}, SIZES),
    "id as text": ({"id": "1"}, NUMBERS),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_what_an_image_entry_means_is_derived(tmp_path, kind):
    changes, notice = IMAGES[kind]
    write_split(tmp_path, "train", [annotation(), annotation(2, category=7)])
    change(tmp_path, "train", lambda content: content["images"][0].update(changes))
    images = open_split(tmp_path, "train", masks=True)
    assert images[0][0].shape == (3, 20, 30)
    assert images.target(0)["masks"].shape == (2, 20, 30)
    assert images.notices == [f"{images.annotation_file}: {notice} (image 1 (1.png))."]
    (entry,) = images.ground_truth()["images"]
    assert entry == {"id": 1, "file_name": "1.png", "height": 20, "width": 30}


def test_the_size_of_a_turned_photograph_is_that_of_the_upright_image(tmp_path):
    write_split(tmp_path, "train", [annotation()])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 30)).save(tmp_path / "train" / "1.jpg", exif=exif)
    change(tmp_path, "train", lambda content: content["images"][0].update(file_name="1.jpg", height=None))
    images = open_split(tmp_path, "train", masks=False)
    assert images.image(0).shape == (3, 20, 30)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a\\my cat.png", "a/my cat.png"),
        ("a/my%20cat.png", "a/my cat.png"),
        ("a%5Cmy%20cat.png", "a/my cat.png"),
        ("./photos/a/my cat.png", "a/my cat.png"),
        ("C:\\data\\images\\my cat.png", "my cat.png"),
        ("/home/me/images/my cat.png", "my cat.png"),
        ("my cat.png", "a/b/my cat.png"),
        ("images/MY CAT.PNG", "my cat.png"),
        ("/data/local-files/?d=photos/my%20cat.png", "photos/my cat.png"),
        ("https://host/bucket/my%20cat.png?X-Expires=7", "my cat.png"),
        ("../../upload/1/my cat.png", "my cat.png"),
        ("my%20cat.png", "my%20cat.png"),
    ],
)
def test_the_file_that_a_name_means_is_found(tmp_path, name, place):
    write_split(tmp_path, "train", [annotation(), annotation(2, category=7)])
    (tmp_path / "train" / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "train" / "1.png").rename(tmp_path / "train" / place)
    change(tmp_path, "train", lambda content: content["images"][0].update(file_name=name))
    images = open_split(tmp_path, "train", masks=False)
    assert images[0][0].shape == (3, 20, 30)
    assert images.names == [place]
    found = [] if name == place else [f"files found under another path than is given (image 1 ({name}))"]
    assert images.notices == [f"{images.annotation_file}: {part}." for part in found]


def test_a_name_never_means_the_file_of_another_image(tmp_path):
    write_split(tmp_path, "train", [annotation(), annotation(2, image=2), annotation(3, image=3)], [(20, 30)] * 3)
    (tmp_path / "train" / "3.png").unlink()

    def rename(content):
        content["images"][0]["file_name"] = "b/2.png"  # image 2 is 2.png itself
        content["images"][2]["file_name"] = "b/3.png"

    change(tmp_path, "train", rename)
    images = open_split(tmp_path, "train", masks=False, broken="skip")
    assert images.names == ["2.png"]
    assert "Image 1 (b/2.png) in" in images.problems[0]
    assert "has no file of its own" in images.problems[0]
    assert "Image 3 (b/3.png)" in images.problems[1]


def test_of_several_files_none_is_guessed(tmp_path):
    write_split(tmp_path, "train", [annotation()])
    for place in ("a", "b"):
        (tmp_path / "train" / place).mkdir()
        Image.new("RGB", (30, 20)).save(tmp_path / "train" / place / "1.png")
    (tmp_path / "train" / "1.png").unlink()
    with pytest.raises(FovealError, match=r"Image 1 \(1.png\) .* has no file: there is no .*train/1.png"):
        open_split(tmp_path, "train", masks=False)
    change(tmp_path, "train", lambda content: content["images"][0].update(file_name="images/b/1.png"))
    assert open_split(tmp_path, "train", masks=False).names == ["b/1.png"]


def test_a_heading_of_the_same_name_as_a_class_is_that_class(tmp_path):
    """Roboflow writes the project's name as category 0."""
    categories = [
        {"id": 0, "name": "cats", "supercategory": "none"},
        {"id": 1, "name": "cats", "supercategory": "cats"},
    ]
    entries = [annotation(1, category=1), annotation(2, category=0)]
    images = open_split(write_split(tmp_path, "train", entries, categories=categories), "train", masks=False)
    assert (images.classes, images.category_ids) == (["cats"], [1])
    assert images.target(0)["labels"].tolist() == [0, 0]
    assert images.notices == [
        f"{images.annotation_file}: categories of the same name, read as one class (category 0 ('cats')).",
        f"{images.annotation_file}: category of the same name as another, read as that (annotation 2 of image 1 "
        "(1.png)).",
    ]
    truth = images.ground_truth()
    assert truth["categories"] == [{"id": 1, "name": "cats"}]
    assert [entry["category_id"] for entry in truth["annotations"]] == [1, 1]


def test_category_ids_as_text_and_names_as_numbers_are_read(tmp_path):
    categories = [{"id": "3", "name": 5}, {"id": 7.0, "name": "dog"}]
    images = open_split(write_split(tmp_path, "train", [annotation()], categories=categories), "train", masks=False)
    assert (images.classes, images.category_ids) == (["5", "dog"], [3, 7])
    assert images.ground_truth()["categories"] == [{"id": 3, "name": "5"}, {"id": 7, "name": "dog"}]


def test_published_files_are_read_without_repairs(tmp_path):
    entries = [annotation(), annotation(2, category=7), annotation(3, iscrowd=1, segmentation=rle(0, 0, 9, 9, False))]
    images = open_split(write_split(tmp_path, "val", entries), "val", masks=True)
    assert images.ground_truth() == json.loads(images.annotation_file.read_text())
    assert images.notices == [
        f"{images.annotation_file} has a crowd, which training leaves out and evaluation ignores."
    ]


@pytest.mark.parametrize("again", ["1.png", "./1.png", "a/../1.png"])
@pytest.mark.parametrize("broken", ["stop", "skip"])
def test_an_image_that_is_listed_twice_is_one_image_with_all_objects(tmp_path, again, broken):
    cat, dog, other = annotation(1), annotation(2, image=5, category=7), annotation(4, image=2)
    folder = write_split(tmp_path, "train", [cat, dog, annotation(3, image=5), other], [(20, 30)] * 2)
    (folder / "train" / "a").mkdir()
    entry = {"id": 5, "file_name": again, "height": 20, "width": 30}
    change(folder, "train", lambda content: content["images"].append(entry))
    images = open_split(folder, "train", masks=True, broken=broken)
    assert images.image_ids == [1, 2]
    assert [images.target(index)["labels"].tolist() for index in (0, 1)] == [[0, 1], [0]]
    file = images.annotation_file
    assert images.notices == [
        f"{file}: images that are listed again, read as one with all objects (image 5 ({again})).",
        f"{file}: annotations of an image that is listed again, read as those of the first (2, the first: annotation 2 "
        "of image 1 (1.png)).",
        f"{file}: copies of an annotation, left out (annotation 3 of image 1 (1.png)).",
    ]
    truth = images.ground_truth()
    assert [image["id"] for image in truth["images"]] == [1, 2]
    assert [(entry["id"], entry["image_id"]) for entry in truth["annotations"]] == [(1, 1), (2, 1), (4, 2)]


def test_an_entry_of_an_image_that_is_there_twice_is_one_image(tmp_path):
    folder = write_split(tmp_path, "train", [annotation(1), annotation(2, category=7)])
    change(folder, "train", lambda content: content["images"].append({**content["images"][0], "license": 3}))
    images = open_split(folder, "train", masks=False)
    assert (images.image_ids, images.target(0)["labels"].tolist()) == ([1], [0, 1])
    assert images.notices == [
        f"{images.annotation_file}: images that are listed again, read as one with all objects (image 1 (1.png))."
    ]
    assert len(images.ground_truth()["images"]) == 1


def test_an_image_that_is_listed_twice_in_two_sizes_is_a_broken_entry(tmp_path):
    folder = write_split(tmp_path, "train", [annotation()])
    entry = {"id": 2, "file_name": "1.png", "height": 40, "width": 60}
    change(folder, "train", lambda content: content["images"].append(entry))
    with pytest.raises(FovealError, match=r"Image 2 \(1.png\) in .* has another size than image 1, which is the same"):
        open_split(folder, "train", masks=False)


def test_an_id_never_means_two_files(tmp_path):
    folder = write_split(tmp_path, "train", [annotation()], [(20, 30)] * 2)
    entry = {"id": 5, "height": 20, "width": 30}
    more = [{**entry, "file_name": "1.png"}, {**entry, "file_name": "2.png"}]
    change(folder, "train", lambda content: content["images"].__setitem__(slice(1, 2), more))
    with pytest.raises(FovealError, match=r"Image 5 \(2.png\) in .* has the id of another image"):
        open_split(folder, "train", masks=False)
