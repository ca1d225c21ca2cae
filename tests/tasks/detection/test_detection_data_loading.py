"""Batches are independent of the number of workers, and an epoch can be resumed."""

import pickle

import numpy as np
import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.detection.data import SMALL, Augment, collate, open_split
from foveal.training.batching import Share
from foveal.training.loading import evaluation_loader, train_loader
from support.coco_folders import annotation, write_split


@pytest.fixture
def images(tmp_path):
    draw = np.random.default_rng(0)
    sizes = [(40 + 2 * number, 70 - number) for number in range(9)]
    boxes = [(int(x), int(y), 12, 14) for x, y in draw.integers(0, 20, (9, 2))]
    write_split(tmp_path, "train", [annotation(n, image=n, box=box) for n, box in enumerate(boxes, 1)], sizes)
    return open_split(tmp_path, "train", masks=True)


def batches(images, workers=0, start=0, broken="stop"):
    loader = train_loader(images, 2, 8, Share(), seed=3, workers=workers, collate=collate, broken=broken)
    return list(loader.epoch(1, start)), loader


def same(one, other):
    return all(
        torch.equal(left, right) and target.keys() == twin.keys() and all(torch.equal(target[k], twin[k]) for k in twin)
        for (lefts, targets), (rights, twins) in zip(one, other, strict=True)
        for left, right, target, twin in zip(lefts, rights, targets, twins, strict=True)
    )


def test_a_batch_is_a_list_of_images_and_a_list_of_targets(images):
    (first, targets), *rest = batches(images)[0]
    assert len(rest) == 3
    assert len(first) == len(targets) == 2
    for image, target in zip(first, targets, strict=True):
        assert image.dtype == torch.float32
        assert target["masks"].shape == (1, *image.shape[-2:])


def test_samples_are_independent_of_workers_and_resumption(images):
    images.transform = Augment(SMALL)
    straight, _ = batches(images)
    assert not torch.equal(straight[0][0][0], images[straight[0][1][0]["image_id"].item() - 1][0])
    assert same(straight, batches(images, workers=1)[0])
    assert same(straight[2:], batches(images, start=2)[0])


def test_a_dataset_and_its_transform_can_be_pickled(images):
    images.transform = Augment(SMALL)
    again = pickle.loads(pickle.dumps(images))
    assert (again.image_ids, again.transform.augmentation) == (images.image_ids, SMALL)
    assert pickle.loads(pickle.dumps(collate)) is collate


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_raises_an_error_or_is_skipped(images, workers):
    broken = images.paths[4]
    with open(broken, "wb") as file:
        file.write(b"no image")
    loader = evaluation_loader(images, 4, Share(), workers, collate=collate, broken="skip")
    seen = [target["image_id"].item() for _, targets in loader for target in targets]
    assert seen == [1, 2, 3, 4, 6, 7, 8, 9]
    assert (loader.broken, loader.left_out) == ([broken], {4})
    with pytest.raises(FovealError, match=r"5.png is not a readable image"):
        list(evaluation_loader(images, 4, Share(), workers, collate=collate))
    loaded, _ = batches(images, workers, broken="skip")
    assert [len(images) for images, _ in loaded] == [2, 2, 2, 2]
