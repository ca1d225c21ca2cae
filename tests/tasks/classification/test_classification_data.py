"""Problems of an image folder raise a one-line error, before the first step if possible."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.data import load_rgb, open_split, open_train_and_val
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.training.loading import Share, train_loader


def test_a_valid_folder_opens_with_its_classes(pets):
    train, val = open_train_and_val(pets)
    assert train.classes == val.classes == ["cat", "dog", "eel"]
    assert (len(train), len(val)) == (24, 9)


def test_a_missing_folder_is_named_in_the_error(tmp_path):
    with pytest.raises(FovealError, match=r"no folder .*nowhere: pass --data"):
        open_train_and_val(tmp_path / "nowhere")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named_in_the_error(pets, split):
    (pets / split).rename(pets / "elsewhere")
    with pytest.raises(FovealError, match=rf"has no folder {split}/"):
        open_train_and_val(pets)


def test_a_split_without_classes_is_named_in_the_error(pets):
    (pets / "val").rename(pets / "old")
    (pets / "val").mkdir()
    with pytest.raises(FovealError, match=r"val has no class folders"):
        open_train_and_val(pets)


def test_an_empty_training_class_is_named_in_an_error_with_advice_that_works(pets):
    for file in (pets / "train" / "dog").iterdir():
        file.unlink()
    (pets / "train" / "dog" / "photo.heic").touch()
    advice = r"train/dog has no image \(1 \.heic\): put images into it, or remove this class here and in the validation"
    with pytest.raises(FovealError, match=advice):
        open_train_and_val(pets)
    for split in ("train", "val"):
        shutil.rmtree(pets / split / "dog")
    assert open_train_and_val(pets)[0].classes == ["cat", "eel"]


def test_a_class_of_val_that_train_lacks_is_named_in_an_error_with_advice_that_works(pets, images):
    images(pets / "val", {"fox": 2})
    with pytest.raises(
        FovealError, match=r"val has a class 'fox' that \S+train does not have: leave its images out, or"
    ):
        open_train_and_val(pets)
    for file in (pets / "val" / "fox").iterdir():
        file.unlink()
    assert open_train_and_val(pets)[1].classes == ["cat", "dog", "eel"]  # an empty folder does no harm
    images(pets / "val", {"fox": 2})
    images(pets / "train", {"fox": 2})
    assert open_train_and_val(pets)[1].classes == ["cat", "dog", "eel", "fox"]


@pytest.mark.parametrize("how", ["no folder", "empty folder", "other files"])
def test_a_class_without_validation_images_is_allowed_named_and_numbered_as_in_train(pets, how):
    shutil.rmtree(pets / "val" / "cat")
    if how != "no folder":
        (pets / "val" / "cat").mkdir()
    if how == "other files":
        (pets / "val" / "cat" / "notes.txt").touch()
    train, val = open_train_and_val(pets)
    assert train.notices == []
    assert val.classes == ["cat", "dog", "eel"]
    assert val.targets == [1] * 3 + [2] * 3
    assert val.notices[-1] == (f"{pets}/val has no image of the class 'cat': the validation is over 2 of 3 classes.")


def test_many_classes_without_validation_images_are_named_in_one_short_sentence(tmp_path, images):
    images(tmp_path / "train", {f"kind{number}": 1 for number in range(9)})
    images(tmp_path / "val", {"kind2": 1})
    assert open_train_and_val(tmp_path)[1].notices == [
        f"{tmp_path}/val has no image of the classes 'kind0', 'kind1', 'kind3', 'kind4', 'kind5' and 3 more: the "
        "validation is over 1 of 9 classes."
    ]


def test_a_validation_without_any_image_is_refused_at_the_start(pets):
    for file in (pets / "val").glob("*/*"):
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(FovealError, match=r"val has no image in its class folders \(9 \.heic\): put images into them"):
        open_train_and_val(pets)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_images_of_any_mode_are_converted_to_rgb(tmp_path, mode):
    name = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.fromarray(np.full((9, 7, 3), 200, np.uint8)).convert(mode).save(name)
    image = load_rgb(name)
    assert image.mode == "RGB"
    assert image.size == (7, 9)


def test_grey_images_keep_their_values(tmp_path):
    grey = np.arange(63, dtype=np.uint8).reshape(9, 7) * 4
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for channel in np.moveaxis(np.asarray(load_rgb(tmp_path / "grey.png")), 2, 0):
        assert (channel == grey).all()


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_a_broken_image_is_named_in_the_error(pets, damage):
    path = pets / "train" / "cat" / "0.png"
    content = {"text": b"I am no image", "cut": path.read_bytes()[:300], "empty": b""}[damage]
    path.write_bytes(content)
    with pytest.raises(FovealError, match=r"train/cat/0.png is not a readable image"):
        load_rgb(path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_during_training_raises_a_one_line_error(pets, workers):
    (pets / "train" / "dog" / "3.png").write_bytes(b"broken")
    train = open_split(pets, "train", Preprocessing((32, 32)).transform())
    loader = train_loader(train, 4, 24, Share(), seed=0, workers=workers)
    with pytest.raises(
        FovealError, match=r"^\S+train/dog/3.png is not a readable image \(no known image format\)"
    ) as caught:
        list(loader.epoch(0))
    assert "\n" not in str(caught.value)


def gradient(height, width):
    """An image whose red grows with the row and green with the column."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(height)[:, None] * 255 // (height - 1)
    pixels[..., 1] = np.arange(width)[None, :] * 255 // (width - 1)
    return Image.fromarray(pixels)


def seen(fit, image):
    """The range of rows and columns passed to the model, as fractions of the image."""
    x = fit.transform()(image) * torch.tensor(fit.std)[:, None, None] + torch.tensor(fit.mean)[:, None, None]
    return (x[0].min().item(), x[0].max().item()), (x[1].min().item(), x[1].max().item())


def test_below_384_pixels_a_centre_crop_of_0875_is_used():
    rows, columns = seen(Preprocessing((224, 224)), gradient(400, 800))
    assert rows == pytest.approx((0.0625, 0.9375), abs=0.01)
    assert columns == pytest.approx((0.5 - 0.4375 / 2, 0.5 + 0.4375 / 2), abs=0.01)


def test_from_384_pixels_up_the_entire_image_is_squashed():
    rows, columns = seen(Preprocessing((384, 384)), gradient(400, 800))
    assert rows == pytest.approx((0, 1), abs=0.01)
    assert columns == pytest.approx((0, 1), abs=0.01)


@pytest.mark.parametrize("crop", [0.9, 0.95])
def test_without_whole_from_images_are_cropped_at_every_size(crop):
    for size in (224, 384):
        rows, _ = seen(Preprocessing((size, size), crop=crop, whole_from=None), gradient(800, 800))
        assert rows == pytest.approx((0.5 - crop / 2, 0.5 + crop / 2), abs=0.01)


def test_images_are_normalised_with_mean_and_std():
    fit = Preprocessing((32, 32), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    x = fit.transform()(Image.new("RGB", (40, 40), (255, 0, 51)))
    assert x.shape == (3, 32, 32)
    assert x.dtype == torch.float32
    for channel, expected in zip(x, ((1 - 0.1) / 0.5, -0.2 / 0.25, (0.2 - 0.3) / 0.125), strict=True):
        torch.testing.assert_close(channel, torch.full((32, 32), expected))


def test_a_single_class_is_rejected(tmp_path, images):
    for split in ("train", "val"):
        images(tmp_path / split, {"cat": 2})
    with pytest.raises(FovealError, match=r"has images of only one class, 'cat': add images of another class"):
        open_train_and_val(tmp_path)
