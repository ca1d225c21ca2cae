"""A classifier's results as sections of a page: confusion, accuracy by class, examples, predictions on files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from foveal.errors import FovealError
from foveal.report.page import Child, Picture, el, gallery, probability_bar
from foveal.report.page_matrix import Matrix, class_table, side_by_side
from foveal.tasks.classification.answers import TopAnswers, class_accuracies
from foveal.tasks.classification.data import Images
from foveal.tasks.classification.predict import Prediction
from foveal.training.loading import continues
from foveal.wording import many, percent

MOST_EXAMPLES = 12  # of each kind
SIDE, SMALL = 192, 64  # longer side of a shown picture; images up to this side are shown as they are, in pixels
MIME = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}


def confusion(counts: Tensor, classes: Sequence[str]) -> Child:
    """Return the number of errors, the most common confusion, the confusion matrix, and the accuracy of each class.

    Args:
        counts: (K, K) int64, images by true class (row) and predicted class (column).
        classes: K names.
    """
    matrix = counts.numpy()
    wrong = matrix - np.diag(np.diag(matrix))
    text = f"{wrong.sum():,} of {many(int(matrix.sum()), 'validation image')} were misclassified."
    if wrong.max() > 1:
        true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
        times = f"{wrong.max():,} of {many(int(matrix[true].sum()), 'image')}"
        text += f" The most common confusion: {classes[true]} taken for {classes[predicted]} ({times})."
    elif wrong.sum() > 1:
        text += " No confusion occurred twice."
    table = Matrix.of_classes(matrix, classes, "Images of each true class (row) by predicted class (column)").html()
    return el("p", text), side_by_side(table, accuracy_table(counts, classes))


def accuracy_table(counts: Tensor, classes: Sequence[str]) -> Child:
    """Return the accuracy of each class, with its number of images."""
    support, hits = counts.sum(1).tolist(), counts.diagonal().tolist()
    rows = [
        (name, (f"{images:,}", f"{right:,}"), value, "no image" if value is None else percent(value))
        for name, images, right, value in zip(classes, support, hits, class_accuracies(counts), strict=True)
    ]
    return class_table("Accuracy by class", ("class", "images", "right", "accuracy"), rows)


def examples(answers: TopAnswers, images: Images) -> Child:
    """Return the most confident mistakes, and correct answers that were least confident, at most one of each class."""
    if not continues(images):
        return el("p", "These images are read in order, so none of them are shown here.")
    wrong, right = answers.mistakes().tolist(), least_confident(answers)
    count = (
        f"all {len(wrong)}" if len(wrong) <= MOST_EXAMPLES else f"the {MOST_EXAMPLES} most confident of {len(wrong):,}"
    )
    mistakes = _row(f"Wrong: {count}", wrong, answers, images)
    return (
        mistakes if wrong else el("p", "No validation image was misclassified."),
        _row("Correct, but least confident, one per class", right, answers, images) if right else None,
    )


def least_confident(answers: TopAnswers) -> list[int]:
    """Return the places of the least confident correct answers, one of each class, the least confident first."""
    chosen: dict[int, int] = {}
    for at in answers.confidences.argsort(stable=True).tolist():
        if answers.right[at]:
            chosen.setdefault(int(answers.targets[at]), at)
    return [*chosen.values()]


def predictions_on_files(predictions: Sequence[Prediction]) -> Child:
    """Return each file with its most probable classes."""
    cards = [
        el(
            "figure",
            _file_picture(Path(prediction.path)).html(),
            el("div", [probability_bar(guess.name, guess.probability) for guess in prediction.guesses]),
            el("figcaption", _short(prediction.path)),
        )
        for prediction in predictions
    ]
    return el("div", cards, class_="predictions pixels")


def _row(title: str, places: Sequence[int], answers: TopAnswers, images: Images) -> Child:
    found = [(at, _loaded(images, int(answers.indices[at]))) for at in places[:MOST_EXAMPLES]]
    shown = [(at, image) for at, image in found if image is not None]
    small = all(max(image.size) <= SMALL for _, image in shown)
    pictures = [_example(at, image, answers, images) for at, image in shown]
    return el("h3", title), gallery(pictures, "gallery pixels" if small else "gallery")


def _loaded(images: Images, index: int) -> Image.Image | None:
    try:
        return images.load(index)
    except FovealError:  # it was readable a moment ago
        return None


def _example(at: int, image: Image.Image, answers: TopAnswers, images: Images) -> Picture:
    name, classes = _short(images.names[int(answers.indices[at])]), images.classes
    true, predicted = classes[int(answers.targets[at])], classes[int(answers.predictions[at])]
    said = f"{predicted}, {percent(100 * float(answers.confidences[at]))}".replace(" %", "\N{NO-BREAK SPACE}%")
    truth = "correct" if true == predicted else f"true class {true}"
    content, mime = thumbnail(image)
    alt = f"{name}: true class {true}, predicted {predicted}"
    return Picture(content, alt, (el("strong", said), el("br"), truth, el("br"), name), mime)


def thumbnail(image: Image.Image) -> tuple[bytes, str]:
    """Return an image as the bytes of a small file, with its type: small images as they are, others as JPEG."""
    file = io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(file, "PNG")
        return file.getvalue(), "image/png"
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(file, "JPEG", quality=85)
    return file.getvalue(), "image/jpeg"


def _file_picture(path: Path) -> Picture:
    return Picture(path.read_bytes(), f"The image {_short(path)}", mime=MIME[path.suffix.lower()])


def _short(path: str | Path) -> str:
    """Return class folder and file name, which identify an image."""
    return "/".join(Path(path).parts[-2:])
