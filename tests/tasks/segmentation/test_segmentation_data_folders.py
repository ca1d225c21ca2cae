"""Folders of images and label maps: pairing, class names, and errors for missing files."""

import re

import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.dense.shapes import write_shapes
from foveal.tasks.segmentation.data import ADE20K_CLASSES, open_split, open_train_and_val
from support.segmentation_folders import write_ade20k, write_cvat, write_folder, write_split

SIX = [[[number, 0], [1, 1]] for number in range(3)] * 2


def test_ade20k_opens_as_unpacked_with_its_classes(tmp_path):
    train, val = open_train_and_val(write_ade20k(tmp_path), zero_ignored=True)
    assert train.classes == val.classes == list(ADE20K_CLASSES)
    assert train.paths == [tmp_path / "images" / "training" / "a.jpg"]
    assert val.label_paths == [tmp_path / "annotations" / "validation" / "a.png"]
    assert open_split(tmp_path, "validation", zero_ignored=True).paths == val.paths


def test_ade20k_classes_are_in_the_order_of_the_benchmark():
    """From objectInfo150.txt, with indices starting at 1."""
    assert len(set(ADE20K_CLASSES)) == 150
    known = {1: "wall", 2: "building", 5: "tree", 13: "person", 21: "car", 32: "seat", 45: "chest of drawers"}
    known |= {
        58: "pillow",
        66: "toilet",
        76: "swivel chair",
        90: "television receiver",
        99: "bottle",
        110: "swimming pool",
    }
    known |= {125: "microwave", 128: "bicycle", 137: "traffic light", 145: "bulletin board", 150: "flag"}
    assert {number: ADE20K_CLASSES[number - 1] for number in known} == known
    assert all(name == name.strip() for name in ADE20K_CLASSES)


def test_the_shapes_dataset_opens_with_a_background_class(tmp_path):
    folder = write_shapes(tmp_path / "shapes", train=3, val=2)
    train, val = open_train_and_val(folder, zero_ignored=False)
    assert (len(train), len(val)) == (3, 2)
    assert train.classes == ["background", "circle", "rectangle", "triangle", "star", "ring"]
    assert train.paths[1] == folder / "train" / "000002.jpg"
    seen = {int(label) for _, labels in train for label in labels.unique()}
    assert seen <= set(range(6))
    assert len(seen) > 1


@pytest.mark.parametrize("labels", ["annotations/train", "labels/training", "masks/train", "train/masks"])
@pytest.mark.parametrize("images", ["images/train", "images/training", "train/images", "train"])
def test_custom_folders_open_with_a_class_file(tmp_path, images, labels):
    write_folder(tmp_path / images, tmp_path / labels, SIX)
    (tmp_path / "classes.txt").write_text("sky\n tree \nBäume im Herbst\n\n", encoding="utf-8")
    opened = open_split(tmp_path, "train", zero_ignored=False)
    assert opened.classes == ["sky", "tree", "Bäume im Herbst"]
    assert [opened.name(index) for index in range(len(opened))] == list("abcdef")
    assert open_split(str(tmp_path), "training", zero_ignored=False).paths == opened.paths
    assert opened.notices == []
    assert opened.set_name == ("training" if images == "images/training" else "train")


def test_a_split_may_have_any_name(tmp_path):
    assert len(open_split(write_split(tmp_path, "night", SIX), "night", zero_ignored=False)) == 6


def test_a_class_file_overrides_the_ade20k_classes(tmp_path):
    (write_ade20k(tmp_path) / "classes.txt").write_text("one\ntwo")
    assert open_split(tmp_path, "val", zero_ignored=True).classes == ["one", "two"]


def test_ade20k_classes_are_only_taken_where_the_label_maps_have_its_numbers(tmp_path):
    """Cats and dogs in folders of these names were once predicted as streetlights."""
    own = write_ade20k(tmp_path / "own", [[[0, 1], [2, 255]]])
    with pytest.raises(FovealError) as caught:
        open_split(own, "val", zero_ignored=True)
    assert str(caught.value) == (
        f"There is no {own}/classes.txt: write the names of the classes into it, one per line, in the order of their "
        "numbers, from 1; the first label maps have the numbers 0, 1, 2; the folders are named as ADE20K's, but their "
        "label maps do not have its numbers."
    )
    few = write_ade20k(tmp_path / "few", [[[0, 1], [2, 255]]])
    for file in (*few.rglob("*.jpg"), *few.rglob("*.png")):
        file.rename(file.with_name(f"ADE_val_0000000{file.name}"))
    assert open_split(few, "val", zero_ignored=True).classes == list(ADE20K_CLASSES)
    large = write_ade20k(tmp_path / "large", [[[0, 1], [151, 255]]])
    with pytest.raises(FovealError, match="its numbers"):
        open_split(large, "val", zero_ignored=True)


def test_ade20k_classes_are_not_taken_by_recipes_in_which_0_is_a_class(tmp_path):
    with pytest.raises(FovealError, match=r"from 0; .* named as ADE20K's, but 0 is a class here, and ignored there\.$"):
        open_split(write_ade20k(tmp_path), "val", zero_ignored=False)


def test_other_layouts_require_a_class_file(tmp_path):
    write_split(tmp_path, classes=None)
    write_folder(tmp_path / "images" / "val", tmp_path / "annotations" / "val", SIX)
    for split in ("train", "val"):
        with pytest.raises(FovealError, match=rf"^There is no {tmp_path}/classes.txt: write the names of the classes"):
            open_split(tmp_path, split, zero_ignored=False)


def test_images_of_any_format_are_paired_with_label_maps_by_name(tmp_path):
    write_split(tmp_path, label_maps=SIX)
    images, labels = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    for name, ending in (("a", "bmp"), ("b", "webp"), ("c", "JPEG"), ("d", "tif")):
        Image.open(images / f"{name}.png").save(images / f"{name}.{ending}")
        (images / f"{name}.png").unlink()
    (labels / "e.png").rename(labels / "e.PNG")
    (images / "f.png").unlink()
    (images / "._e.png").write_bytes(b"what another system writes beside it")
    (images / "notes.txt").touch()
    (images / ".ipynb_checkpoints").mkdir()
    opened = open_split(tmp_path, "train", zero_ignored=False)
    assert [path.name for path in opened.paths] == ["a.bmp", "b.webp", "c.JPEG", "d.tif", "e.png"]
    assert [path.name for path in opened.label_paths] == ["a.png", "b.png", "c.png", "d.png", "e.PNG"]
    assert [image.shape for image, _ in opened] == [(3, 2, 2)] * 5
    assert opened.notices == [
        f"{images} has 1 file that Pillow does not read as images, left out: 1 .txt.",
        f"{labels / 'f.png'} is left out, because it has no image.",
    ]


def refused(folder, split="train"):
    with pytest.raises(FovealError) as caught:
        open_split(folder, split, zero_ignored=False)
    text = str(caught.value)
    assert re.match(r"^[^\n]*\.$", text)
    return text


def test_missing_label_maps_are_named_when_opening(tmp_path):
    labels = write_split(tmp_path, label_maps=SIX) / "labels" / "train"
    (labels / "b.png").unlink()
    image = tmp_path / "images" / "train" / "b.png"
    assert refused(tmp_path) == (f"{image} has no label map {labels}/b.png: add what is missing, or remove the images.")
    (labels / "d.png").unlink()
    (labels / "e.png").unlink()
    assert refused(tmp_path) == (
        f"{image} has no label map {labels}/b.png, and 2 more images have none: add what is missing, or remove the "
        "images."
    )


def test_two_images_with_the_same_name_are_rejected(tmp_path):
    folder = write_split(tmp_path, label_maps=SIX) / "images" / "train"
    Image.open(folder / "c.png").save(folder / "c.jpg")
    assert refused(tmp_path) == f"{folder}/c.jpg and c.png have the same label map: remove one of them."


def test_missing_folders_are_named_with_the_expected_paths(tmp_path):
    assert refused(tmp_path / "nowhere").startswith(f"There is no folder {tmp_path}/nowhere: pass --data with")
    write_split(tmp_path)
    names = ("images/val", "images/validation", "images/valid", "val", "validation", "valid")
    looked = ", ".join(str(tmp_path / name) for name in names)
    assert refused(tmp_path, "val") == f"{tmp_path} has no images of val: put them into one of {looked}."
    with pytest.raises(FovealError, match=r"has no images of val: put them .*; or pass --val-fraction 0.2, which"):
        open_train_and_val(tmp_path, zero_ignored=False)
    (tmp_path / "labels").rename(tmp_path / "elsewhere")
    places = [f"{above}/{name}" for above in ("annotations", "labels", "masks") for name in ("train", "training")]
    assert refused(tmp_path) == (
        f"The images in {tmp_path}/images/train have no label maps: put them into one of "
        f"{', '.join(str(tmp_path / name) for name in places)}; or, if they lie beside the images, pass --mask-suffix "
        "with what their names have after those of the images."
    )


def test_an_empty_split_is_rejected(tmp_path):
    write_split(tmp_path, label_maps=[])
    assert refused(tmp_path) == f"{tmp_path}/images/train has no image: put the images of train there."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "{} is empty: write the names of the classes into it, one per line."),
        (" \n\n", "{} is empty: write the names of the classes into it, one per line."),
        ("sky\ntree\nsky\n", "{} has the class 'sky' twice: give each class a unique name."),
        ("sky\n\ntree\n", "Line 2 of {} is empty: every line must name a class."),
        (
            "\n".join(map(str, range(256))),
            "{} names 256 classes, and at most 255 are possible, since 255 is the label of ignored pixels: merge some "
            "of them.",
        ),
    ],
)
def test_an_invalid_class_file_is_rejected(tmp_path, text, sentence):
    write_split(tmp_path, classes=text)
    assert refused(tmp_path) == sentence.format(tmp_path / "classes.txt")


def test_a_class_file_that_is_not_text_is_rejected(tmp_path):
    (write_split(tmp_path) / "classes.txt").write_bytes(b"\xff\xfe\x80")
    assert refused(tmp_path).startswith(f"{tmp_path}/classes.txt cannot be read (")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (("Images/Train", "Images/Val"), ("Masks/Train", "Masks/Val")),
        (("images/TRAIN", "images/Validation"), ("LABELS/TRAIN", "LABELS/Validation")),
        (("Train/Images", "Valid/Images"), ("Train/Annotations", "Valid/Annotations")),
        (("Train", "Val"), ("Masks/Train", "Masks/Val")),
    ],
)
def test_folders_may_have_names_in_any_case(tmp_path, images, labels):
    for one, other in zip(images, labels, strict=True):
        write_folder(tmp_path / one, tmp_path / other, SIX)
    (tmp_path / "Classes.txt").write_text("sky\ntree\ncar\n")
    train, val = open_train_and_val(tmp_path, zero_ignored=False)
    assert (len(train), len(val), train.notices, val.notices) == (6, 6, [], [])
    name = images[1].split("/")
    assert val.set_name == (name[0] if name[-1] == "Images" else name[-1])
    with pytest.raises(FovealError, match="has images for validation: leave --val-fraction out"):
        open_train_and_val(tmp_path, zero_ignored=False, val_fraction=0.2)


def test_images_and_label_maps_in_equal_subfolders_are_paired_by_their_path(tmp_path):
    """As in Cityscapes, whose cities have folders; the same name in two of them means two images."""
    root = tmp_path
    for split in ("train", "val"):
        for city in ("bonn", "köln/west"):
            write_folder(root / "images" / split / city, root / "masks" / split / city, SIX[:2])
    (root / "classes.txt").write_text("sky\ntree\ncar\n")
    train, _ = open_train_and_val(root, zero_ignored=False)
    expected = [f"{city}/{name}.png" for city in ("bonn", "köln/west") for name in "ab"]
    assert [path.relative_to(root / "images" / "train").as_posix() for path in train.paths] == expected
    assert [path.relative_to(root / "masks" / "train").as_posix() for path in train.label_paths] == expected
    (root / "masks" / "train" / "bonn" / "a.png").unlink()
    assert refused(root).startswith(f"{root}/images/train/bonn/a.png has no label map {root}/masks/train/bonn/a.png: ")


def test_images_that_are_drawn_keep_their_subfolders(tmp_path):
    for city in ("bonn", "köln"):
        write_folder(tmp_path / "images" / city, tmp_path / "masks" / city, SIX[:2])
    (tmp_path / "classes.txt").write_text("sky\ntree\ncar\n")
    _, val = open_train_and_val(tmp_path, zero_ignored=False, val_fraction=0.25)
    (name,) = val.held_out.names
    assert val.paths == [tmp_path / "images" / name]
    assert name.split("/")[0] in ("bonn", "köln")


def test_a_draw_is_said_and_images_that_were_removed_are_counted(tmp_path):
    write_folder(tmp_path / "images", tmp_path / "masks", [[[0, 1]]] * 8)
    (tmp_path / "classes.txt").write_text("sky\ntree\n")
    train, val = open_train_and_val(tmp_path, zero_ignored=False, val_fraction=0.25, seed=3)
    said = f"2 of the 8 images of {tmp_path}/images are held out for validation (--val-fraction 0.25 --seed 3)."
    assert (train.notices, val.notices) == ([], [said])
    held_out = val.held_out
    for folder in ("images", "masks"):
        (tmp_path / folder / held_out.names[0]).unlink()
    again = open_split(tmp_path, "val", zero_ignored=False, held_out=held_out)
    assert again.paths == [tmp_path / "images" / held_out.names[1]]
    assert again.notices[0].startswith("1 of the 2 images that training held out for validation is missing from")
    for folder in ("images", "masks"):
        (tmp_path / folder / held_out.names[1]).unlink()
    with pytest.raises(FovealError, match="has none of the 2 images that training held out for validation"):
        open_split(tmp_path, "val", zero_ignored=False, held_out=held_out)
    write_split(tmp_path, "val", [[[0, 1]]], classes=None)
    (tmp_path / "labels").rename(tmp_path / "masks" / "moved")
    (tmp_path / "masks" / "moved" / "val").rename(tmp_path / "masks" / "val")
    later = open_split(tmp_path, "val", zero_ignored=False, held_out=held_out)
    assert later.notices == [
        f"{tmp_path}/images/val is evaluated, and not the images that training held out for validation, since such a "
        "folder is there now."
    ]


def test_lists_of_pascal_voc_may_have_endings_paths_and_label_maps(tmp_path):
    folder = write_cvat(tmp_path, [[0, 1, 2]])
    lists = folder / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("JPEGImages/a.jpg SegmentationClass/a.png\n./JPEGImages/c.jpg\n")
    (lists / "val.txt").write_text("b.jpg\n")
    train, val = open_train_and_val(folder, zero_ignored=False)
    assert ([path.stem for path in train.paths], [path.stem for path in val.paths]) == (["a", "c"], ["b"])
    (lists / "val.txt").write_text("z.jpg\n")
    with pytest.raises(FovealError, match=r"val\.txt lists 'z\.jpg', and .*JPEGImages has no such image"):
        open_train_and_val(folder, zero_ignored=False)
