"""YOLO's text labels, boxes and polygons, are read as the objects that they mean."""

from pathlib import Path

import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.detection.average_precision import average_precision
from foveal.tasks.detection.data import open_split, open_train_and_val

BOX = "1 0.5 0.25 0.2 0.3"  # of 30 x 20 pixels: x 12 to 18, y 2 to 8
POLYGON = "0 0.2 0.2 0.4 0.2 0.4 0.6"  # x 6 to 12, y 4 to 12; a triangle of 24 pixels


def picture(file: Path, size=(30, 20), **options) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(file, **options)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def ultralytics(folder: Path, settings="train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n") -> Path:
    for split in ("train", "val"):
        for name in ("a", "b"):
            picture(folder / "images" / split / f"{name}.jpg")
            write(folder / "labels" / split / f"{name}.txt", f"{BOX}\n{POLYGON}\n")
    write(folder / "data.yaml", settings)
    return folder


def assert_read(images, masks=False):
    assert images.classes == ["cat", "dog"]
    for index in range(len(images)):
        target = images.target(index)
        assert target["labels"].tolist() == [1, 0]
        assert target["boxes"].flatten().tolist() == pytest.approx([12, 2, 18, 8, 6, 4, 12, 12], abs=1e-5)
        assert target["area"].tolist() == pytest.approx([36, 24], abs=1e-5)
        assert images[index][0].shape == (3, 20, 30)
        assert images[index][0].mean((1, 2)).tolist() == pytest.approx([1, 0, 0], abs=0.02)


SETTINGS = {
    "names by number": "train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n",
    "list of names": "path: .\ntrain: ./images/train\nval: images/val\nnc: 2\nnames: ['cat', 'dog']\n",
    "another place": "path: ../datasets/pets\ntrain: images/train\nvalid: images/val # mine\nnames: [cat, dog]\n",
    "paths that the disk has not": "train: ../images/train\nval: /content/pets/images/val\nnames: [cat, dog]\n",
    "lists of folders": "train: [images/train]\nvalidation:\n- images/val\nnames: [cat, dog]\n",
    "names only": "names: [cat, dog]\n",
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_ultralytics(tmp_path, kind):
    train, val = open_train_and_val(ultralytics(tmp_path, SETTINGS[kind]), masks=False)
    for images, split in ((train, "train"), (val, "val")):
        assert_read(images)
        assert images.paths == [str(tmp_path / "images" / split / f"{name}.jpg") for name in "ab"]
        assert images.notices == []


def test_roboflow(tmp_path):
    """Its paths begin beside the folder that it puts them in."""
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "a.jpg")
        write(tmp_path / split / "labels" / "a.txt", f"{BOX}\n{POLYGON}")
    names = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n"
    write(tmp_path / "data.yaml", names)
    assert [images.set_name for images in open_train_and_val(tmp_path, masks=False)] == ["train", "valid"]
    for images in open_train_and_val(tmp_path, masks=False):
        assert_read(images)
    (tmp_path / "data.yaml").unlink()
    write(tmp_path / "classes.txt", "cat\ndog\n")
    for images in open_train_and_val(tmp_path, masks=False):
        assert_read(images)


def test_cvat_names_images_in_lists(tmp_path):
    ultralytics(tmp_path, "path: ./\ntrain: Train.txt\nval: Validation.txt\nnames:\n  0: cat\n  1: dog\n")
    for split, name in (("train", "Train"), ("val", "Validation")):
        write(tmp_path / f"{name}.txt", f"data/images/{split}/a.jpg\nimages/{split}/b.jpg\n")
    for images in open_train_and_val(tmp_path, masks=False):
        assert_read(images)
        assert (len(images), images.notices) == (2, [])
        assert images.set_name in ("Train", "Validation")


def test_darknet_has_labels_beside_images(tmp_path):
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(
        tmp_path / "obj.data", "classes = 2\nnames = data/obj.names\ntrain = data/train.txt\nvalid = data/valid.txt\n"
    )
    for split in ("train", "valid"):
        picture(tmp_path / f"obj_{split}_data" / "a.jpg")
        write(tmp_path / f"obj_{split}_data" / "a.txt", f"{BOX}\n{POLYGON}\n")
        write(tmp_path / f"{split}.txt", f"data/obj_{split}_data/a.jpg\n")
    for images in open_train_and_val(tmp_path, masks=False):
        assert_read(images)


def test_label_studio_has_no_split(tmp_path):
    for name in "abcde":
        picture(tmp_path / "images" / f"{name}.jpg")
        write(tmp_path / "labels" / f"{name}.txt", f"{BOX}\n{POLYGON}\n")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    write(tmp_path / "notes.json", '{"categories": []}')
    train, val = open_train_and_val(tmp_path, masks=False, val_fraction=0.2)
    assert (len(train), len(val)) == (4, 1)
    for images in (train, val):
        assert_read(images)


def test_masks_are_read_from_polygons_and_missing_of_boxes(tmp_path):
    folder = ultralytics(tmp_path)
    with pytest.raises(FovealError, match=r"Annotation 1 of image 1 \(images/train/a.jpg\) .*has no segmentation"):
        open_split(folder, "train", masks=True)
    for file in (folder / "labels").rglob("*.txt"):
        file.write_text(POLYGON)
    mask = open_split(folder, "train", masks=True).target(0)["masks"][0]
    assert mask[:4].sum() == mask[12:].sum() == mask[:, :6].sum() == mask[:, 12:].sum() == 0
    assert 20 <= mask.sum() <= 34


def test_the_ground_truth_is_that_of_the_labels(tmp_path):
    images = open_split(ultralytics(tmp_path), "val", masks=False)
    truth = images.ground_truth()
    assert [entry["bbox"] for entry in truth["annotations"][:2]] == [
        pytest.approx([12, 2, 6, 6]),
        pytest.approx([6, 4, 6, 8]),
    ]
    found = [{**entry, "score": 0.9} for entry in truth["annotations"]]
    assert average_precision(truth, found, "box").overall["ap"] == pytest.approx(100)


def test_sizes_are_those_of_upright_photographs(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "images" / "train" / "a.jpg", (20, 30), exif=exif)
    write(tmp_path / "labels" / "train" / "a.txt", f"{BOX}\n{POLYGON}\n")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    assert_read(open_split(tmp_path, "train", masks=False))


LINES = {
    "text": ("dog 0.5 0.5 0.1 0.1", "is not numbers with spaces between them, but 'dog"),
    "unknown class": ("2 0.5 0.5 0.1 0.1", "has the class 2, and there are names for 0 to 1"),
    "half a class": ("0.5 0.5 0.5 0.1 0.1", "has the class 0.5, and there are names for 0 to 1"),
    "pixels": ("1 15 10 4 4", "has coordinates that are not fractions of the image, 0 to 1"),
    "negative": ("1 -0.5 0.5 0.1 0.1", "has coordinates that are not fractions of the image, 0 to 1"),
    "NaN": ("1 nan 0.5 0.1 0.1", "has coordinates that are not fractions of the image, 0 to 1"),
    "three numbers": ("1 0.5 0.5 0.1", "has 3 numbers after its class: neither the four of a box"),
    "five numbers": ("1 0.5 0.5 0.1 0.1 7", "has 5 numbers after its class: neither the four of a box"),
    "zero width": ("1 0.5 0.5 0 0.1", "has an object without width or height"),
    "flat polygon": ("1 0.1 0.5 0.2 0.5 0.3 0.5", "has an object without width or height"),
}


@pytest.mark.parametrize("kind", LINES)
def test_a_broken_line_is_named_and_rejected_or_skipped(tmp_path, kind):
    line, sentence = LINES[kind]
    folder = ultralytics(tmp_path)
    write(folder / "labels" / "train" / "b.txt", f"{BOX}\n\n{line}\n{POLYGON}\n")
    with pytest.raises(FovealError, match=rf"^Line 3 of b.txt in .*labels/train {sentence}.*: repair it, or pass"):
        open_split(folder, "train", masks=False)
    images = open_split(folder, "train", masks=False, broken="skip")
    assert_read(images)
    assert "labels/train has a broken entry, left out here: " in images.notices[0]
    assert "(line 3 of b.txt)." in images.notices[0]
    assert len(images.ground_truth()["annotations"]) == 4


def test_rounded_coordinates_may_leave_the_image_a_little(tmp_path):
    folder = ultralytics(tmp_path)
    write(folder / "labels" / "train" / "a.txt", "0 0.05 0.5 0.1004 1.0")
    assert open_split(folder, "train", masks=False).target(0)["boxes"].tolist()[0][:2] == [0, 0]


def test_images_without_labels_and_labels_without_images_are_counted(tmp_path):
    folder = ultralytics(tmp_path)
    for name in "xyz":
        picture(folder / "images" / "train" / f"{name}.jpg")
    write(folder / "labels" / "train" / "a copy.txt", BOX)
    write(folder / "labels" / "train" / "classes.txt", "cat\ndog")
    write(folder / "labels" / "train" / "z.txt", "")
    write(folder / "images" / "train" / "movie.mp4", "")
    images = open_split(folder, "train", masks=False)
    labels = folder / "labels" / "train"
    assert images.notices == [
        f"{folder / 'images' / 'train'} has 1 file that Pillow does not read as images, left out: 1 .mp4.",
        f"{labels}: 2 images have no file of labels, and so no objects.",
        f"{labels}: one file of labels has no image, left out; the first: a copy.txt.",
    ]
    assert len(images) == 5


def test_unreadable_images_are_named_or_skipped(tmp_path):
    folder = ultralytics(tmp_path)
    write(folder / "images" / "train" / "b.jpg", "no image")
    with pytest.raises(FovealError, match=r"Image 2 \(images/train/b.jpg\) in .* b?.*is not a readable image"):
        open_split(folder, "train", masks=False)
    images = open_split(folder, "train", masks=False, broken="skip")
    assert images.names == ["images/train/a.jpg"]
    assert "no height and width (image 2 (images/train/b.jpg))" in images.notices[0]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("data.yaml", "train: images/train\nval: images/val\n", "data.yaml has no names of classes: write `names: "),
        ("data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog", "data.yaml is not YAML"),
        ("data.yaml", "train: 3\nval: images/val\nnames: [cat, dog]", "names 3 for train, which is neither a path nor"),
        ("data.yaml", "just text", "data.yaml has no settings such as `names`"),
        ("data.yaml", "names: {cat: 0}", "data.yaml has no names of classes"),
        ("classes.txt", "", "classes.txt is empty: write the names of the classes, one per line"),
        (None, None, "labels/train has YOLO's labels, and nothing names their classes: write .*classes.txt"),
    ],
)
def test_missing_names_are_one_sentence(tmp_path, name, text, sentence):
    ultralytics(tmp_path)
    (tmp_path / "data.yaml").unlink()
    if name is not None:
        write(tmp_path / name, text)
    with pytest.raises(FovealError, match=sentence) as caught:
        open_train_and_val(tmp_path, masks=False)
    assert "\n" not in str(caught.value)


def test_a_missing_validation_folder_is_no_split(tmp_path):
    folder = ultralytics(tmp_path, "train: images/train\nval: images/nowhere\nnames: [cat, dog]")
    (folder / "images" / "val").rename(folder / "images" / "later")
    with pytest.raises(
        FovealError, match=r"data.yaml names images/nowhere for val, which is not there: correct it, or .*--val-fracti"
    ):
        open_train_and_val(folder, masks=False)
    train, val = open_train_and_val(folder, masks=False, val_fraction=0.5)
    assert {*train.names, *val.names} == {"images/train/a.jpg", "images/train/b.jpg"}


@pytest.mark.parametrize("split", ["train", "val"])
def test_no_path_of_several_is_left_out_in_silence(tmp_path, split):
    paths = {"train": "images/train", "val": "images/val", split: f"[images/{split}, images/extra, more.txt]"}
    folder = ultralytics(tmp_path, f"train: {paths['train']}\nval: {paths['val']}\nnames: [cat, dog]")
    with pytest.raises(
        FovealError, match=r"data.yaml names images/extra, more.txt, which is not there: correct it, or"
    ):
        open_split(folder, split, masks=False)
    write(folder / "more.txt", "")
    with pytest.raises(FovealError, match=r"data.yaml names images/extra, which is not there: correct it, or"):
        open_split(folder, split, masks=False)
    (folder / "images" / "extra").mkdir()
    assert_read(open_split(folder, split, masks=False))


def test_a_folder_that_is_read_instead_of_the_named_one_is_said(tmp_path):
    folder = ultralytics(tmp_path, "train: images/train\nval: images/vall\nnames: [cat, dog]")
    train, val = open_train_and_val(folder, masks=False)
    assert train.notices == []
    assert val.notices == [
        f"{folder / 'data.yaml'} names images/vall for val, which is not there: {folder / 'images' / 'val'} is read."
    ]
    assert_read(val)


def test_headers_of_images_are_read_once(tmp_path, monkeypatch):
    images = open_split(ultralytics(tmp_path), "train", masks=False)
    monkeypatch.setattr("foveal.tasks.detection.data.yolo.image_size", None)
    assert len(images.ground_truth()["images"]) == 2


def test_an_image_that_is_named_twice_is_one_image(tmp_path):
    folder = ultralytics(tmp_path, "train: [images/train, images, list.txt]\nval: images/val\nnames: [cat, dog]")
    write(folder / "list.txt", "./images/train/a.jpg\nimages/train/a.jpg\n")
    for file in (folder / "images" / "val").iterdir():
        file.unlink()
    images = open_split(folder, "train", masks=False)
    assert images.names == ["images/train/a.jpg", "images/train/b.jpg"]
    assert_read(images)
    assert (
        "images that are listed again, read as one with all objects (4, the first: image 3 (images/train/a.jpg))"
        in (str(images.notices))
    )


@pytest.mark.parametrize("place", ["labels", "beside"])
def test_images_without_any_file_of_labels_are_refused_with_the_place_of_the_first(tmp_path, place):
    folder = ultralytics(tmp_path)
    for file in (folder / "labels").rglob("*.txt"):
        file.unlink()
    if place == "beside":
        (folder / "images" / "train").rename(folder / "photos")
        write(folder / "data.yaml", "train: photos\nval: images/val\nnames: [cat, dog]")
    expected = folder / "labels" / "train" / "a.txt" if place == "labels" else folder / "photos" / "a.txt"
    with pytest.raises(
        FovealError, match=rf"None of the 2 images of .* has a file of labels: put that of the first into {expected}\.$"
    ):
        open_train_and_val(folder, masks=False)


@pytest.mark.parametrize("names", ["classes.txt", "data.yaml"])
@pytest.mark.parametrize("layout", ["Images/Train", "TRAIN/Images", "IMAGES/training"])
def test_folders_hold_in_any_case(tmp_path, layout, names):
    for name in "ab":
        picture(tmp_path / layout / f"{name}.jpg")
        write(
            tmp_path / layout.replace("Images", "Labels").replace("IMAGES", "labels") / f"{name}.txt",
            f"{BOX}\n{POLYGON}",
        )
    write(tmp_path / names, "cat\ndog\n" if names == "classes.txt" else f"names: [cat, dog]\ntrain: {layout}")
    images = open_split(tmp_path, "train", masks=False)
    assert_read(images)
    assert (len(images), images.notices) == (2, [])


def test_a_confidence_after_a_box_is_left_out_with_a_count(tmp_path):
    folder = ultralytics(tmp_path)
    for name in "ab":
        write(folder / "labels" / "train" / f"{name}.txt", f"{BOX} 0.93\n{POLYGON}\n")
    images = open_split(folder, "train", masks=False)
    assert_read(images)
    assert images.notices == [
        f"{folder / 'labels' / 'train'}: a confidence after the box, as detectors write it, left out (2, the first: "
        "line 1 of a.txt)."
    ]


@pytest.mark.parametrize("shape", [(3, 2), (2, 3)])
def test_the_keypoints_of_poses_are_no_polygon(tmp_path, shape):
    """An even number of keypoint coordinates would be a polygon otherwise: https://docs.ultralytics.com/datasets/pose."""
    folder = ultralytics(tmp_path)
    write(folder / "data.yaml", f"{SETTINGS['list of names']}kpt_shape: {list(shape)}\n")
    for name in "ab":
        points = "0.9 0.9 0.8 0.7 0.6 0.5" if shape == (3, 2) else "0.9 0.9 2 0.8 0.7 1"
        write(folder / "labels" / "train" / f"{name}.txt", f"{BOX} {points}\n{POLYGON}\n")
    images = open_split(folder, "train", masks=False)
    assert_read(images)
    assert images.notices == [
        f"{folder / 'labels' / 'train'}: keypoints after the box, left out (2, the first: line 1 of a.txt)."
    ]


@pytest.mark.parametrize("shape", ["17", "[17, 0]", "[17, 3, 1]", "[a, b]"])
def test_a_wrong_shape_of_keypoints_is_one_sentence(tmp_path, shape):
    folder = ultralytics(tmp_path, f"{SETTINGS['list of names']}kpt_shape: {shape}\n")
    with pytest.raises(FovealError, match="write the number of points and of numbers of each"):
        open_split(folder, "train", masks=False)


@pytest.mark.parametrize("name", ["data.yaml", "coco128.yaml", "My Data.YML"])
def test_the_file_of_settings_may_have_any_name_and_be_passed_itself(tmp_path, name):
    folder = ultralytics(tmp_path)
    (folder / "data.yaml").rename(folder / name)
    write(folder / "other.yaml", "names: an unrelated file\n")
    for data in (folder, folder / name):
        for images in open_train_and_val(data, masks=False):
            assert_read(images)
    train, val = open_train_and_val(folder / name, masks=False)
    assert [Path(images.paths[0]).parent.name for images in (train, val)] == ["train", "val"]


def test_of_several_files_of_settings_one_must_be_passed(tmp_path):
    folder = ultralytics(tmp_path)
    (folder / "data.yaml").rename(folder / "a.yaml")
    write(folder / "b.yaml", "train: images/val\nval: images/val\nnames: [cat, dog]")
    with pytest.raises(FovealError, match=r"has several files with names of classes, a.yaml, b.yaml: pass one of them"):
        open_train_and_val(folder, masks=False)
    assert_read(open_train_and_val(folder / "b.yaml", masks=False)[0])
    write(folder / "notes.json", "")
    with pytest.raises(
        FovealError, match=r"notes.json is a file: pass the folder of the data set as --data, or YOLO's"
    ):
        open_train_and_val(folder / "notes.json", masks=False)
