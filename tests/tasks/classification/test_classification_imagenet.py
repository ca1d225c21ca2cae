"""ImageNet in the layout of its archives: a flat val folder gets its classes from a separate ground truth file."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from foveal.errors import FovealError
from foveal.tasks.classification.data import open_split, open_train_and_val

WNIDS = ["n01", "n02", "n03"]
#: ILSVRC ids are not in alphabetical order, and parent synsets have ids too.
NUMBERS = {"n03": 1, "n01": 2, "n02": 3}
TRUTH = ["n02", "n01", "n03", "n02"]
LIST = "ILSVRC2012_validation_ground_truth.txt"


def write_image(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (shade, 7, 9)).save(path, "JPEG")


def write_base(base, images=4):
    for wnid in WNIDS:
        for number in range(2):
            write_image(base / "train" / wnid / f"{wnid}_{number}.JPEG")
    for number in range(images):
        write_image(base / "val" / f"ILSVRC2012_val_{number + 1:08d}.JPEG", 40 * number)


def write_csv(folder, truth=TRUTH):
    """The lines of Kaggle's file are not in the order of the images."""
    lines = [f"ILSVRC2012_val_{n:08d},{wnid} 111 108 230 173 {wnid} 1 2 3 4 " for n, wnid in enumerate(truth, start=1)]
    (folder / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n")


def write_devkit(folder, lines=None):
    folder.mkdir(parents=True)
    (folder / LIST).write_text("".join(f"{line}\n" for line in lines or [NUMBERS[wnid] for wnid in TRUTH]))
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, wnid, f"word {wnid}", 0) for wnid, number in NUMBERS.items()] + [(4, "n99", "all of them", 3)]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=kinds)[:, None]})


@pytest.fixture
def kaggle(tmp_path):
    write_base(tmp_path / "ILSVRC" / "Data" / "CLS-LOC")
    write_csv(tmp_path)
    return tmp_path


@pytest.fixture
def extracted(tmp_path):
    write_base(tmp_path)
    write_devkit(tmp_path / "ILSVRC2012_devkit_t12" / "data")
    return tmp_path


@pytest.mark.parametrize("layout", ["kaggle", "extracted"])
def test_every_image_of_val_gets_its_class(layout, request):
    train, val = open_train_and_val(request.getfixturevalue(layout))
    assert train.classes == val.classes == WNIDS
    assert len(train) == 6
    assert [val.classes[label] for _, label in val] == TRUTH
    assert [round(np.asarray(image)[..., 0].mean() / 40) for image, _ in val] == [0, 1, 2, 3]
    assert [name[-13:] for name in val.names] == [f"{n:08d}.JPEG" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "place", ["ILSVRC2012_devkit_t12/data", "devkit/data", "val/../.", "../ILSVRC2012_devkit_t12/data"]
)
def test_the_development_kit_is_found_in_the_usual_places(tmp_path, place):
    root = tmp_path / "imagenet"
    write_base(root)
    (root / place).mkdir(parents=True, exist_ok=True)
    write_devkit(tmp_path / "new")
    for file in (tmp_path / "new").iterdir():
        file.rename(root / place / file.name)
    assert [label for _, label in open_split(root, "val")] == [WNIDS.index(wnid) for wnid in TRUTH]


def test_kaggle_data_may_be_opened_by_its_image_folder(kaggle):
    assert len(open_train_and_val(kaggle / "ILSVRC" / "Data" / "CLS-LOC")[1]) == 4


def test_val_without_train_gets_its_classes_from_the_ground_truth(kaggle):
    (kaggle / "ILSVRC" / "Data" / "CLS-LOC" / "train").rename(kaggle / "elsewhere")
    assert open_split(kaggle, "val").classes == WNIDS


def test_val_in_class_folders_needs_no_ground_truth(tmp_path):
    base = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    write_base(base, images=0)
    for wnid in WNIDS:
        write_image(base / "val" / wnid / "a.JPEG")
    assert len(open_train_and_val(tmp_path)[1]) == 3


def add_image(root):
    write_image(root / "val" / "ILSVRC2012_val_00000005.JPEG")


CASES = {
    "no ground truth": (
        lambda root: (root / "LOC_val_solution.csv").unlink(),
        r"val has no class folders, and the ground truth .* put LOC_val_solution\.csv \(Kaggle\) or",
    ),
    "image without label": (add_image, r"val_00000005\.JPEG has no label in \S+\.csv: remove the image"),
    "label without image": (
        lambda root: (root / "val" / "ILSVRC2012_val_00000002.JPEG").unlink(),
        r"lacks the image ILSVRC2012_val_00000002 that .* labels \(3 images, 4 labels\)",
    ),
    "class missing from train": (
        lambda root: write_csv(root, [*TRUTH[:3], "n77"]),
        r"names the class 'n77', which \S+train does not have",
    ),
    "line without class": (
        lambda root: (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nx,n01 1\ny\n"),
        r"has no class in line 3",
    ),
    "bytes": (
        lambda root: (root / "LOC_val_solution.csv").write_bytes(b"\xff\xfe\xfa"),
        r"solution\.csv cannot be read",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_ground_truth_raises_a_one_line_error(tmp_path, case):
    damage, sentence = CASES[case]
    write_base(tmp_path)
    write_csv(tmp_path)
    damage(tmp_path)
    with pytest.raises(FovealError, match=sentence) as caught:
        open_train_and_val(tmp_path)
    assert "\n" not in str(caught.value)


DEVKIT_CASES = {
    "0": (
        lambda kit: (kit / LIST).write_text("1\n2\n0\n3\n"),
        r"has the label '0' in line 3, which is not one of the 3",
    ),
    "too high": (lambda kit: (kit / LIST).write_text("1\n2\n3\n4\n"), r"has the label '4' in line 4"),
    "word": (lambda kit: (kit / LIST).write_text("1\ncat\n3\n3\n"), r"has the label 'cat' in line 2"),
    "too few": (lambda kit: (kit / LIST).write_text("1\n2\n3\n"), r"has 3 labels for 4 images: unpack"),
    "no meta": (lambda kit: (kit / "meta.mat").unlink(), r"meta\.mat, which defines the labels of \S+, is missing"),
    "no mat": (lambda kit: (kit / "meta.mat").write_bytes(b"hello" * 99), r"meta\.mat is not the devkit's table"),
    "another mat": (lambda kit: savemat(kit / "meta.mat", {"a": 1}), r"meta\.mat is not the devkit's table"),
}


@pytest.mark.parametrize("case", DEVKIT_CASES)
def test_an_invalid_development_kit_raises_a_one_line_error(extracted, case):
    damage, sentence = DEVKIT_CASES[case]
    damage(extracted / "ILSVRC2012_devkit_t12" / "data")
    with pytest.raises(FovealError, match=sentence) as caught:
        open_train_and_val(extracted)
    assert "\n" not in str(caught.value)


def test_missing_scipy_names_the_extra_to_install(extracted, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(FovealError, match=r"needs SciPy: install it with `pip install 'foveal\[train\]'`, or use"):
        open_train_and_val(extracted)


def test_a_missing_split_is_named_in_the_error(kaggle):
    (kaggle / "ILSVRC" / "Data" / "CLS-LOC" / "val").rename(kaggle / "elsewhere")
    with pytest.raises(FovealError, match=r"CLS-LOC has no folder val/"):
        open_train_and_val(kaggle)


def test_a_flat_validation_folder_of_other_classes_is_not_taken_for_imagenets(tmp_path):
    for name in ("train/cat/a.jpg", "train/dog/a.jpg", "val/a.jpg"):
        write_image(tmp_path / name)
    advice = r"val has no class folders: put the images of each class into \S+/val/<class>/\.$"
    for fraction in (None, 0.2):
        with pytest.raises(FovealError, match=advice):
            open_train_and_val(tmp_path, fraction)
    write_csv(tmp_path, ["cat"])
    with pytest.raises(FovealError, match=r"a\.jpg has no label in \S+LOC_val_solution\.csv"):
        open_train_and_val(tmp_path)  # it has the form of ImageNet's ground truth


def test_train_archives_that_were_not_unpacked_raise_an_error(extracted):
    for folder in (extracted / "train").iterdir():
        folder.rename(extracted.parent / f"{extracted.name}-{folder.name}")
    with pytest.raises(FovealError, match=r"train has no class folders: unpack the archive of each class"):
        open_train_and_val(extracted)
