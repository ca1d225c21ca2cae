"""Augmentation transforms boxes, masks and labels along with the image."""

from dataclasses import asdict

import pytest
import torch
from torchvision import tv_tensors

from foveal.errors import FovealError
from foveal.tasks.detection.data import MULTI_SCALE, SMALL, Augment, Augmentation
from foveal.tasks.detection.data.augment import RandomSizedCrop
from foveal.training.sampling import seeded_on_cpu

AS_IT_IS = Augmentation(short=(), flip=0.0)

JITTERED = Augmentation(short=(), scale=(0.8, 1.25), colour=0.3)


def rectangles(height, width, boxes):
    """An image that is white inside of boxes and black elsewhere, and its target."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    image = masks.sum(0, keepdim=True).clamp(max=1).to(torch.uint8).expand(3, -1, -1) * 255
    return image.contiguous(), {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(len(boxes)) + 10,
        "area": masks.sum((1, 2), dtype=torch.float32),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
        "image_id": torch.tensor(5),
        "masks": masks,
    }


def box_of(mask):
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def test_without_augmentation_only_the_dtype_of_the_image_changes():
    image, target = rectangles(20, 30, [(2, 3, 12, 7), (20, 10, 30, 20)])
    new_image, new_target = Augment(AS_IT_IS)(image, target)
    assert torch.equal(new_image, image / 255)
    assert new_image.dtype == torch.float32
    for name, value in target.items():
        assert torch.equal(new_target[name], value), name
    assert {type(value) for value in (new_image, *new_target.values())} == {torch.Tensor}


def test_flipping_mirrors_boxes_and_masks():
    image, target = rectangles(20, 30, [(2, 3, 12, 7)])
    new_image, new_target = Augment(Augmentation(short=(), flip=1.0))(image, target)
    assert new_target["boxes"].tolist() == [[18, 3, 28, 7]]
    assert box_of(new_target["masks"][0]).tolist() == [18, 3, 28, 7]
    assert torch.equal(new_image[0], new_target["masks"][0].float())


@pytest.mark.parametrize(
    ("short", "long", "size", "factor"),
    [(40, 1333, (40, 60), 2), (100, 90, (60, 90), 3), (10, 1333, (10, 15), 0.5)],
)
def test_the_short_side_is_resized_unless_the_long_side_exceeds_its_limit(short, long, size, factor):
    image, target = rectangles(20, 30, [(2, 4, 12, 8)])
    new_image, new_target = Augment(Augmentation(short=(short,), long=long, flip=0.0))(image, target)
    assert new_image.shape == (3, *size)
    assert new_target["boxes"].tolist() == [[2 * factor, 4 * factor, 12 * factor, 8 * factor]]
    assert box_of(new_target["masks"][0]).tolist() == new_target["boxes"][0].tolist()
    assert new_target["area"].tolist() == [40 * factor**2]


def test_masks_stay_aligned_with_boxes_at_odd_factors():
    """With nearest sampling at pixel centres, the border of a mask is within half a pixel of its box."""
    image, target = rectangles(90, 130, [(5, 7, 66, 43)])
    for short in range(31, 90, 7):
        _, new_target = Augment(Augmentation(short=(short,), flip=0.0))(image, target)
        assert (box_of(new_target["masks"][0]) - new_target["boxes"][0]).abs().max() <= 0.5


def test_a_crop_clips_boxes_and_removes_those_outside():
    class Fixed(RandomSizedCrop):
        def make_params(self, flat_inputs):
            return {"top": 5, "left": 10, "height": 10, "width": 15}

    image, target = rectangles(20, 30, [(0, 0, 8, 4), (5, 6, 12, 20), (24, 14, 30, 20), (24, 0, 30, 6), (12, 6, 20, 9)])
    augment = Augment(AS_IT_IS)
    augment.steps.transforms = [Fixed(1, 1)]
    new_image, new_target = augment(image, target)
    assert new_image.shape == (3, 10, 15)
    assert new_target["labels"].tolist() == [11, 12, 13, 14]
    assert new_target["boxes"].tolist() == [[0, 1, 2, 10], [14, 9, 15, 10], [14, 0, 15, 1], [2, 1, 10, 4]]
    assert new_target["area"].tolist() == [18, 1, 1, 24]
    assert [mask.sum().item() for mask in new_target["masks"]] == [18, 1, 1, 24]
    assert new_target["iscrowd"].shape == (4,)
    assert new_target["image_id"].item() == 5


def test_objects_with_less_than_a_pixel_left_are_removed():
    image, target = rectangles(20, 30, [(0, 0, 10, 10), (3, 3, 4, 19)])
    _, new_target = Augment(Augmentation(short=(10,), flip=0.0))(image, target)
    assert new_target["labels"].tolist() == [10]
    assert new_target["masks"].shape == (1, 10, 15)


def test_images_without_objects_or_masks_are_accepted():
    image, target = rectangles(40, 50, [])
    _, new_target = Augment(MULTI_SCALE)(image, target)
    assert new_target["boxes"].shape == (0, 4)
    image, target = rectangles(40, 50, [(3, 4, 20, 30)])
    del target["masks"]
    _, new_target = Augment(SMALL)(image, target)
    assert "masks" not in new_target


def test_the_multi_scale_augmentation_has_the_sizes_of_detr():
    image, target = rectangles(480, 640, [(0, 0, 640, 480)])
    augment, shorts, whole = Augment(MULTI_SCALE), set(), 0
    for seed in range(40):
        with seeded_on_cpu(seed):
            new_image, new_target = augment(image, target)
        height, width = new_image.shape[-2:]
        assert max(height, width) <= 1333
        assert new_target["boxes"].tolist() == [[0, 0, pytest.approx(width), pytest.approx(height)]]
        shorts.add(min(height, width))
        whole += abs(width / height - 640 / 480) < 0.003
    assert shorts <= set(range(480, 801, 32))
    assert len(shorts) > 5
    assert 10 <= whole <= 30


def test_crop_sizes_are_in_range_and_inside_the_image():
    for seed in range(50):
        torch.manual_seed(seed)
        params = RandomSizedCrop(20, 60).make_params([tv_tensors.Image(torch.zeros(3, 50, 100))])
        assert 20 <= params["height"] <= 50
        assert 20 <= params["width"] <= 60
        assert 0 <= params["top"] <= 50 - params["height"]
        assert 0 <= params["left"] <= 100 - params["width"]


def test_scale_jitter_stays_in_range():
    image, target = rectangles(128, 160, [(30, 30, 90, 90)])
    sizes = []
    for seed in range(30):
        with seeded_on_cpu(seed):
            new_image, new_target = Augment(JITTERED)(image, target)
        sizes.append(new_image.shape[-2])
        assert new_image.min() >= 0
        assert new_image.max() <= 1
        assert (box_of(new_target["masks"][0]) - new_target["boxes"][0]).abs().max() <= 0.51
    assert min(sizes) >= 128 * 0.8 - 1
    assert max(sizes) <= 128 * 1.25 + 1
    assert len(set(sizes)) > 10


def test_augmentation_is_determined_by_the_seed():
    image, target = rectangles(128, 160, [(30, 30, 90, 90)])

    def augmented(seed):
        with seeded_on_cpu(seed):
            return Augment(JITTERED)(image, target)[0]

    assert torch.equal(augmented(3), augmented(3))
    assert augmented(3).shape != augmented(4).shape


def test_an_augmentation_can_be_saved_in_a_checkpoint(tmp_path):
    torch.save(asdict(MULTI_SCALE), tmp_path / "a.pt")
    assert Augmentation(**torch.load(tmp_path / "a.pt", weights_only=True)) == MULTI_SCALE


@pytest.mark.parametrize(
    "words", [{"short": (0,)}, {"scale": (1.2, 0.8)}, {"crop": (600, 384)}, {"flip": 1.5}, {"colour": -1}]
)
def test_invalid_settings_are_rejected(words):
    with pytest.raises(FovealError, match="must be"):
        Augmentation(**words)


def test_small_images_keep_their_size():
    image, target = rectangles(128, 160, [(30, 30, 90, 90)])
    for seed in range(5):
        with seeded_on_cpu(seed):
            assert Augment(SMALL)(image, target)[0].shape == (3, 128, 160)
