"""Label maps as tools export them: by suffix, beside their images, by colour, in any lossless format."""

import re

import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.segmentation.data import open_split, open_train_and_val
from support.segmentation_folders import write_cvat, write_folder, write_roboflow, write_split

NUMBERS = [[0, 1, 2], [255, 2, 0]]


def labels(images):
    return [images.labels(index).tolist() for index in range(len(images))]


def refused(folder, split="train", **words):
    with pytest.raises(FovealError) as caught:
        open_split(folder, split, zero_ignored=False, **words)
    assert re.fullmatch(r"[^\n]*\.", str(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("ending", [".png", ".tif", ".TIFF", ".bmp", ".gif", ".pgm", ".tga"])
def test_label_maps_may_have_any_lossless_format(tmp_path, ending):
    folder = write_split(tmp_path, label_maps=[NUMBERS])
    file = folder / "labels" / "train" / "a.png"
    Image.open(file).save(file.with_suffix(ending))
    if ending != ".png":
        file.unlink()
    opened = open_split(folder, "train", zero_ignored=False)
    assert (labels(opened), opened.notices) == ([NUMBERS], [])


def test_the_indices_of_a_gif_are_no_numbers(tmp_path):
    """Its writers put only the colours that occur into the palette: 2 and 255 would become 0 and 1."""
    folder = write_split(tmp_path, label_maps=[[[2, 255]]]) / "labels" / "train"
    Image.open(folder / "a.png").save(folder / "a.gif")
    (folder / "a.png").unlink()
    assert labels(open_split(tmp_path, "train", zero_ignored=False)) == [[[2, 255]]]
    Image.fromarray(np.array([[[9, 9, 200], [0, 0, 0]]], np.uint8)).save(folder / "a.gif")
    with pytest.raises(
        FovealError, match=r"a\.gif is a GIF with colours, which its writers renumber, .*save it as PNG"
    ):
        open_split(tmp_path, "train", zero_ignored=False).labels(0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_greys_with_further_channels_are_the_numbers(tmp_path, mode):
    """As cv2.imwrite and drawing programs save them."""
    folder = write_split(tmp_path, label_maps=[NUMBERS]) / "labels" / "train"
    stored = Image.open(folder / "a.png").convert(mode)
    stored.save(folder / "a.png")
    assert labels(open_split(tmp_path, "train", zero_ignored=False)) == [NUMBERS]
    if "A" in mode:
        stored.putpixel((1, 0), (*stored.getpixel((1, 0))[:-1], 254))  # an alpha that may mean something
    else:
        stored.putpixel((1, 0), (1, 1, 2))
    stored.save(folder / "a.png")
    with pytest.raises(FovealError, match=rf"a\.png has mode {mode}, and a label map stores a class number"):
        open_split(tmp_path, "train", zero_ignored=False).labels(0)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".pbm"])
def test_a_label_map_of_one_bit_has_the_numbers_0_and_1(tmp_path, ending):
    folder = write_split(tmp_path, label_maps=[[[0, 1, 1]]]) / "labels" / "train"
    (folder / "a.png").unlink()
    Image.fromarray(np.array([[False, True, True]])).save(folder / f"a{ending}")
    assert labels(open_split(tmp_path, "train", zero_ignored=False)) == [[[0, 1, 1]]]


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_the_largest_number_of_16_bits_is_ignored(tmp_path, ending):
    folder = write_split(tmp_path, label_maps=[[[0, 2]]]) / "labels" / "train"
    (folder / "a.png").unlink()
    Image.fromarray(np.array([[0, 2, 65535]], np.uint16)).save(folder / f"a{ending}")
    assert labels(open_split(tmp_path, "train", zero_ignored=False)) == [[[0, 2, 255]]]
    Image.fromarray(np.array([[0, 2, 65534]], np.uint16)).save(folder / f"a{ending}")
    with pytest.raises(FovealError, match=r"has the value 65534 at x=2, y=0"):
        open_split(tmp_path, "train", zero_ignored=False).labels(0)


@pytest.mark.parametrize("ending", [".jpg", ".webp", ".jp2"])
def test_label_maps_of_formats_that_may_change_pixels_are_refused_with_the_reason(tmp_path, ending):
    folder = write_split(tmp_path, label_maps=[np.zeros((16, 16))]) / "labels" / "train"
    Image.open(folder / "a.png").save(folder / f"a{ending}")
    (folder / "a.png").unlink()
    assert refused(tmp_path) == (
        f"{tmp_path}/images/train/a.png has no label map {folder}/a.png; a{ending} is not a label map, because its "
        "format may change pixels: save it as PNG, from its source."
    )
    (folder / f"a{ending}").rename(folder / "a.png")  # the content decides
    with pytest.raises(FovealError, match=r"a\.png is stored as (JPEG|WebP|JPEG 2000), which may change pixels: save"):
        open_split(tmp_path, "train", zero_ignored=False).labels(0)


def test_label_maps_may_have_a_suffix(tmp_path):
    folder = write_split(tmp_path, label_maps=[NUMBERS, NUMBERS])
    for file in (folder / "labels" / "train").iterdir():
        file.rename(file.with_stem(f"{file.stem}_mask"))
    opened = open_split(folder, "train", zero_ignored=False, mask_suffix="_mask")
    assert (labels(opened), opened.notices) == ([NUMBERS, NUMBERS], [])
    assert refused(folder) == (
        f"{folder}/images/train/a.png has no label map {folder}/labels/train/a.png, and 1 more image has none: pass "
        "--mask-suffix=_mask, which the label maps' names have."
    )


def test_label_maps_may_lie_beside_their_images(tmp_path):
    write_folder(tmp_path / "valid", tmp_path / "masks", [NUMBERS, NUMBERS], ending="jpg")
    for file in (tmp_path / "masks").iterdir():
        file.rename(tmp_path / "valid" / f"{file.stem}-seg.png")
    (tmp_path / "masks").rmdir()
    (tmp_path / "classes.txt").write_text("sky\ntree\ncar\n")
    opened = open_split(tmp_path, "val", zero_ignored=False, mask_suffix="-seg")
    assert ([path.name for path in opened.paths], labels(opened)) == (["a.jpg", "b.jpg"], [NUMBERS, NUMBERS])
    assert (opened.set_name, opened.notices) == ("valid", [])


def test_a_folder_of_other_files_is_not_taken_for_label_maps(tmp_path):
    """YOLO's boxes in labels/, label maps in masks/."""
    write_split(tmp_path, label_maps=[NUMBERS])
    (tmp_path / "labels").rename(tmp_path / "masks")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 1 1")
    assert labels(open_split(tmp_path, "train", zero_ignored=False)) == [NUMBERS]


def test_a_folder_without_any_label_map_says_what_it_has(tmp_path):
    folder = write_split(tmp_path, label_maps=[NUMBERS]) / "labels" / "train"
    (folder / "a.png").rename(folder / "a.txt")
    assert refused(tmp_path) == (
        f"{folder} has no label map, only 1 .txt: put one there for each image, such as {folder}/a.png."
    )


def test_names_of_classes_in_two_files_must_agree(tmp_path):
    write_cvat(tmp_path, NUMBERS)
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    assert open_split(tmp_path, "train", zero_ignored=False).classes == ["background", "cat", "dog"]
    (tmp_path / "classes.txt").write_text("background\ndog\ncat\n")
    assert "labelmap.txt and " in refused(tmp_path)
    assert refused(tmp_path).endswith("name other classes, or the same in another order: remove one of them.")


def test_files_beside_label_maps_and_folders_of_images_are_noticed(tmp_path):
    folder = write_split(tmp_path, label_maps=[NUMBERS])
    maps, images = folder / "labels" / "train", folder / "images" / "train"
    for name in ("a.txt", "b.txt", "c.json", ".DS_Store", "Thumbs.db"):
        (maps / name).touch()
    Image.open(maps / "a.png").convert("RGB").save(maps / "a.jpg")
    write_folder(images / "more", tmp_path / "elsewhere", [NUMBERS])
    (images / "__MACOSX").mkdir()
    for name in ("x", "y"):
        Image.open(maps / "a.png").save(maps / f"{name}.png")
    assert open_split(folder, "train", zero_ignored=False).notices == [
        f"The images in folders of {images} are left out: more.",
        f"{maps} has 4 files that are not label maps, left out: 2 .txt, 1 .jpg, 1 .json.",
        f"{maps} has 2 label maps without an image, left out: x.png, ...",
    ]


def test_two_label_maps_of_one_image_are_refused(tmp_path):
    file = write_split(tmp_path, label_maps=[NUMBERS]) / "labels" / "train" / "a.png"
    Image.open(file).save(file.with_suffix(".tif"))
    assert refused(tmp_path) == f"{file} and a.tif have the same image: remove one of them."


def test_roboflow_masks_open_with_their_numbers_and_names(tmp_path):
    train, val = open_train_and_val(write_roboflow(tmp_path, NUMBERS), zero_ignored=False)
    assert train.classes == val.classes == ["background", "cat", "dog"]
    assert ([path.name for path in train.paths], train.notices) == (["a_jpg.rf.0.jpg", "b_jpg.rf.0.jpg"], [])
    assert labels(train) == [NUMBERS, NUMBERS]
    # The file says what 0 means, whatever the recipe.
    assert labels(open_split(tmp_path, "train", zero_ignored=True)) == [NUMBERS, NUMBERS]
    assert val.set_name == "valid"


def test_roboflow_numbers_need_not_count_from_0(tmp_path):
    write_roboflow(tmp_path, [[3, 7], [7, 3]], rows="3, cat\n7, dog\n")
    opened = open_split(tmp_path, "train", zero_ignored=False)
    assert (opened.classes, labels(opened)[0]) == (["cat", "dog"], [[0, 1], [1, 0]])
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n3, cat\n5, dog\n")
    with pytest.raises(
        FovealError, match=r"the value 7 at x=1, y=0; only 3, 5 and 255 are .* class in _classes\.csv\.$"
    ):
        open_split(tmp_path, "train", zero_ignored=False).labels(0)


@pytest.mark.parametrize("rows", ["0, cat\n0, dog", "cat, 0", "0", "0, cat\n255, dog", "0, "])
def test_rows_of_roboflows_file_that_cannot_be_understood_are_named(tmp_path, rows):
    write_roboflow(tmp_path, NUMBERS, rows=rows)
    assert f"{tmp_path}/train/_classes.csv has the row {rows.splitlines()[-1]!r}: write a number" in refused(tmp_path)


def test_classes_that_differ_between_splits_are_refused(tmp_path):
    write_roboflow(tmp_path, NUMBERS)
    (tmp_path / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, dog\n2, cat\n")
    with pytest.raises(FovealError, match=r"valid has background, dog, cat: give both the same classes in the same or"):
        open_train_and_val(tmp_path, zero_ignored=False)


@pytest.mark.parametrize("palette", [False, True])
def test_cvat_exports_open_by_the_colours_of_their_labelmap(tmp_path, palette):
    """Black is background, (250, 50, 83) a cat and (51, 221, 255) a dog; VOC's border is ignored."""
    train, val = open_train_and_val(write_cvat(tmp_path, NUMBERS, palette=palette), zero_ignored=False)
    assert train.classes == ["background", "cat", "dog"]
    assert ([path.name for path in train.paths], [path.name for path in val.paths]) == (["a.jpg", "c.jpg"], ["b.jpg"])
    assert (labels(train), labels(val)) == ([NUMBERS, NUMBERS], [NUMBERS])
    assert labels(open_split(tmp_path, "train", zero_ignored=True))[0] == NUMBERS
    assert (val.set_name, val.notices) == ("val", [])


def test_a_colour_that_labelmap_does_not_name_is_named_with_its_place(tmp_path):
    file = write_cvat(tmp_path, NUMBERS) / "SegmentationClass" / "a.png"
    pixels = np.array(Image.open(file))
    pixels[1, 2] = 1, 2, 3
    Image.fromarray(pixels).save(file)
    with pytest.raises(
        FovealError, match=rf"^{file} has the colour 1,2,3 at x=2, y=1, which labelmap.txt does not name"
    ):
        open_split(tmp_path, "train", zero_ignored=False).labels(0)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("cat", "is no class and colour: write NAME:RED,GREEN,BLUE::, with colours up to 255."),
        ("cat:1,2,256::", "is no class and colour"),
        ("cat:0,0,0::", "has the colour 0,0,0 twice, for background and cat: give each class a unique colour."),
        ("background:1,2,3::", "has the class 'background' twice"),
    ],
)
def test_a_labelmap_that_cannot_be_understood_is_refused(tmp_path, line, sentence):
    write_cvat(tmp_path, NUMBERS)
    (tmp_path / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{line}\n")
    assert sentence in refused(tmp_path)


def test_pascal_voc_opens_with_palette_indices_and_a_class_file(tmp_path):
    write_cvat(tmp_path, NUMBERS, palette=True)
    (tmp_path / "labelmap.txt").unlink()
    assert refused(tmp_path) == (
        f"There is no {tmp_path}/classes.txt: write the names of the classes into it, one per line, in the order of "
        "their numbers, from 0; the first label maps have the numbers 0, 1, 2."
    )
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    assert labels(open_split(tmp_path, "val", zero_ignored=False)) == [NUMBERS]


def test_what_is_missing_in_pascal_vocs_layout_is_named(tmp_path):
    write_cvat(tmp_path, NUMBERS)
    lists, listed = tmp_path / "ImageSets" / "Segmentation", "write the names of the images of val into it, one per"
    (lists / "val.txt").write_text("b\nz\n")
    assert refused(tmp_path, "val").startswith(
        f"{lists}/val.txt lists 'z', and {tmp_path}/JPEGImages has no such image"
    )
    (lists / "val.txt").write_text("\n")
    assert refused(tmp_path, "val").startswith(f"{lists}/val.txt lists no image")
    (lists / "val.txt").unlink()
    assert refused(tmp_path, "val") == f"There is no {lists}/val.txt: {listed} line."
    (tmp_path / "JPEGImages").rename(tmp_path / "elsewhere")
    assert "there is no" in refused(tmp_path)
    assert "CVAT exports them with the choice 'Save images'" in refused(tmp_path)


def test_colours_without_a_labelmap_are_refused_with_what_to_write(tmp_path):
    write_cvat(tmp_path, NUMBERS)
    (tmp_path / "labelmap.txt").unlink()
    assert "if colours are the classes, write NAME:RED,GREEN,BLUE:: for each into labelmap.txt instead" in refused(
        tmp_path
    )
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    with pytest.raises(FovealError, match=r"has mode RGB, .*; or, if colours are the classes, name them in labelmap"):
        open_split(tmp_path, "train", zero_ignored=False).labels(0)


def test_label_studios_masks_of_objects_are_refused_with_what_to_do(tmp_path):
    folder = write_split(tmp_path, label_maps=[NUMBERS]) / "labels" / "train"
    (folder / "a.png").rename(folder / "task-1-annotation-7-by-1-tag-cat-0.png")
    sentence = refused(tmp_path)
    assert sentence.startswith(f"{folder} has Label Studio's masks, one for each object, which do not say the numbers")
    assert sentence.endswith(f"write one label map for each image, such as {folder}/a.png.")


def test_images_of_a_folder_without_a_split_are_drawn_for_validation(tmp_path):
    write_folder(tmp_path / "images", tmp_path / "masks", [NUMBERS] * 10)
    (tmp_path / "classes.txt").write_text("sky\ntree\ncar\n")
    with pytest.raises(FovealError, match=r"no images of train.*; or pass --val-fraction 0\.2, which draws validation"):
        open_train_and_val(tmp_path, zero_ignored=False)
    train, val = open_train_and_val(tmp_path, zero_ignored=False, val_fraction=0.2, seed=3)
    assert (len(train), len(val)) == (8, 2)
    assert sorted(train.paths + val.paths) == sorted((tmp_path / "images").iterdir())
    assert val.held_out.names == tuple(path.name for path in val.paths)
    assert val.set_name == "20 % drawn for validation with seed 3"
    again = open_split(tmp_path, "val", zero_ignored=False, held_out=val.held_out)
    assert (again.paths, labels(again)) == (val.paths, [NUMBERS] * 2)
    assert open_split(tmp_path, "train", zero_ignored=False, held_out=val.held_out).paths == train.paths
    val.paths[0].unlink()
    assert open_split(tmp_path, "val", zero_ignored=False, held_out=val.held_out).paths == val.paths[1:]


@pytest.mark.parametrize("layout", ["train alone", "cvat", "roboflow"])
def test_exports_without_a_validation_split_are_drawn_from(tmp_path, layout):
    if layout == "train alone":
        write_split(tmp_path, label_maps=[NUMBERS] * 3)
    elif layout == "cvat":
        lists = write_cvat(tmp_path, NUMBERS) / "ImageSets" / "Segmentation"
        for name in ("train", "val"):
            (lists / f"{name}.txt").unlink()
        (lists / "default.txt").write_text("a\nb\nc\n")
    else:
        write_roboflow(tmp_path, NUMBERS, count=3)
        for file in (tmp_path / "valid").iterdir():
            file.unlink()
        (tmp_path / "valid").rmdir()
    train, val = open_train_and_val(tmp_path, zero_ignored=False, val_fraction=0.3)
    assert (len(train), len(val)) == (2, 1)
    assert labels(train) == [NUMBERS, NUMBERS]


def test_nothing_is_drawn_from_a_folder_with_a_validation_split(tmp_path):
    write_split(tmp_path, "train")
    write_split(tmp_path, "val")
    with pytest.raises(FovealError, match=r"has images for validation: leave --val-fraction out\.$"):
        open_train_and_val(tmp_path, zero_ignored=False, val_fraction=0.2)


def test_a_suffix_that_is_wrong_or_not_needed_is_answered_with_the_right_one(tmp_path):
    folder = write_split(tmp_path, label_maps=[NUMBERS, NUMBERS])
    assert "more image has none: leave --mask-suffix out." in refused(folder, mask_suffix="_mask")
    for file in (folder / "labels" / "train").iterdir():
        file.rename(file.with_stem(f"{file.stem}_seg"))
    assert "more image has none: pass --mask-suffix=_seg, which" in refused(folder, mask_suffix="_mask")


def test_the_list_of_classes_beside_images_is_not_left_out(tmp_path):
    write_folder(tmp_path, tmp_path / "maps", [NUMBERS] * 4)
    for file in (tmp_path / "maps").iterdir():
        file.rename(tmp_path / f"{file.stem}_mask.png")
    (tmp_path / "maps").rmdir()
    (tmp_path / "classes.txt").write_text("sky\ntree\ncar\n")
    train, val = open_train_and_val(tmp_path, zero_ignored=False, mask_suffix="_mask", val_fraction=0.25)
    assert (len(train), len(val), train.notices) == (3, 1, [])
    (tmp_path / "notes.txt").touch()
    train, _ = open_train_and_val(tmp_path, zero_ignored=False, mask_suffix="_mask", val_fraction=0.25)
    (notice,) = train.notices
    assert "left out: 1 .txt." in notice
