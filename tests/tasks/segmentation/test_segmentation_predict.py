"""Prediction for files of any size and mode, with a class for each pixel, and writing of label maps."""

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.segmentation.inference import Inference
from foveal.tasks.segmentation.predict import ClassShare, class_shares, predict, write_label_map
from support.segmenters import CLASSES, by_red, tiny_segmenter

CPU, OWN_SIZE = torch.device("cpu"), Inference(short=None, long=10_000)
REDS = np.array([[0, 51, 51, 102], [0, 51, 51, 204]], np.uint8)  # fifths of 255: wall, sky, tree, lamp


def write(path, reds=REDS, **options):
    Image.fromarray(np.stack([reds, reds, reds], -1)).save(path, **options)
    return path


def test_predictions_have_labels_and_class_shares(tmp_path):
    path = write(tmp_path / "a.png")
    (found,) = predict(by_red(), CLASSES, [path], inference=OWN_SIZE, device=CPU)
    assert (found.path, found.height, found.width) == (str(path), 2, 4)
    assert found.labels.tolist() == [[0, 1, 1, 2], [0, 1, 1, 4]]
    assert found.labels.dtype == np.uint8
    assert found.shares == [
        ClassShare(1, "sky", 0.5),
        ClassShare(0, "wall", 0.25),
        ClassShare(2, "tree", 0.125),
        ClassShare(4, "lamp", 0.125),
    ]


def test_files_of_different_sizes_and_modes_are_predicted_at_their_size(tmp_path):
    paths = [tmp_path / "wide.png", tmp_path / "grey.png", tmp_path / "palette.gif"]
    for path, (mode, size) in zip(paths, (("RGBA", (50, 20)), ("L", (3, 40)), ("P", (33, 33))), strict=True):
        Image.new("RGB", size, (90, 20, 200)).convert(mode).save(path)
    steps = []
    inference = Inference(short=32, long=64)
    found = predict(
        tiny_segmenter(5), CLASSES, paths, inference=inference, device=CPU, on_batch=lambda *at: steps.append(at)
    )
    assert [one.path for one in found] == [str(path) for path in paths]
    assert [one.labels.shape for one in found] == [(20, 50), (40, 3), (33, 33)]
    assert [sum(share.share for share in one.shares) for one in found] == pytest.approx([1, 1, 1])
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_exif_orientation_is_applied(tmp_path):
    """EXIF orientation 8: the right column is the top."""
    exif = Image.Exif()
    exif[0x0112] = 8
    path = write(tmp_path / "turned.png", exif=exif)
    (found,) = predict(by_red(), CLASSES, [path], inference=OWN_SIZE, device=CPU)
    assert found.labels.tolist() == [[2, 4], [1, 1], [1, 1], [0, 0]]


def test_a_wrong_number_of_class_names_is_rejected(tmp_path):
    with pytest.raises(FovealError, match="has 5 classes, and 2 names were given"):
        predict(by_red(), ["cat", "dog"], [write(tmp_path / "a.png")], device=CPU)


def test_a_file_that_is_not_an_image_is_named_in_the_error(tmp_path):
    (tmp_path / "no.jpg").write_text("no image")
    with pytest.raises(FovealError, match=r"no.jpg is not a readable image"):
        predict(by_red(), CLASSES, [tmp_path / "no.jpg"], device=CPU)
    with pytest.raises(FovealError, match=r"There is no image at .*none.png"):
        predict(by_red(), CLASSES, [tmp_path / "none.png"], device=CPU)


def test_classes_of_equal_share_are_sorted_by_label():
    assert [share.name for share in class_shares(np.array([[4, 2, 0, 2, 0, 4]]), CLASSES)] == ["wall", "tree", "lamp"]


def test_a_label_map_is_written_as_class_indices(tmp_path):
    labels = [[0, 7], [254, 150]]
    write_label_map(tmp_path / "map.png", np.array(labels, np.uint8))
    with Image.open(tmp_path / "map.png") as image:
        assert (image.format, image.mode) == ("PNG", "L")
        assert np.array(image).tolist() == labels
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


def test_a_label_map_is_written_completely_or_not_at_all(tmp_path, monkeypatch):
    write_label_map(tmp_path / "map.png", np.ones((2, 2), np.uint8))

    def full(self, file, **options):
        file.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(FovealError, match=r"map.png could not be written \(No space left on device\)"):
        write_label_map(tmp_path / "map.png", np.zeros((2, 2), np.uint8))
    with Image.open(tmp_path / "map.png") as image:
        assert np.array(image).tolist() == [[1, 1], [1, 1]]
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int64), np.zeros((1, 2, 2), np.uint8)])
def test_arrays_that_are_not_label_maps_are_rejected(tmp_path, labels):
    with pytest.raises(ValueError, match=r"a label map must be \(height, width\) uint8, not"):
        write_label_map(tmp_path / "map.png", labels)
