"""Problems of an image folder raise a one-line error, before the first step if possible."""

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


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_class_is_named_in_the_error(pets, split):
    for file in (pets / split / "dog").iterdir():
        file.unlink()
    with pytest.raises(FovealError, match=rf"{split}/dog has no image"):
        open_train_and_val(pets)


@pytest.mark.parametrize(("split", "sentence"), [("val", "has a class 'fox' that"), ("train", "lacks the class 'fox'")])
def test_classes_missing_from_one_split_are_named_in_the_error(pets, images, split, sentence):
    images(pets / split, {"fox": 2})
    with pytest.raises(FovealError, match=sentence):
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
    with pytest.raises(FovealError, match=r"has only one class, 'cat'"):
        open_train_and_val(tmp_path)
