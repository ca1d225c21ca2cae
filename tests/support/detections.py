"""A synthetic COCO dataset and the detections of an imperfect detector, both determined by a seed."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as peer
from torch import nn

from foveal.errors import BrokenSample

CATEGORY_IDS = [2, 5, 11, 40]  # with gaps, as in COCO
CLASSES = ["cat", "dog", "eel", "fox"]
ABSENT = 3  # label of a class that occurs in no image but is detected


def ellipse(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """The ellipse inscribed in a box (x1, y1, x2, y2), (height, width) uint8."""
    y, x = np.mgrid[:height, :width] + 0.5
    x1, y1, x2, y2 = box
    return (((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1).astype(np.uint8)


def random_box(draw: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A box between 6 pixels and almost the entire image; small boxes are more frequent."""
    sides = np.minimum(6 + 200 * draw.random(2) ** 2, [width - 1, height - 1])
    corner = draw.random(2) * (np.array([width, height]) - sides)
    return np.concatenate([corner, corner + sides])


def coco_document(seed: int, images: int = 24) -> dict:
    """Up to five objects per image from three of four classes, some of them crowds; every third image has none."""
    draw = np.random.default_rng(seed)
    document = {"images": [], "annotations": [], "categories": []}
    for number in range(images):
        height, width = (int(side) for side in draw.integers(60, 260, 2))
        image = {"id": 100 + 7 * number, "height": height, "width": width, "file_name": f"{number}.png"}
        document["images"].append(image)
        for _ in range(0 if number % 3 == 2 else draw.integers(1, 6)):
            box, crowd = random_box(draw, height, width), int(draw.random() < 0.15)
            rle = peer.encode(np.asfortranarray(ellipse(box, height, width)))
            x1, y1, x2, y2 = box.tolist()
            runs = {"size": rle["size"], "counts": rle["counts"].decode()}
            turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            rim = np.stack([x1 + (x2 - x1) * (1 + np.cos(turns)) / 2, y1 + (y2 - y1) * (1 + np.sin(turns)) / 2], 1)
            annotation = {
                "id": len(document["annotations"]) + 1,
                "image_id": image["id"],
                "category_id": CATEGORY_IDS[draw.integers(3)],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(peer.area(rle)),
                "iscrowd": crowd,
                "segmentation": runs if crowd or draw.random() < 0.5 else [rim.ravel().tolist()],
            }
            document["annotations"].append(annotation)
    document["categories"] = [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, CLASSES, strict=True)]
    return document


def detections(document: dict, seed: int) -> dict[int, dict[str, torch.Tensor]]:
    """Image id -> detections: slightly displaced objects, some duplicated or misclassified, and false positives."""
    draw = np.random.default_rng(seed)
    found = {}
    for image in document["images"]:
        height, width = image["height"], image["width"]
        rows = []
        for annotation in document["annotations"]:
            if annotation["image_id"] != image["id"]:
                continue
            x, y, w, h = annotation["bbox"]
            for _ in range(draw.choice([0, 1, 1, 1, 2])):
                box = np.array([x, y, x + w, y + h]) + 0.08 * draw.normal(size=4) * [w, h, w, h]
                right = CATEGORY_IDS.index(annotation["category_id"])
                rows.append((box, draw.integers(4) if draw.random() < 0.2 else right))
        rows += [(random_box(draw, height, width), draw.integers(4)) for _ in range(draw.integers(3))]
        found[image["id"]] = answer(rows, draw, height, width)
    return found


def answer(rows: list, draw: np.random.Generator, height: int, width: int) -> dict[str, torch.Tensor]:
    """A detector's output sorted by score, with ties; masks are probabilities."""
    limits = [width, height, width, height]
    boxes = np.clip(np.array([box for box, _ in rows]).reshape(-1, 4), 0, limits)
    masks = np.array([0.4 + 0.5 * ellipse(box, height, width) for box in boxes]).reshape(-1, 1, height, width)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32),
        "labels": torch.tensor([int(label) for _, label in rows], dtype=torch.int64),
        "scores": torch.tensor(np.sort(draw.random(len(rows)).round(1))[::-1].copy(), dtype=torch.float32),
        "masks": torch.tensor(masks, dtype=torch.float32),
    }


class MadeImages:
    """A dataset like ``CocoImages``: image i has the value ``i / 1000``; images in ``broken`` are unreadable."""

    def __init__(self, folder: Path, seed: int = 0, broken: tuple[int, ...] = ()) -> None:
        self.document, self.broken = coco_document(seed), broken
        self.annotation_file = folder / "instances.json"
        self.category_ids, self.classes = CATEGORY_IDS, CLASSES

    def ground_truth(self) -> dict:
        return deepcopy(self.document)

    def __len__(self) -> int:
        return len(self.document["images"])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if index in self.broken:
            raise BrokenSample(f"{index}.png", f"{index}.png is not a readable image: replace it.")
        image = self.document["images"][index]
        return torch.full((3, 8, 8), index / 1000), {"image_id": torch.tensor(image["id"])}


class KnownAnswers(nn.Module):
    """A detector that returns the synthetic detections for images of ``MadeImages``."""

    def __init__(self, images: MadeImages, seed: int = 0, masks: bool = True) -> None:
        super().__init__()
        self.answers = list(detections(images.document, seed).values())
        self.names = ("boxes", "labels", "scores", *(["masks"] if masks else []))

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        found = [self.answers[round(1000 * float(image[0, 0, 0]))] for image in images]
        return [{name: one[name] for name in self.names} for one in found]


def collate(samples: list) -> tuple[list, list]:
    """Collate samples into a list of images and a list of targets."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)
