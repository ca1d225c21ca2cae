"""Hugging Face datasets: columns are found by type, and rows keep their labels.

``datasets`` takes 250 MB and is not required by the tests: a fake with its interface replaces it, and one test checks
the same behaviour with the real package if it is installed.
"""

import io
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.data import open_split, open_train_and_val
from foveal.training.loading import Share, evaluation_loader


class ImageFeature:
    def __init__(self, decode=True):
        self.decode = decode


class ClassLabel:
    def __init__(self, names):
        self.names = names


class Table:
    """The part of ``datasets.Dataset`` that Foveal uses: rows in memory, images as bytes unless decoded."""

    def __init__(self, features, rows):
        self.features, self.rows = features, rows

    def __getitem__(self, key):
        if isinstance(key, slice):
            return {name: [row[name] for row in self.rows[key]] for name in self.features}
        for name, feature in self.features.items():
            assert not getattr(feature, "decode", False), f"{name} would be decoded by datasets"
        return self.rows[key]

    def select_columns(self, names):
        return Table({name: self.features[name] for name in names}, self.rows)

    def cast_column(self, name, feature):
        return Table({**self.features, name: feature}, self.rows)


class Fake:
    """A fake of the package: the tests provide what ``load_dataset`` and ``load_from_disk`` return."""

    Image, ClassLabel = ImageFeature, ClassLabel

    def __init__(self):
        self.found = {}

    def load_dataset(self, *name):
        if name not in self.found:
            raise FileNotFoundError(f"Dataset {name[0]!r} doesn't exist on the Hub.\nIt really does not.")
        return self.found[name]

    def load_from_disk(self, path):
        return self.found[path]


def picture(shade):
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (shade, 7, 9)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def table(labels, names=("cat", "dog"), **more):
    rows = [{"photo": picture(n), "kind": label, "note": "x"} for n, label in enumerate(labels)]
    return Table({"note": SimpleNamespace(), "photo": ImageFeature(), "kind": ClassLabel(list(names)), **more}, rows)


@pytest.fixture
def hub(monkeypatch):
    package = Fake()
    monkeypatch.setitem(sys.modules, "datasets", package)
    return package


def red(image):
    return torch.tensor(image.getpixel((0, 0))[0])


@pytest.mark.parametrize("name", [("owner/pets",), ("owner/pets", "small")])
@pytest.mark.parametrize("val", ["val", "validation", "test"])
def test_a_dataset_is_opened_by_name(hub, name, val):
    hub.found[name] = {"train": table([0, 1, 1]), val: table([1, 0])}
    train, images = open_train_and_val("hf:" + ":".join(name))
    assert train.classes == images.classes == ["cat", "dog"]
    images.transform = red
    assert [(int(shade), label) for shade, label in images] == [(0, 1), (1, 0)]
    assert images.names == [f"{':'.join(name)}/{val}[0]", f"{':'.join(name)}/{val}[1]"]


def test_the_validation_split_is_preferred_to_test(hub):
    hub.found["pets",] = {"train": table([0, 1]), "test": table([1, 0]), "validation": table([1, 0, 1])}
    assert len(open_split("hf:pets", "val")) == 3


def test_a_saved_dataset_is_opened_from_its_folder(hub, tmp_path):
    (tmp_path / "dataset_dict.json").write_text("{}")
    hub.found[str(tmp_path)] = {"train": table([0, 1]), "test": table([1, 0])}
    assert len(open_train_and_val(tmp_path)[1]) == 2


def test_images_in_separate_files_are_read(hub, tmp_path):
    Image.new("RGB", (4, 4), (77, 0, 0)).save(tmp_path / "a.png")
    stored = table([0, 1])
    stored.rows[0]["photo"] = {"bytes": None, "path": str(tmp_path / "a.png")}
    hub.found["pets",] = {"train": stored}
    assert open_split("hf:pets", "train", red)[0][0] == 77


@pytest.mark.parametrize("content", [{"bytes": b"broken", "path": None}, {"bytes": None, "path": None}, None])
def test_a_broken_image_is_named_or_skipped(hub, content):
    stored = table([0, 1, 0])
    stored.rows[1]["photo"] = content
    hub.found["pets",] = {"train": stored}
    images = open_split("hf:pets", "train", red)
    with pytest.raises(FovealError, match=r"^pets/train\[1\] is not a readable image \(no known image format\)"):
        images[1]
    loader = evaluation_loader(images, 8, Share(), 0, broken="skip")
    assert [shades.tolist() for shades, _ in loader] == [[0, 2]]
    assert loader.broken == ["pets/train[1]"]


@pytest.mark.parametrize("label", [-1, 2, None])
def test_a_label_out_of_range_is_named_in_the_error(hub, label):
    hub.found["pets",] = {"train": table([0, 1]), "val": table([0, 1, label])}
    with pytest.raises(FovealError, match=rf"^pets/val\[2\] has the label {label}, which is not one of its 2 classes"):
        open_train_and_val("hf:pets")


CASES = {
    "no val": ({"train": table([0, 1])}, r"^pets has no split val or validation or valid or test, only train: choose"),
    "no images": (
        {"train": Table({"kind": ClassLabel(["a"])}, []), "val": table([0])},
        r"^pets/train has no columns of images, and needs exactly one",
    ),
    "two labels": (
        {"train": table([0, 1], breed=ClassLabel(["x"])), "val": table([0])},
        r"^pets/train has 2 columns of class labels \(kind, breed\)",
    ),
    "one class": ({"train": table([0, 0]), "val": table([0])}, r"^pets/train has images of only one class, 'cat'"),
    "no images in val": ({"train": table([0, 1]), "val": table([])}, r"^pets/val has no image: add images"),
    "other classes": (
        {"train": table([0, 1]), "val": table([1], ("cat", "eel"))},
        r"^pets/val has a class 'eel' that pets/train does not have",
    ),
    "no splits": (table([0, 1]), r"^pets is a single split without a name: save a DatasetDict"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_dataset_raises_a_one_line_error(hub, case):
    hub.found["pets",], sentence = CASES[case]
    with pytest.raises(FovealError, match=sentence) as caught:
        open_train_and_val("hf:pets")
    assert "\n" not in str(caught.value)


def test_a_missing_dataset_is_named_in_the_error(hub):
    with pytest.raises(
        FovealError, match=r"^The dataset gone cannot be opened \(Dataset 'gone' doesn't exist on the Hub\)"
    ):
        open_train_and_val("hf:gone")


def test_missing_datasets_package_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FovealError, match=r"^pets is a Hugging Face dataset, .* `pip install 'foveal\[data\]'`"):
        open_train_and_val("hf:pets")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_real_package_behaves_the_same(tmp_path, workers):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"kind": datasets.ClassLabel(names=["cat", "dog"]), "photo": datasets.Image()})
    splits = {
        name: datasets.Dataset.from_dict(
            {"kind": [n % 2 for n in range(size)], "photo": [picture(n) for n in range(size)]}, features=features
        )
        for name, size in (("train", 6), ("test", 5))
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    train, val = open_train_and_val(tmp_path / "saved")
    assert (len(train), val.classes) == (6, ["cat", "dog"])
    val.transform = red
    seen = [
        pair for batch in evaluation_loader(val, 2, Share(), workers) for pair in zip(*map(torch.Tensor.tolist, batch))
    ]
    assert seen == [(n, n % 2) for n in range(5)]
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["gone"]}')
    with pytest.raises(FovealError, match=r"^The dataset .* cannot be opened"):
        open_train_and_val(tmp_path / "saved")
