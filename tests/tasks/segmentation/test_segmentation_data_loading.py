"""Batches are independent of the number of workers; broken files raise an error or are skipped."""

import pickle

import numpy as np
import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.segmentation.data import PUBLISHED, Augment, open_split
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader, train_loader
from support.segmentation_folders import write_split

TINY = PUBLISHED.scaled(1 / 16)


@pytest.fixture
def images(tmp_path):
    draw = np.random.default_rng(0)
    maps = [draw.integers(0, 3, (30 + 2 * number, 50 - number)) for number in range(9)]
    return open_split(write_split(tmp_path, label_maps=maps), "train", zero_ignored=False)


def batches(images, workers=0, broken="stop"):
    loader = train_loader(images, 2, 8, Share(), seed=3, workers=workers, broken=broken)
    return list(loader.epoch(1))


def test_training_batches_are_independent_of_the_number_of_workers(images):
    images.transform = Augment(TINY)
    straight = batches(images)
    assert len(straight) == 4
    for crops, labels in straight:
        assert (crops.shape, crops.dtype) == ((2, 3, 32, 32), torch.float32)
        assert (labels.shape, labels.dtype) == ((2, 32, 32), torch.int64)
    for one, other in zip(straight, batches(images, workers=1), strict=True):
        assert all(map(torch.equal, one, other))


def test_evaluation_uses_single_images_of_original_size(images):
    for index, (batch, labels) in enumerate(evaluation_loader(images, 1, Share(), workers=0)):
        assert torch.equal(batch[0], images.image(index) / 255)
        assert torch.equal(labels[0], images.labels(index))
        assert labels.shape == (1, 30 + 2 * index, 50 - index)


@pytest.mark.parametrize("kind", ["image", "label map"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_raises_an_error_or_is_skipped(images, workers, kind):
    broken = (images.paths if kind == "image" else images.label_paths)[4]
    broken.write_bytes(b"no image")
    loader = evaluation_loader(images, 1, Share(), workers, broken="skip")
    assert [labels.shape[1] for _, labels in loader] == [30, 32, 34, 36, 40, 42, 44, 46]
    assert (loader.broken, loader.left_out) == ([str(broken)], {4})
    with pytest.raises(FovealError, match=rf"^{broken} is not a readable image \(.*\): replace or remove the file\.$"):
        list(evaluation_loader(images, 1, Share(), workers))
    images.transform = Augment(TINY)
    assert [len(crops) for crops, _ in batches(images, workers, "skip")] == [2, 2, 2, 2]


def test_a_dataset_and_its_transform_can_be_pickled(images):
    images.transform = Augment(TINY)
    again = pickle.loads(pickle.dumps(images))
    assert (again.paths, again.classes, again.transform.augmentation) == (images.paths, images.classes, TINY)
    assert torch.equal(again.labels(3), images.labels(3))
