"""Every source of images takes the same files: all formats that Pillow reads, none that are hidden, upright, and says
what it left out."""

import io
import json
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import timm
from PIL import Image
from test_classification_hub import Fake, Table, table
from test_classification_imagenet import TRUTH, WNIDS, write_base, write_csv

from foveal.errors import BrokenSample
from foveal.tasks.classification.data import open_split, open_train_and_val
from foveal.tasks.classification.evaluate import check_split, evaluate
from foveal.tasks.classification.network import Classifier, class_names
from foveal.tasks.classification.predict import predict
from foveal.tasks.classification.preprocessing import Preprocessing

ORIENTATION = 0x0112
STORED, UPRIGHT = (6, 4), (4, 6)  # width and height


def photograph(form="JPEG", orientation=6):
    """A photograph taken with a turned camera."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stream = io.BytesIO()
    Image.new("RGB", STORED, (200, 30, 60)).save(stream, form, exif=exif)
    return stream.getvalue()


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(photograph() if content is None else content)


def write_folder(folder, classes):
    for name in classes:
        write(folder / name / "0.jpg")


def write_shard(path, members):
    """``members``: pairs of a file name and its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def encoded(form):
    stream = io.BytesIO()
    Image.new("RGB", STORED, (200, 30, 60)).save(stream, form)
    return stream.getvalue()


# Formats


@pytest.mark.parametrize(
    ("ending", "form"), [("jfif", "JPEG"), ("gif", "GIF"), ("JP2", "JPEG2000"), ("tga", "TGA"), ("webp", "WEBP")]
)
def test_a_class_of_one_unusual_format_is_read_whole(pets, ending, form):
    for split in ("train", "val"):
        for file in (pets / split / "dog").iterdir():
            file.with_suffix(f".{ending}").write_bytes(encoded(form))
            file.unlink()
    train, val = open_train_and_val(pets)
    assert (train.targets.count(1), val.targets.count(1)) == (8, 3)
    assert train[8][0].size == STORED
    assert (train.notices, val.notices) == ([], [])


@pytest.mark.parametrize(("ending", "form"), [("jfif", "JPEG"), ("gif", "GIF"), ("tif", "TIFF")])
def test_members_of_shards_may_have_any_format(tmp_path, ending, form):
    members = [
        (f"{n}.{end}", content) for n in range(2) for end, content in (("cls", b"%d" % n), (ending, encoded(form)))
    ]
    for split in ("train", "val"):
        write_shard(tmp_path / f"{split}-0.tar", members)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "sizes.json").write_text(json.dumps({"train-0.tar": 2, "val-0.tar": 2}))
    local = open_train_and_val(tmp_path)[0]
    remote = open_split(f"pipe:cat {tmp_path}/train-0.tar", "train")
    streamed = [local.decode(raw) for raw in local.read(0)]
    for found in (local[1], remote[1], streamed[1]):
        assert (found[0].size, found[0].mode, found[1]) == (STORED, "RGB", 1)


# Hidden files


def test_hidden_files_and_folders_are_no_images_and_no_classes(pets):
    """As Jupyter, macOS, Windows and unpacking leave them."""
    for name in ("train/.ipynb_checkpoints/0.png", "train/cat/._0.png", "train/cat/.ipynb_checkpoints/1.png"):
        write(pets / name)
    for name in ("train/__MACOSX/cat/._0.png", "val/dog/Thumbs.db", "train/desktop.ini", "val/.DS_Store"):
        write(pets / name, b"not an image")
    train, val = open_train_and_val(pets)
    assert train.classes == ["cat", "dog", "eel"]
    assert (len(train), len(val)) == (24, 9)
    assert (train.notices, val.notices) == ([], [])


def test_hidden_members_of_shards_are_no_images(tmp_path):
    """macOS's tar writes ``._`` beside every file; webdataset writes ``__index__``."""
    members = [("__MACOSX/0.jpg", b"x"), ("__index__", b"x")]
    for n in range(2):
        members += [
            (f"./._{n}.jpg", b"x"),
            (f"./{n}.jpg", photograph()),
            (f"./._{n}.cls", b"x"),
            (f"./{n}.cls", b"%d" % n),
        ]
    for split in ("train", "val"):
        write_shard(tmp_path / f"{split}-0.tar", members)
    (tmp_path / "._train-0.tar").write_bytes(b"x")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "sizes.json").write_text(json.dumps({"train-0.tar": 2}))
    train, _ = open_train_and_val(tmp_path)
    assert train.targets == [0, 1]
    assert [train.decode(raw)[1] for raw in train.read(0)] == [0, 1]
    remote = open_split(f"pipe:cat {tmp_path}/train-0.tar", "train")
    assert [remote[n][1] for n in range(2)] == [0, 1]


def test_hidden_files_of_imagenet_need_no_label(tmp_path):
    write_base(tmp_path)
    write_csv(tmp_path)
    write(tmp_path / "val" / "._ILSVRC2012_val_00000001.JPEG", b"x")
    write(tmp_path / "train" / ".cache" / "x.JPEG")
    write(tmp_path / "val" / "notes.txt", b"x")
    train, val = open_train_and_val(tmp_path)
    assert train.classes == WNIDS
    assert [val.classes[label] for label in val.targets] == TRUTH
    assert val.notices == [f"{tmp_path}/val has 1 file that Pillow does not read as images, left out: 1 .txt."]


# What was left out


def test_files_beside_the_images_are_counted_by_ending_in_each_split(pets):
    for name in ("train/cat/a.heic", "train/dog/b.HEIC", "train/dog/c.txt", "train/labels.csv", "val/eel/clip.mp4"):
        write(pets / name, b"x")
    train, val = open_train_and_val(pets)
    assert train.notices == [
        f"{pets}/train has 4 files that Pillow does not read as images, left out: 2 .heic, 1 .csv, 1 .txt."
    ]
    assert val.notices == [f"{pets}/val has 1 file that Pillow does not read as images, left out: 1 .mp4."]


def test_images_outside_of_class_folders_are_counted(pets):
    write(pets / "train" / "loose.jpg")
    write(pets / "train" / "another.jpg")
    train, _ = open_train_and_val(pets)
    assert len(train) == 24
    assert train.notices == [f"{pets}/train has 2 images outside of its class folders, left out."]


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
@pytest.mark.parametrize("train", ["Train", "training"])
def test_splits_may_have_their_usual_names(pets, train, val):
    (pets / "train").rename(pets / train)
    (pets / "val").rename(pets / val)
    found = open_train_and_val(pets)
    assert [len(images) for images in found] == [24, 9]
    assert found[1].names[0] == f"{pets}/{val}/cat/0.png"
    assert len(open_split(pets, "val")) == 9


def test_every_source_knows_the_name_of_the_set_that_was_read(pets, tmp_path, monkeypatch):
    (pets / "val").rename(pets / "Valid")
    assert [open_split(pets, split).set_name for split in ("train", "val")] == ["train", "Valid"]
    (pets / "Valid").rename(tmp_path / "elsewhere")
    drawn = open_train_and_val(pets, 0.25, seed=3)[1].held_out
    names = [open_split(pets, split, held_out=drawn).set_name for split in ("train", "val")]
    assert names == ["all but 25 % drawn for validation with seed 3", "25 % drawn for validation with seed 3"]
    for split in ("train", "valid"):
        write_shard(tmp_path / "shards" / f"pets-{split}-0.tar", [("0.cls", b"0"), ("0.jpg", photograph())])
    assert [open_split(tmp_path / "shards", split).set_name for split in ("train", "val")] == ["train", "valid"]
    package, stored = Fake(), table([0, 1], ("cat", "dog"))
    package.found["pets",] = {"train": stored, "validation": stored}
    monkeypatch.setitem(sys.modules, "datasets", package)
    assert [open_split("hf:pets", split).set_name for split in ("train", "val")] == ["train", "validation"]
    write_base(tmp_path / "imagenet")
    write_csv(tmp_path / "imagenet")
    assert open_split(tmp_path / "imagenet", "val").set_name == "val"


def test_a_second_folder_of_a_split_is_named(pets):
    write(pets / "valid" / "cat" / "0.jpg")
    _, val = open_train_and_val(pets)
    assert len(val) == 9
    assert val.notices == [f"{pets}/val is read, and valid/ beside it is not: they are names of the same split."]


# Pixels


def test_fractions_in_a_tiff_are_shares_of_white_and_an_unknown_range_is_refused(pets):
    for name, top in (("0", 1.0), ("1", 3.0)):
        Image.fromarray(np.array([[0.0, 0.5, top]], dtype=np.float32)).save(pets / "train" / "cat" / f"{name}.tiff")
    train, _ = open_train_and_val(pets)
    by_name = {name.rsplit("/", 1)[1]: number for number, name in enumerate(train.names) if "/cat/" in name}
    assert np.asarray(train[by_name["0.tiff"]][0])[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(BrokenSample, match=r"cat/1\.tiff has fractions of 32 bits from 0 to 3"):
        train[by_name["1.tiff"]]


# Orientation

NUMBERS = [str(number) for number in range(1000)]
CLASSES = {
    "own": (["cat", "dog"], UPRIGHT),
    "own numbers": (["0", "1"], UPRIGHT),
    "WNIDs": (["n01440764", "n01443537"], STORED),
    "a WNID and another": (["n01440764", "dog"], UPRIGHT),
    "V2": (NUMBERS, STORED),
}


@pytest.mark.parametrize("case", CLASSES)
def test_class_folders_are_read_upright_unless_they_are_imagenets(tmp_path, case):
    classes, size = CLASSES[case]
    write_folder(tmp_path / "train", classes)
    write_folder(tmp_path / "val", classes[:2])  # of 1,000 numbers too few to be known by themselves
    for images in open_train_and_val(tmp_path):
        assert images[0][0].size == size


def test_imagenets_flat_val_is_read_as_stored(tmp_path):
    for name in ("train/n01440764/a.JPEG", "train/n01443537/a.JPEG", "val/ILSVRC2012_val_00000001.JPEG"):
        write(tmp_path / name)
    write_csv(tmp_path, ["n01443537"])
    for images in open_train_and_val(tmp_path):
        assert images[0][0].size == STORED


@pytest.mark.parametrize(("classes", "size"), [(["cat", "dog"], UPRIGHT), (["n01440764", "n01443537"], STORED)])
def test_shards_are_read_upright_however_they_are_read(tmp_path, classes, size):
    members = [
        (f"{n}.{end}", content) for n in range(2) for end, content in (("cls", b"%d" % n), ("jpg", photograph()))
    ]
    write_shard(tmp_path / "train-0.tar", members)
    (tmp_path / "classes.txt").write_text("\n".join(classes))
    (tmp_path / "sizes.json").write_text(json.dumps({"train-0.tar": 2}))
    local, remote = open_split(tmp_path, "train"), open_split(f"pipe:cat {tmp_path}/train-0.tar", "train")
    streamed = [images.decode(raw)[0] for images in (local, remote) for raw in images.read(0)]
    assert {image.size for image in (local[0][0], remote[0][0], remote.load(0), *streamed)} == {size}


@pytest.mark.parametrize(("names", "size"), [(("cat", "dog"), UPRIGHT), (("tench, Tinca tinca", *NUMBERS[1:]), STORED)])
@pytest.mark.parametrize("in_files", [False, True])
def test_hub_datasets_are_read_upright_unless_they_are_imagenet(tmp_path, monkeypatch, names, size, in_files):
    write(tmp_path / "a.jpg")
    package, stored = Fake(), table([0, 1], names)
    for row in stored.rows:
        row["photo"] = {"bytes": None if in_files else photograph(), "path": str(tmp_path / "a.jpg")}
    package.found["pets",] = {"train": Table(stored.features, stored.rows)}
    monkeypatch.setitem(sys.modules, "datasets", package)
    assert open_split("hf:pets", "train")[0][0].size == size


FIT = Preprocessing((32, 32), whole_from=0)  # the whole image, squashed


def halves(path, orientation):
    """A photograph whose top half is white once it is upright."""
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:20] = 255
    turned = (
        Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90) if orientation == 6 else Image.fromarray(pixels)
    )
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    turned.save(path, exif=exif)


def classifier_of(classes, trained_here=True):
    return Classifier(
        "test_convnext", timm.create_model("test_convnext", num_classes=len(classes)).eval(), classes, FIT, trained_here
    )


def test_evaluation_and_prediction_see_a_turned_photograph_as_its_upright_copy(tmp_path):
    for name, orientation in (("turned", 6), ("upright", 1)):
        for kind in ("cat", "dog"):
            halves(tmp_path / name / "val" / kind / "0.png", orientation)
    classifier = classifier_of(["cat", "dog"])
    turned, upright = (evaluate(classifier, tmp_path / name, workers=0) for name in ("turned", "upright"))
    assert turned.loss == pytest.approx(upright.loss, abs=1e-6)
    guesses = [predict(classifier, found.paths)[0].guesses[0].probability for found in (turned, upright)]
    assert guesses[0] == pytest.approx(guesses[1], abs=1e-6)
    assert guesses[0] == pytest.approx(turned.probabilities[0].max().item(), abs=1e-6)


def test_evaluation_reads_images_as_the_network_was_trained(tmp_path):
    """Two folders of a thousand numbers do not show that they are ImageNet's; the network's classes do."""
    write_folder(tmp_path / "val", NUMBERS[:2])
    images = open_split(tmp_path, "val")
    assert images[0][0].size == UPRIGHT
    check_split(replace(classifier_of(["a"]), classes=NUMBERS), images, tmp_path)
    assert images[0][0].size == STORED
    assert images.classes == NUMBERS


def test_prediction_is_upright_also_by_a_network_of_imagenet(tmp_path):
    """People's photographs, not ImageNet's files."""
    for name, orientation in (("turned", 6), ("upright", 1)):
        halves(tmp_path / f"{name}.png", orientation)
    network = timm.create_model("test_convnext").eval()
    classifier = Classifier("test_convnext", network, class_names(network), FIT, trained_here=False)
    turned, upright = predict(classifier, [tmp_path / "turned.png", tmp_path / "upright.png"], top_k=1)
    assert turned.guesses[0].probability == pytest.approx(upright.guesses[0].probability, abs=1e-7)
