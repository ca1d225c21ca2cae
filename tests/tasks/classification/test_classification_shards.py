"""Tar shards: images are drawn as from a folder, and broken shards are reported before the first step."""

import io
import json
import tarfile
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.data import open_split, open_train_and_val
from foveal.training import streaming
from foveal.training.loading import Share, evaluation_loader, train_loader

SIZES = {"train": (7, 4, 9), "val": (2, 5)}


def picture(number, form="PNG"):
    """An image that encodes a number: all pixels are (number, 7, 9)."""
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (number, 7, 9)).save(file, form)
    return file.getvalue()


def write_shard(path, samples, **options):
    """``samples`` are dicts of file extension to content, written with the keys 000000, 000001, ..."""
    with tarfile.open(path, "w", **options) as tar:
        for key, sample in enumerate(samples):
            for ending, content in sample.items():
                info = tarfile.TarInfo(f"{key:06d}.{ending}")
                info.size, info.mtime = len(content), 1.5  # fractional as in webdataset: extended headers
                tar.addfile(info, io.BytesIO(content))


def labelled(number, label=None):
    return {"cls": str(number % 3 if label is None else label).encode(), "png": picture(number)}


@pytest.fixture
def shards(tmp_path):
    """Image n of a split, counted over all shards, has class n % 3 and red value n."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for split, sizes in SIZES.items():
        first = 0
        for number, size in enumerate(sizes):
            write_shard(folder / f"{split}-{number:03d}.tar", [labelled(first + n) for n in range(size)])
            first += size
    return folder


def red(image):
    return torch.tensor(np.asarray(image)[0, 0, 0])


@pytest.fixture
def served(shards):
    """The folder with its index and classes, served over HTTP."""
    sizes = {f"{split}-{n:03d}.tar": size for split, all_ in SIZES.items() for n, size in enumerate(all_)}
    (shards / "sizes.json").write_text(json.dumps(sizes))
    (shards / "classes.txt").write_text("cat\ndog\neel\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(shards))
    handler.log_message = lambda *words: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_folder_of_shards_opens_with_its_classes(shards):
    train, val = open_train_and_val(shards)
    assert train.classes == val.classes == ["0", "1", "2"]
    assert (len(train), len(val)) == (20, 7)
    assert train.targets == [number % 3 for number in range(20)]
    assert train.names[7] == f"{shards}/train-001.tar/000000.png"


def test_images_can_be_indexed(shards):
    train = open_split(shards, "train", red)
    assert [(int(shade), label) for shade, label in (train[n] for n in range(20))] == [(n, n % 3) for n in range(20)]


@pytest.mark.parametrize("where", ["{}/train-{{000..002}}.tar", "{}/train-{{000..002}}.tar::{}/val-{{000..001}}.tar"])
def test_patterns_open_and_find_the_other_split_in_the_same_folder(shards, where):
    train, val = open_train_and_val(where.format(shards, shards))
    assert (len(train), len(val)) == (20, 7)


def test_shards_without_a_split_name_raise_an_error_with_the_naming_scheme(tmp_path):
    write_shard(tmp_path / "shard-000.tar", [labelled(0)])
    with pytest.raises(FovealError, match=r"has tar shards, but none is named after a split: name them train-000\.tar"):
        open_train_and_val(tmp_path)


def test_a_subset_of_the_shards_can_be_selected(shards):
    assert len(open_split(f"{shards}/train-{{000,002}}.tar", "train")) == 16


@pytest.mark.parametrize("names", [{"classes.txt": "cat\ndog\neel\n"}, {"classes.json": '["cat", "dog", "eel"]'}])
def test_class_names_are_read_from_the_folder_of_the_shards(shards, names):
    for name, text in names.items():
        (shards / name).write_text(text)
    train, val = open_train_and_val(shards)
    assert train.classes == val.classes == ["cat", "dog", "eel"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_all_image_formats_and_json_labels_are_supported(tmp_path, form):
    ending = {"JPEG": "jpg", "PNG": "PNG", "WEBP": "webp"}[form]
    samples = [{ending: picture(n, form), "json": json.dumps({"label": n}).encode()} for n in range(2)]
    write_shard(tmp_path / "train-0.tar", samples)
    train = open_split(tmp_path, "train")
    assert train.targets == [0, 1]
    assert train[1][0].size == (6, 5)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("folder", ["", "a/" * 20, "b" * 90 + "/" + "c" * 90 + "/", "ü/"])
def test_headers_are_read_as_by_tarfile(tmp_path, form, folder):
    with tarfile.open(tmp_path / "train-0.tar", "w", format=form) as tar:
        for name, content in (
            (f"{folder}0.png", picture(5)),
            (f"{folder}0.cls", b"0"),
            ("1.jpeg", b"?"),
            ("1.cls", b"1"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    train = open_split(tmp_path, "train", red)
    assert train.names == [f"{tmp_path}/train-0.tar/{name}" for name in (f"{folder}0.png", "1.jpeg")]
    assert train[0] == (5, 0)
    assert [sample["__key__"] for sample in train.read(0)] == [f"{folder}0", "1"]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2])
def test_a_streamed_epoch_draws_each_image_once(shards, workers, count, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW", 2)
    train = open_split(shards, "train", red)
    drawn = Counter()
    for rank in range(count):
        loader = train_loader(train, 2, 20 // count, Share(rank, count), 0, workers)
        batches = list(loader.epoch(0))
        drawn.update(int(shade) for shades, _ in batches for shade in shades)
        assert all((shades % 3 == labels).all() for shades, labels in batches)
        tail = list(loader.epoch(0, 3))
        assert all(
            torch.equal(a, b) for whole, part in zip(batches[3:], tail, strict=True) for a, b in zip(whole, part)
        )
    assert drawn == Counter(range(20))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_counts_each_image_once_over_uneven_shards(shards, count, workers):
    val = open_split(shards, "val", red)
    seen = []
    for rank in range(count):
        loader = evaluation_loader(val, 2, Share(rank, count), workers)
        shades = [int(shade) for shades, _ in loader for shade in shades]
        assert shades == list(loader.order) == list(range(rank, 7, count))
        seen += shades
    assert sorted(seen) == list(range(7))


@pytest.mark.parametrize("scheme", ["http", "pipe"])
def test_remote_shards_give_the_same_images_as_local_ones(served, shards, scheme):
    base = served if scheme == "http" else f"pipe:cat {shards}"
    where = f"{base}/train-{{000..002}}.tar::{base}/val-{{000..001}}.tar"
    train, val = open_train_and_val(where)
    assert train.classes == ["cat", "dog", "eel"]
    assert (len(train), len(val)) == (20, 7)
    train.transform = val.transform = red
    local = open_split(shards, "train", red)
    elsewhere, here = (list(train_loader(images, 4, 20, Share(), 0, 0).epoch(1)) for images in (train, local))
    assert all(torch.equal(a, b) for one, other in zip(elsewhere, here, strict=True) for a, b in zip(one, other))
    assert [int(train[n][0]) for n in (0, 8, 19)] == [0, 8, 19]
    seen = [int(n) for rank in range(2) for ns, _ in evaluation_loader(val, 2, Share(rank, 2), 0) for n in ns]
    assert sorted(seen) == list(range(7))


def test_urls_may_be_passed_as_paths(served):
    from pathlib import Path

    assert len(open_split(Path(f"{served}/val-{{000..001}}.tar"), "val")) == 7


def test_a_broken_image_in_a_shard_is_named_in_the_error_or_skipped(shards):
    write_shard(shards / "train-001.tar", [{"cls": b"1", "png": picture(3)[:40]}, *(labelled(n) for n in (8, 9, 10))])
    train = open_split(shards, "train", red)
    name = f"{shards}/train-001.tar/000000.png"
    with pytest.raises(FovealError, match=rf"^{name} is not a readable image"):
        list(train_loader(train, 4, 20, Share(), 0, 0).epoch(0))
    skipping = train_loader(train, 4, 20, Share(), 0, 0, broken="skip")
    assert sum(len(labels) for _, labels in skipping.epoch(0)) == 20
    assert skipping.broken == [name]


def damage(shards, kind):
    path = shards / "train-001.tar"
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    write = partial(write_shard, path)
    {
        "cut in an image": lambda: path.write_bytes(content[: last.offset_data + last.size // 2]),
        "cut before its end mark": lambda: path.write_bytes(content[: last.offset_data + 512]),
        "empty": lambda: path.write_bytes(b""),
        "no tar": lambda: path.write_bytes(b"I am no tar. " * 1000),
        "compressed": lambda: path.write_bytes(b"\x1f\x8b" + bytes(2000)),
        "no label": lambda: write([{"png": picture(1)}]),
        "word": lambda: write([{"png": picture(1), "cls": b"cat"}]),
        "json without label": lambda: write([{"png": picture(1), "json": b"{}"}]),
        "no image": lambda: write([{"cls": b"1", "txt": b"hello"}]),
        "negative": lambda: write([labelled(1, -1)]),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("cut in an image", r"^The shard \S+train-001\.tar is truncated: copy or write it again\.$"),
        ("cut before its end mark", r"^The shard \S+train-001\.tar is truncated: copy or write it again\.$"),
        ("empty", r"^The shard \S+train-001\.tar is not a readable tar file: copy or write it again\.$"),
        ("no tar", r"^The shard \S+train-001\.tar is not a readable tar file: copy or write it again\.$"),
        ("compressed", r"^The shard \S+train-001\.tar is compressed: decompress it"),
        ("no label", r"^\S+train-001\.tar/000000\.png has no label:"),
        ("word", r"^\S+train-001\.tar/000000\.png has the label 'cat', which is not a class number"),
        ("json without label", r"^\S+train-001\.tar/000000\.png has a \.json without \"label\""),
        ("no image", r"^\S+train-001\.tar/000000\.cls has no image \(\.jpg, \.png, \.\.\.\)"),
        ("negative", r"^\S+train-001\.tar/000000\.png has the label -1, and classes range from 0 to 2"),
    ],
)
def test_broken_shards_raise_a_one_line_error_when_opened(shards, kind, sentence):
    damage(shards, kind)
    with pytest.raises(FovealError, match=sentence) as caught:
        open_train_and_val(shards)
    assert "\n" not in str(caught.value)


def test_labels_beyond_the_class_list_are_rejected(shards):
    (shards / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(FovealError, match=r"train-000\.tar/000002\.png has the label 2, and classes range from 0 to 1"):
        open_train_and_val(shards)


def test_val_labels_missing_from_train_are_rejected(shards):
    write_shard(shards / "val-001.tar", [labelled(1, 7)])
    with pytest.raises(FovealError, match=r"val-001\.tar/000000\.png has the label 7, and classes range from 0 to 2"):
        open_train_and_val(shards)


def test_a_class_without_images_keeps_its_number_and_is_named(shards):
    """Its line cannot be removed from classes.txt without moving the numbers of those below."""
    (shards / "classes.txt").write_text("cat\ndog\neel\nfox\n")
    train, val = open_train_and_val(shards)
    assert train.classes == val.classes == ["cat", "dog", "eel", "fox"]
    assert train.notices == [
        f"{shards} (train) has no image of the class 'fox', which the network therefore cannot learn."
    ]
    assert val.notices == [f"{shards} (val) has no image of the class 'fox': the validation is over 3 of 4 classes."]


def test_labels_that_start_at_one_are_taken(tmp_path):
    for split in ("train", "val"):
        write_shard(tmp_path / f"{split}-0.tar", [labelled(number, 1 + number % 2) for number in range(4)])
    train, val = open_train_and_val(tmp_path)
    assert train.targets == val.targets == [1, 2, 1, 2]
    assert train.classes == ["0", "1", "2"]
    assert "no image of the class '0'" in train.notices[0]


@pytest.mark.parametrize("text", ["cat\ndog\ncat\n"])
def test_duplicate_class_names_are_rejected(shards, text):
    (shards / "classes.txt").write_text(text)
    with pytest.raises(FovealError, match=r"class 'cat' occurs twice"):
        open_train_and_val(shards)


def test_missing_shards_and_splits_are_named_in_the_error(shards):
    with pytest.raises(FovealError, match=r"^There is no shard \S+train-003\.tar: check the numbers"):
        open_train_and_val(f"{shards}/train-{{000..003}}.tar")
    for shard in shards.glob("val*"):
        shard.unlink()
    with pytest.raises(FovealError, match=r"has no val shards: name them val-000\.tar"):
        open_train_and_val(shards)


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("sizes.json", None, r"its number of images is unknown: put a sizes\.json next to it"),
        ("sizes.json", "{", r"sizes\.json is not readable JSON"),
        ("sizes.json", '{"train-000.tar": 7}', r"does not say how many images train-001\.tar has"),
        ("classes.txt", None, r"has no list of classes: put a classes\.txt next to it"),
    ],
)
def test_missing_metadata_of_remote_shards_is_named_in_the_error(served, shards, file, text, sentence):
    (shards / file).unlink() if text is None else (shards / file).write_text(text)
    with pytest.raises(FovealError, match=sentence):
        open_split(f"{served}/train-{{000..002}}.tar", "train")


def test_the_index_of_webdataset_is_supported(served, shards):
    listed = [{"url": f"train-{n:03d}.tar", "nsamples": size} for n, size in enumerate(SIZES["train"])]
    (shards / "sizes.json").write_text(json.dumps({"wids_version": 1, "shardlist": listed}))
    assert open_split(f"{served}/train-{{000..002}}.tar", "train").sizes == [7, 4, 9]


@pytest.mark.parametrize("count", [6, 8])
def test_a_wrong_index_raises_an_error_when_the_shard_is_read(served, shards, count):
    (shards / "sizes.json").write_text(json.dumps({"train-000.tar": count}))
    train = open_split(f"{served}/train-000.tar", "train", red)
    word = "more" if count == 6 else "fewer"
    with pytest.raises(FovealError, match=rf"train-000\.tar has {word} than the {count} images of its index"):
        list(train.read(0))


@pytest.mark.parametrize("scheme", ["http", "pipe"])
def test_missing_and_truncated_remote_shards_are_named_in_the_error(served, shards, scheme):
    base = served if scheme == "http" else f"pipe:cat 2>/dev/null {shards}"
    train = open_split(f"{base}/train-{{000..002}}.tar", "train", red)
    damage(shards, "cut in an image")
    with pytest.raises(FovealError, match=r"train-001\.tar cannot be read to its end: check the file and the network"):
        list(train_loader(train, 4, 20, Share(), 0, 0).epoch(0))
    (shards / "train-001.tar").unlink()
    with pytest.raises(FovealError, match=r"train-001\.tar cannot be read to its end: check the file and the network"):
        list(train_loader(train, 4, 20, Share(), 0, 0).epoch(0))


def test_missing_webdataset_names_the_extra_to_install(shards, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "webdataset.gopen", None)
    monkeypatch.setitem(__import__("sys").modules, "braceexpand", None)
    with pytest.raises(
        FovealError, match=r"Tar shards need webdataset: install it with `pip install 'foveal\[train\]'`"
    ):
        open_split(f"{shards}/train-{{000..002}}.tar", "train")
