"""Augmentation transforms labels along with the image, and all results have the crop size."""

from dataclasses import asdict, replace

import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.segmentation.data import PUBLISHED, SMALL, Augment, Augmentation
from foveal.tasks.segmentation.data.augment import ResizedLabels, is_mixed, pad_to_square, random_crop, random_size
from foveal.training.sampling import seeded_on_cpu

NO_COLOUR = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
PLAIN = Augmentation(short=None, ratio=(1.0, 1.0), crop=8, largest_share=1.0, flip=0.0, **NO_COLOUR)


def checked(height, width, tile):
    """A checkerboard of black and white tiles, with labels 0 and 1."""
    labels = (torch.arange(height)[:, None] // tile + torch.arange(width) // tile) % 2
    return (255 * labels).to(torch.uint8).expand(3, -1, -1).contiguous(), labels


def resized(labels, height, width):
    return ResizedLabels(labels, height, width).cut(0, 0, max(height, width)).tolist()


def test_without_augmentation_only_the_dtype_of_the_image_changes():
    image, labels = torch.randint(256, (3, 8, 8), dtype=torch.uint8), torch.randint(5, (8, 8))
    new_image, new_labels = Augment(PLAIN)(image, labels)
    assert new_image.dtype == torch.float32
    assert torch.equal(new_image, image / 255)
    assert torch.equal(new_labels, labels)


def test_labels_are_resized_by_nearest_centre():
    """Resizing 5 pixels to 2 puts centres at 1.25 and 3.75; resizing 2 to 5 at 0.2, 0.6, 1.0, 1.4 and 1.8."""
    assert resized(torch.arange(5)[None], 1, 2) == [[1, 3]]
    assert resized(torch.arange(2)[None], 1, 5) == [[0, 0, 1, 1, 1]]
    assert resized(torch.tensor([[7, 8], [9, 4]]), 4, 2) == [[7, 8], [7, 8], [9, 4], [9, 4]]


@pytest.mark.parametrize(
    ("old", "new"), [((5, 7), (13, 9)), ((64, 48), (37, 91)), ((30, 40), (30, 40)), ((9, 9), (3, 1))]
)
def test_resized_labels_match_nearest_exact_and_can_be_cropped(old, new):
    labels = torch.randint(255, old)
    whole = torch.nn.functional.interpolate(labels[None, None].float(), size=new, mode="nearest-exact")[0, 0].long()
    made = ResizedLabels(labels, *new)
    assert torch.equal(made.cut(0, 0, 100), whole)
    for top, left, side in ((0, 0, 2), (1, 0, 1), (new[0] - 1, new[1] - 1, 5)):
        assert torch.equal(made.cut(top, left, side), whole[top : top + side, left : left + side])


@pytest.mark.parametrize("ratio", [0.5, 0.77, 1.31, 2.0])
def test_labels_stay_aligned_with_the_image(ratio):
    """Except at borders, labels match the colour of the tile for any scale factor and crop."""
    image, labels = checked(96, 120, tile=24)
    augment = Augment(replace(PLAIN, ratio=(ratio, ratio), crop=64, flip=0.5))
    for seed in range(6):
        with seeded_on_cpu(seed):
            new_image, new_labels = augment(image, labels)
        inside = new_labels != 255
        grey = new_image[0][inside]
        assert ((grey > 0.5).long() == new_labels[inside])[(grey - 0.5).abs() > 0.02].all()
        assert (grey - 0.5).abs().mean() > 0.4


def test_flipping_mirrors_image_and_labels():
    image, labels = torch.randint(256, (3, 8, 8), dtype=torch.uint8), torch.randint(5, (8, 8))
    new_image, new_labels = Augment(replace(PLAIN, flip=1.0))(image, labels)
    assert torch.equal(new_image, image.flip(-1) / 255)
    assert torch.equal(new_labels, labels.flip(-1))


def test_sizes_match_mmsegmentation():
    """Fitted to (2048, 512): 512x683 keeps its size; 300x2400 is limited by its long side, 2048/2400."""

    def size(height, width, ratio, **words):
        return random_size(replace(PUBLISHED, ratio=(ratio, ratio), **words), height, width)

    assert size(512, 683, 1.0) == (512, 683)
    assert size(512, 683, 0.5) == (256, 342)
    assert size(683, 512, 2.0) == (1366, 1024)
    assert size(683, 512, 0.5) == (342, 256)
    assert size(256, 300, 1.0) == (512, 600)
    assert size(300, 2400, 1.0) == (256, 2048)
    assert size(300, 2400, 1.5) == (384, 3072)
    assert size(100, 101, 1.5, short=None) == (150, 152)
    assert size(1, 2000, 0.5) == (1, 1024)


def test_scale_factors_are_uniform():
    heights = torch.tensor([random_size(PUBLISHED, 512, 683)[0] for _ in range(500)]) / 512
    assert 0.5 <= heights.min() < 0.52
    assert 1.98 < heights.max() <= 2.0
    assert 0.28 < (heights < 1).float().mean() < 0.39  # a third of the range


def test_padding_has_the_mean_colour_and_is_ignored():
    image, labels = torch.rand(3, 2, 3), torch.zeros(2, 3, dtype=torch.int64)
    filled, ignored = pad_to_square(image, labels, 4)
    assert torch.equal(filled[:, :2, :3], image)
    assert ignored.tolist() == [[0, 0, 0, 255], [0, 0, 0, 255], [255] * 4, [255] * 4]
    outside = filled[:, ignored == 255]
    assert torch.equal(outside, torch.tensor([0.485, 0.456, 0.406])[:, None].expand(3, 10))


def test_padding_is_at_the_right_and_bottom_with_unchanged_colour():
    image, labels = checked(5, 6, tile=2)
    for seed in range(10):
        with seeded_on_cpu(seed):
            new_image, new_labels = Augment(replace(PUBLISHED, short=None, ratio=(1.0, 1.0), crop=8))(image, labels)
        assert (new_labels == 255).sum() == 64 - 30
        assert (new_labels[:5, :6] != 255).all()
        assert (new_image[:, new_labels == 255] == torch.tensor([[0.485], [0.456], [0.406]])).all()


@pytest.mark.parametrize(
    ("labels", "mixed"),
    [
        ([0, 0, 0, 1], False),  # the share must be below three quarters
        ([0, 0, 1, 1], True),
        ([0, 0, 1, 255], True),  # two of three, as ignored pixels do not count
        ([0, 0, 0, 1, 255], False),
        ([255] * 8 + [0, 1], True),
        ([0, 255, 255, 255], False),
        ([255, 255, 255, 255], False),
        ([7, 7, 7, 7], False),
    ],
)
def test_a_crop_is_mixed_if_no_class_reaches_the_largest_share(labels, mixed):
    assert is_mixed(torch.tensor([labels]), 0.75) is mixed


def test_crops_of_one_class_are_rejected_up_to_ten_times():
    """The left half of 64 columns is one class: of 49 positions of a 16-pixel crop, those on the border are mixed."""
    labels = torch.cat([torch.zeros(16, 32), torch.ones(16, 32)], 1).long()

    def shares(largest_share):
        cuts = [random_crop(ResizedLabels(labels, 16, 64), 16, largest_share)[2] for _ in range(300)]
        return sum(is_mixed(cut, 0.75) for cut in cuts) / 300

    assert 0.07 < shares(1.0) < 0.23  # 7 of 49 have at least 5 pixels of both
    assert shares(0.75) > 0.7  # 1 - (42/49) ** 11 = 0.82
    assert torch.equal(random_crop(ResizedLabels(labels[:, :32], 16, 32), 16, 0.75)[2], labels[:, :16])


def test_at_most_ten_crops_are_checked(monkeypatch):
    looked = []
    monkeypatch.setattr(
        "foveal.tasks.segmentation.data.augment.is_mixed", lambda labels, share: looked.append(labels) or False
    )
    random_crop(ResizedLabels(torch.zeros(30, 30).long(), 30, 30), 16, 0.75)
    assert len(looked) == 10
    random_crop(ResizedLabels(torch.zeros(16, 16).long(), 16, 16), 16, 0.75)  # only one possible crop
    assert len(looked) == 10


def test_crops_cover_all_positions():
    labels = torch.arange(10 * 14).reshape(10, 14)
    corners = set()
    for _ in range(400):
        top, left, square = random_crop(ResizedLabels(labels, 10, 14), 8, 1.0)
        assert torch.equal(square, labels[top : top + 8, left : left + 8])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(7)}


@pytest.mark.parametrize("size", [(512, 683), (20, 900), (1, 1)])
def test_published_crops_have_a_fixed_size(size):
    image, labels = torch.randint(256, (3, *size), dtype=torch.uint8), torch.randint(150, size)
    for seed in range(3):
        with seeded_on_cpu(seed):
            new_image, new_labels = Augment(PUBLISHED)(image, labels)
        assert (new_image.shape, new_labels.shape) == ((3, 512, 512), (512, 512))
        assert 0 <= new_image.min() <= new_image.max() <= 1
        assert new_image.is_contiguous()
        assert new_labels.is_contiguous()


def test_small_images_keep_their_size():
    image, labels = checked(128, 160, tile=16)
    with seeded_on_cpu(0):
        _, new_labels = Augment(SMALL)(image, labels)
    assert any(
        torch.equal(new_labels, cut) or torch.equal(new_labels, cut.flip(-1))
        for cut in labels.unfold(1, 128, 1).unbind(1)
    )


def test_augmentation_is_determined_by_the_seed_and_keeps_its_input():
    image, labels = torch.randint(256, (3, 70, 90), dtype=torch.uint8), torch.randint(5, (70, 90))
    before = image.clone(), labels.clone()

    def drawn(seed):
        with seeded_on_cpu(seed):
            return Augment(PUBLISHED.scaled(1 / 8))(image, labels)

    results = [drawn(seed) for seed in (3, 3, 4)]
    assert all(map(torch.equal, results[0], results[1]))
    assert not any(map(torch.equal, results[0], results[2]))
    assert torch.equal(image, before[0])
    assert torch.equal(labels, before[1])


def test_scaled_scales_all_sides():
    scaled = PUBLISHED.scaled(0.25)
    assert (scaled.short, scaled.long, scaled.crop, scaled.ratio) == (128, 512, 128, (0.5, 2.0))
    assert replace(scaled, short=512, long=2048, crop=512) == PUBLISHED
    assert (SMALL.scaled(2).crop, SMALL.scaled(2).ratio, SMALL.scaled(2).short) == (256, (2.0, 2.0), None)


def test_an_augmentation_can_be_saved_in_a_checkpoint(tmp_path):
    torch.save(asdict(PUBLISHED), tmp_path / "a.pt")
    assert Augmentation(**torch.load(tmp_path / "a.pt", weights_only=True)) == PUBLISHED


@pytest.mark.parametrize(
    "words",
    [
        *({"short": 0}, {"long": 0}, {"crop": 0}, {"ratio": (1.2, 0.8)}, {"ratio": (0.0, 1.0)}, {"flip": 1.5}),
        *({"largest_share": 0.0}, {"largest_share": 1.1}, {"brightness": -1.0}, {"brightness": 256.0}),
        *({"contrast": 1.1}, {"saturation": -0.1}, {"hue": 61.0}, {"hue": -1.0}),
    ],
)
def test_invalid_settings_are_rejected(words):
    with pytest.raises(FovealError, match="must be"):
        Augmentation(**words)


@pytest.mark.parametrize("colour", ["brightness", "contrast", "saturation", "hue"])
def test_colour_distortions_change_the_image_and_not_the_labels(colour):
    image, labels = torch.randint(256, (3, 8, 8), dtype=torch.uint8), torch.randint(5, (8, 8))
    augment = Augment(replace(PLAIN, **{colour: {"brightness": 64.0, "hue": 40.0}.get(colour, 0.5)}))
    changed = []
    for seed in range(12):
        with seeded_on_cpu(seed):
            new_image, new_labels = augment(image, labels)
        assert torch.equal(new_labels, labels)
        changed.append(not torch.allclose(new_image, image / 255, atol=1e-3))
    assert 0 < sum(changed) < len(changed)
