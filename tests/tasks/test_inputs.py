"""What a user may name to predict on, and in which order files are found."""

import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks import video
from foveal.tasks.inputs import find_inputs


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """photos/ with images on two levels, and other files."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.jpg", "deep/er/c.PNG", "deep/d.webp", ".hidden/e.png", "deep/.f.png", "[x].png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, format="PNG")
    (tmp_path / "photos" / "notes.txt").write_text("none")
    (tmp_path / "empty").mkdir()
    return tmp_path / "photos"


def paths(*words, **options):
    return find_inputs(words, **options).paths


FOUND = [f"photos/{name}" for name in ("[x].png", "a.jpg", "b.png", "deep/d.webp", "deep/er/c.PNG")]


@pytest.mark.parametrize("word", ["photos", "photos/"])
def test_a_folder_is_searched_with_all_below_in_order(photos, word):
    assert paths(word) == FOUND
    assert find_inputs([word]).total == 5


def test_what_a_folder_has_beside_images_is_counted_in_a_notice(photos):
    (notice,) = find_inputs(["photos"]).notices
    assert "1 file" in notice
    assert "1 .txt" in notice


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/*.png", ["photos/[x].png", "photos/b.png"]),
        ("photos/?.*", ["photos/a.jpg", "photos/b.png"]),
        ("photos/**/*.PNG", ["photos/deep/er/c.PNG"]),
        ("photos/**", FOUND),
        ("photos/dee*", ["photos/deep/d.webp", "photos/deep/er/c.PNG"]),
        ("photos/*", FOUND),
    ],
)
def test_a_pattern_that_the_shell_left_is_expanded(photos, pattern, found):
    assert paths(pattern) == found


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos):
    assert paths("photos/[x].png") == ["photos/[x].png"]


def test_a_list_has_one_path_a_line(photos):
    lines = ["photos/b.png\n", "\n", "photos/deep\r\n", "photos/missing.png"]
    assert paths("-", lines=lines) == [
        "photos/b.png",
        "photos/deep/d.webp",
        "photos/deep/er/c.PNG",
        "photos/missing.png",
    ]
    assert paths("photos/a.jpg", "-", lines=lines[:1]) == ["photos/a.jpg", "photos/b.png"]


def test_a_name_in_a_list_is_no_pattern(photos):
    assert paths("-", lines=["photos/*.png", "photos/b.png"]) == ["photos/*.png", "photos/b.png"]


def test_files_are_found_once_and_named_ones_kept(photos):
    assert paths("photos/b.png", "photos", "photos/*.png") == [
        "photos/b.png",
        *(p for p in FOUND if p != "photos/b.png"),
    ]
    assert paths("photos/b.png", "photos/b.png") == ["photos/b.png"] * 2


def test_files_of_an_earlier_prediction_are_not_found_again_but_may_be_named(photos):
    written = frozenset([(photos / "b.png").resolve()])
    assert paths("photos", written=written) == [path for path in FOUND if path != "photos/b.png"]
    assert paths("photos/*.png", written=written) == ["photos/[x].png"]
    assert paths("photos/b.png", written=written) == ["photos/b.png"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["https://example.org/cat.jpg"],
            "https://example.org/cat.jpg is a URL: download the file, and pass its path.",
        ),
        (["photos", "s3:/bucket/cat.jpg"], "s3:/bucket/cat.jpg is a URL: download the file, and pass its path."),
        (["empty"], "empty has no images, also not in its subfolders: pass a folder with images, or files."),
        (["photos", "empty"], "empty has no images, also not in its subfolders: pass a folder with images, or files."),
        (["photos/*.gif"], "No image matches photos/*.gif: check the pattern."),
        (["photos/*.txt"], "No image matches photos/*.txt: check the pattern."),
        (["-"], "The list on standard input is empty: write one path a line."),
        (["none.png"], "There is no image at none.png: check the path."),
        (["none.png", "no.png"], "There is no image at none.png, nor at the other path: check the paths."),
        (["a", "b", "c"], "There is no image at a, nor at the 2 other paths: check the paths."),
    ],
)
def test_what_names_no_image_is_one_sentence(photos, words, sentence):
    with pytest.raises(FovealError) as error:
        find_inputs(words)
    assert str(error.value) == sentence


def test_pictures_are_the_files(photos):
    first, *_ = find_inputs(["photos/b.png"]).pictures()
    assert (first.name, first.stem, first.load().size) == ("photos/b.png", "b", (4, 4))


def test_a_video_is_its_frames(photos, monkeypatch):
    (photos / "clip.mp4").write_bytes(b"none")
    monkeypatch.setattr(video, "find_spec", lambda name: object())
    frames = {1: range(3), 2: range(0, 3, 2)}
    monkeypatch.setattr(
        video, "read_frames", lambda path, every: ((n, Image.new("RGB", (n + 1, 1))) for n in frames[every])
    )
    inputs = find_inputs(["photos/a.jpg", "photos/clip.mp4"], every=2)
    assert inputs.total is None
    pictures = list(inputs.pictures())
    assert [picture.name for picture in pictures] == ["photos/a.jpg", "photos/clip.mp4#0", "photos/clip.mp4#2"]
    assert [picture.stem for picture in pictures] == ["a", "clip_000000", "clip_000002"]
    assert [picture.load().width for picture in pictures[1:]] == [1, 3]
    assert paths("photos/*.mp4") == ["photos/clip.mp4"]


def test_a_video_without_a_reader_is_one_sentence(photos, monkeypatch):
    (photos / "clip.mp4").write_bytes(b"none")
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(FovealError, match=r"clip.mp4 is a video, which PyAV reads: install it with `pip install"):
        find_inputs(["photos/a.jpg", "photos/clip.mp4"])
    assert paths("photos") == FOUND  # a folder is searched for images


def test_a_video_that_breaks_off_keeps_the_frames_before(photos, monkeypatch):
    def cut(path, every):
        yield 0, Image.new("RGB", (2, 2))
        raise video.BrokenSample(path, f"{path} is not a readable video.")

    monkeypatch.setattr(video, "read_frames", cut)
    first, last = video.frame_pictures("clip.mp4")
    assert first.load().size == (2, 2)
    with pytest.raises(FovealError, match=r"clip.mp4 is not a readable video"):
        last.load()
