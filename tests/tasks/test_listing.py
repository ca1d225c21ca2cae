"""Which files of a folder count as images, and what is said about the others."""

import contextlib
from collections import Counter

import pytest
from PIL import Image

from foveal.tasks.listing import (
    few,
    find_entry,
    image_endings,
    is_hidden,
    is_image,
    left_out,
    list_images,
    split_folders,
    split_names,
    walk_images,
)


@pytest.mark.parametrize("name", ["a.jfif", "a.gif", "a.JPG", "a.webp", "a.tiff", "a.bmp", "a.jp2", "a.mpo", "a.ppm"])
def test_formats_that_pillow_reads_are_images(name):
    assert is_image(name)


@pytest.mark.parametrize("name", ["a.mpg", "a.mpeg", "a.mp4", "a.h5", "a.eps", "a.txt", "a.json", "a", "a.jpg.bak"])
def test_videos_documents_and_other_files_are_no_images(name):
    assert not is_image(name)


def test_every_ending_belongs_to_a_format_that_opens(tmp_path):
    """Of the formats that Pillow also writes: a file of each ending is written and opened."""
    kinds = {ending: kind for ending, kind in Image.registered_extensions().items() if ending in image_endings()}
    for ending, kind in kinds.items():
        if kind not in Image.SAVE or kind == "WMF":
            continue
        file = tmp_path / f"image{ending}"
        for mode in ("RGB", "RGBA", "P", "1"):
            with contextlib.suppress(ValueError, OSError):  # the format does not store this mode
                Image.new(mode, (16, 16)).save(file)
                break
        with Image.open(file) as image:
            image.load()


@pytest.mark.parametrize("name", [".DS_Store", "._0.jpg", ".ipynb_checkpoints", "Thumbs.db", "desktop.ini", "__MACOSX"])
def test_names_that_no_person_wrote_are_hidden(name):
    assert is_hidden(name)
    assert is_hidden(name.upper()) or name.startswith(".")


def test_folders_are_walked_in_order_without_hidden_files_and_folders(tmp_path):
    seen, hidden = ["b.png", "a.jpg", "deep/c.gif"], [".hidden/d.jpg", "__MACOSX/._a.jpg", "Thumbs.db"]
    for name in (*seen, *hidden, "notes.TXT", "raw", "e.xyz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = walk_images(tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in found.images] == ["a.jpg", "b.png", "deep/c.gif"]
    assert found.others == {".txt": 1, "": 1, ".xyz": 1}
    assert [file.name for file in list_images(tmp_path).images] == ["a.jpg", "b.png"]


def test_a_folder_that_links_lead_to_again_is_listed_once(tmp_path):
    """A link to a folder above would multiply its images 40 times, until the system refuses the path."""
    outside = tmp_path / "outside"
    for file in (tmp_path / "cat" / "in" / "a.jpg", outside / "b.jpg"):
        file.parent.mkdir(parents=True)
        file.touch()
    for link, target in {"in/up": "cat", "0": "cat/in", "1": "outside", "2": "outside"}.items():
        (tmp_path / "cat" / link).symlink_to(tmp_path / target, target_is_directory=True)
    found = [str(path.relative_to(tmp_path / "cat")) for path in walk_images(tmp_path / "cat").images]
    assert found == ["1/b.jpg", "in/a.jpg"]


def test_what_is_left_out_is_counted_by_ending():
    assert left_out(Counter({".heic": 12, "": 1}), "cats") == [
        "cats has 13 files that Pillow does not read as images, left out: 12 .heic, 1 without an ending."
    ]
    assert left_out(Counter({".txt": 1}), "cats") == [
        "cats has 1 file that Pillow does not read as images, left out: 1 .txt."
    ]
    assert left_out(Counter(), "cats") == []


def test_splits_have_synonyms():
    assert split_names("val") == split_names("Valid") == ("val", "validation", "valid")
    assert split_names("test") == ("test",)


def test_entries_are_found_in_any_case_and_by_their_own_first(tmp_path):
    for name in ("Images/Train", "masks", "VAL", "valid"):
        (tmp_path / name).mkdir(parents=True)
    assert find_entry(tmp_path, "images", "train") == tmp_path / "Images" / "Train"
    assert find_entry(tmp_path, "Masks", "train") == tmp_path / "masks" / "train"
    assert find_entry(tmp_path / "none", "train") == tmp_path / "none" / "train"
    assert split_folders(tmp_path, "validation") == [tmp_path / "VAL", tmp_path / "valid"]
    assert split_folders(tmp_path, "VALID") == [tmp_path / "VAL", tmp_path / "valid"]
    assert split_folders(tmp_path, "MASKS") == [tmp_path / "masks"]
    assert split_folders(tmp_path, "train") == split_folders(tmp_path / "none", "train") == []
    (tmp_path / "Masks").mkdir(exist_ok=True)
    assert find_entry(tmp_path, "Masks").name == "Masks"


def test_a_sentence_names_few_of_many():
    assert few(["ant"]) == "ant"
    assert few(list("abcde")) == "a, b, c, d, e"
    assert few(list("abcdefg")) == "a, b, c, d, e and 2 more"
