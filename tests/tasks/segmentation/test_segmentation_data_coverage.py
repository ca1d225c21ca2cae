"""Classes without a pixel are named, before a run where a look at a few label maps shows it, and after an epoch."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.segmentation.data import Augment, open_split, survey
from foveal.tasks.segmentation.data.augment import SMALL
from foveal.tasks.segmentation.data.coverage import Seen
from foveal.tasks.segmentation.data.survey import MOST_FILES
from foveal.training.batching import Share
from foveal.training.loading import train_loader
from support.segmentation_folders import write_folder, write_split

BINARY = "background\nobject\n"


def write_many(root, label_maps, classes):
    """More label maps than there are letters for."""
    for start in range(0, len(label_maps), 10):
        part = label_maps[start : start + 10]
        write_folder(root / "some", root / "maps", part)
        for kind, place in (("some", "images"), ("maps", "labels")):
            (root / place / "train").mkdir(parents=True, exist_ok=True)
            for file in (root / kind).iterdir():
                file.rename(root / place / "train" / f"{start:04}{file.name}")
    (root / "classes.txt").write_text(classes)
    return root


def surveyed(root, label_maps, classes=BINARY, zero_ignored=False, broken="stop"):
    opened = open_split(write_split(root, label_maps=label_maps, classes=classes), "train", zero_ignored=zero_ignored)
    survey(opened, broken)
    return opened


def test_a_binary_mask_of_0_and_255_is_noticed_with_what_to_change(tmp_path):
    """The mean IoU over the background alone is 100."""
    assert surveyed(tmp_path, [[[0, 255]], [[255, 255]]]).notices == [
        f"No label map in {tmp_path}/labels/train has a pixel of the class object; all pixels that are not background "
        "have the number 255, which is ignored: save 255 as 1."
    ]


def test_masks_of_several_classes_that_hold_255_alone_are_noticed_with_the_numbers(tmp_path):
    (notice,) = surveyed(tmp_path, [[[0, 255]]], classes="sky\ntree\ncar\n").notices
    assert notice == (
        f"No label map in {tmp_path}/labels/train has a pixel of 2 of the 3 classes (tree, car); all pixels that are "
        "not sky have the number 255, which is ignored: save the pixels of each class as its number, 0 to 2."
    )


def test_a_class_without_a_pixel_is_named_and_255_beside_others_is_no_reason(tmp_path):
    (notice,) = surveyed(tmp_path, [[[0, 255, 1]]], classes="sky\ntree\ncar\n").notices
    assert notice == f"No label map in {tmp_path}/labels/train has a pixel of the class car."


def test_complete_label_maps_have_no_notice(tmp_path):
    assert surveyed(tmp_path, [[[0, 255]], [[0, 1]]]).notices == []


def test_0_where_it_is_ignored_is_noticed_if_the_numbers_seem_to_begin_there(tmp_path):
    (notice,) = surveyed(tmp_path, [[[0, 1]]], zero_ignored=True).notices
    assert notice == (
        f"No label map in {tmp_path}/labels/train has a pixel of the class object; the number 0 is ignored and 1 is "
        "background, as in ADE20K: if 0 is background in these label maps, train with --zero class."
    )
    (tmp_path / "other").mkdir()
    assert surveyed(tmp_path / "other", [[[0, 1, 2]]], zero_ignored=True).notices == []


@pytest.mark.parametrize(
    ("pixels", "zero_ignored", "sentence"),
    [
        (
            [[255, 255]],
            False,
            "have the number 255, which is ignored: save the pixels of each class as its number, 0 to 1",
        ),
        ([[0, 255]], True, "have the numbers 0 and 255, which are ignored; all others have the number 255, which is"),
        ([[0, 0]], True, "have the number 0, which is ignored; the number 0 is ignored and 1 is background, as in ADE"),
    ],
)
def test_label_maps_without_a_pixel_of_a_class_are_refused(tmp_path, pixels, zero_ignored, sentence):
    with pytest.raises(FovealError) as caught:
        surveyed(tmp_path, [pixels] * 3, zero_ignored=zero_ignored)
    assert str(caught.value).startswith(f"All pixels of the label maps in {tmp_path}/labels/train {sentence}")


def test_one_pixel_of_a_class_in_a_late_label_map_is_enough(tmp_path):
    maps = [[[255, 255]]] * 70 + [[[0, 255]]]
    opened = open_split(write_many(tmp_path, maps[::-1][::-1], BINARY), "train", zero_ignored=False)
    opened.label_paths, opened.paths = opened.label_paths[::-1], opened.paths[::-1]
    survey(opened, "stop")
    (notice,) = opened.notices
    assert "save 255 as 1" in notice


def test_a_look_reads_few_label_maps_and_says_how_many(tmp_path):
    opened = open_split(write_many(tmp_path, [[[0, 255]]] * 90, BINARY), "train", zero_ignored=False)
    survey(opened, "stop")
    assert opened.coverage.seen().read == MOST_FILES == 32
    (notice,) = opened.notices
    assert notice.startswith(
        f"None of the 32 label maps that were read, of 90 in {tmp_path}/labels/train, has a pixel of the class object; "
    )


def test_a_look_goes_on_when_every_class_has_a_pixel(tmp_path):
    """One of 32 label maps is wrong, and would stop a run at its first evaluation."""
    opened = open_split(write_many(tmp_path, [[[0, 1]]] * 31 + [[[0, 7]]], BINARY), "train", zero_ignored=False)
    with pytest.raises(FovealError, match=r"has the value 7 at x=1, y=0; only 0 to 1 and 255 are allowed"):
        survey(opened, "stop")
    survey(opened, "skip")
    assert opened.coverage.seen().read == 31
    (notice,) = opened.notices
    assert notice.startswith(
        f"1 of the 32 images with label maps in {tmp_path}/labels/train that were looked at cannot be used, and such "
        f"images are skipped; the first: {opened.label_paths[31]} has the value 7 at x=1, y=0; "
    )


def test_a_look_is_bounded_by_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[survey.__module__], "MOST_PIXELS", 7)
    opened = open_split(write_many(tmp_path, [[[0, 1]]] * 90, BINARY), "train", zero_ignored=False)
    survey(opened, "stop")
    assert (opened.coverage.seen().read, opened.notices) == (4, [])


def test_a_look_decodes_eight_images(tmp_path, monkeypatch):
    """Evenly over the set; of the others only headers are read."""
    opened = open_split(write_many(tmp_path, [[[0, 1]]] * 90, BINARY), "train", zero_ignored=False)
    decoded, image = [], opened.image
    monkeypatch.setattr(opened, "image", lambda index: decoded.append(index) or image(index))
    survey(opened, "stop")
    assert (len(decoded), decoded[0], decoded[-1] > 70) == (8, 0, True)


def test_images_of_an_unknown_range_are_found_before_training(tmp_path):
    write_split(tmp_path, label_maps=[[[0, 1]]] * 3, classes=BINARY)
    for file in (tmp_path / "images" / "train").iterdir():
        Image.fromarray(np.array([[0.0, 200.0]], np.float32)).save(file.with_suffix(".tif"))
        file.unlink()
    with pytest.raises(FovealError, match=r"/a\.tif has fractions of 32 bits from 0 to 200"):
        survey(open_split(tmp_path, "train", zero_ignored=False), "stop")


def test_label_maps_none_of_which_can_be_used_are_refused_with_the_reasons(tmp_path):
    """Two label maps have a different size than their image, one has a value without a class, one is not an image."""
    maps = [[[0, 1]], [[0, 0]], [[0, 9]], [[0, 1]]]
    folder = write_split(tmp_path, label_maps=maps, classes=BINARY) / "labels" / "train"
    for name in "ab":
        Image.new("L", (3, 1)).save(folder / f"{name}.png")
    (folder / "d.png").write_bytes(b"broken")
    with pytest.raises(FovealError) as caught:
        survey(open_split(tmp_path, "train", zero_ignored=False), "skip")
    assert str(caught.value) == (
        f"None of the 4 images with label maps in {folder} can be used (label map of another size: 2, such as "
        f"{folder}/a.png; number without a class: 1, such as {folder}/c.png; not readable: 1, such as {folder}/d.png); "
        f"the first: {folder}/a.png has 3x1 pixels, and its image {tmp_path}/images/train/a.png has 2x1: replace one "
        "of them."
    )


def test_a_look_at_fewer_label_maps_than_classes_says_nothing(tmp_path):
    """A few images of ADE20K never have all of its classes."""
    names = "\n".join(f"class {number}" for number in range(100))
    opened = open_split(write_many(tmp_path, [[[0, 1]]] * 90, names), "train", zero_ignored=False)
    survey(opened, "stop")
    assert opened.notices == []


def test_broken_label_maps_are_refused_by_a_look_or_skipped(tmp_path):
    folder = write_split(tmp_path, label_maps=[[[0, 1]], [[0, 0]], [[0, 0, 0]]], classes=BINARY) / "labels" / "train"
    (folder / "a.png").write_bytes(b"broken")
    (folder / "b.png").write_bytes((folder / "c.png").read_bytes())  # of another size
    with pytest.raises(FovealError, match=rf"^{folder}/a\.png is not a readable image"):
        survey(open_split(tmp_path, "train", zero_ignored=False), "stop")
    opened = open_split(tmp_path, "train", zero_ignored=False)
    survey(opened, "skip")
    assert opened.coverage.seen().read == 1
    (folder / "c.png").write_bytes(b"broken")
    with pytest.raises(FovealError, match=rf"^None of the 3 images with label maps in {folder} can be used \("):
        survey(open_split(tmp_path, "train", zero_ignored=False), "skip")
    (folder / "a.png").write_bytes((folder / "b.png").read_bytes())
    with pytest.raises(
        FovealError, match=rf"^{folder}/a\.png has 3x1 pixels, and its image .*/a\.png has 2x1: replace"
    ):
        survey(open_split(tmp_path, "train", zero_ignored=False), "stop")


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_processes_note_what_they_read(tmp_path, workers):
    draw = np.random.default_rng(0)
    maps = [draw.integers(0, 2, (40, 40)) for _ in range(6)]
    opened = open_split(write_split(tmp_path, label_maps=maps, classes="a\nb\nc\n"), "train", zero_ignored=False)
    opened.transform = Augment(SMALL)
    opened.conclude()
    assert opened.notices == []  # nothing was read
    loader = train_loader(opened, 2, 6, Share(), seed=0, workers=workers)
    assert len(list(loader.epoch(0))) == 3
    seen = opened.coverage.seen()
    assert (seen.numbers, seen.read, seen.total) == ({0, 1}, 6, 6)
    for _ in range(2):  # said once
        opened.conclude()
        assert opened.notices == [f"No label map in {tmp_path}/labels/train has a pixel of the class c."]


def test_what_any_process_read_counts(tmp_path):
    for name in ("one", "two"):
        write_split(tmp_path / name, label_maps=[[[0, 0]], [[0, 1]]], classes="a\nb\n")
    opened, other = (open_split(tmp_path / name, "train", zero_ignored=False) for name in ("one", "two"))
    opened.labels(0)
    other.labels(1)

    class Both:
        """Two processes, of which the other has read the second label map."""

        def sum_rows(self, values):
            return values + torch.cat([other.coverage._numbers, other.coverage._read])

    assert opened.coverage.seen(Both()) == Seen(frozenset({0, 1}), 2, 2)
    opened.conclude(Both())
    assert opened.notices == []


def test_what_an_epoch_shows_replaces_what_a_look_supposed(tmp_path):
    maps = [[[0, 255]]] * 90
    opened = open_split(write_many(tmp_path, maps, BINARY), "train", zero_ignored=False)
    survey(opened, "stop")
    for index in range(90):
        opened.labels(index)
    opened.conclude()
    (notice,) = opened.notices
    assert notice.startswith(f"No label map in {tmp_path}/labels/train has a pixel of the class object; ")
