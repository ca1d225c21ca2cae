"""Hugging Face datasets by name (``hf:NAME``, ``hf:NAME:CONFIG``), or in a folder written by ``save_to_disk``."""

from pathlib import Path
from typing import Any

from PIL import Image

from foveal.errors import FovealError
from foveal.image_files import decode_rgb, load_rgb
from foveal.tasks.classification.data.images import Images
from foveal.tasks.listing import split_names

#: Names of the splits on the hub; the first one found is used.
NAMES = {"train": split_names("train"), "val": (*split_names("val"), "test")}


def is_saved_dataset(root: Path) -> bool:
    """Return whether the folder was written by ``save_to_disk``."""
    return (root / "dataset_dict.json").is_file() or (root / "state.json").is_file()


class HubDataset:
    """A Hugging Face dataset: ``NAME`` or ``NAME:CONFIG``, or the Path of a saved one."""

    def __init__(self, name: str | Path) -> None:
        self.name = name
        self._splits: dict[str, Any] | None = None

    def place(self, split: str) -> str:
        return f"{self.name}/{self._name_of(split)}"

    def set_name(self, split: str) -> str:
        return self._name_of(split)

    def check(self, split: str) -> None:
        self._name_of(split)

    def open(self, split: str, classes: list[str] | None = None) -> Images:
        import datasets

        table, place = self._load()[self._name_of(split)], self.place(split)
        image = _column(table, datasets.Image, "images", place)
        label = _column(table, datasets.ClassLabel, "class labels", place)
        names = list(table.features[label].names)
        targets = list(table.select_columns([label])[:][label])
        _check_labels(targets, names, place)
        return HubImages(table.cast_column(image, datasets.Image(decode=False)), image, names, targets, place)

    def _name_of(self, split: str) -> str:
        splits = self._load()
        found = next((name for name in NAMES.get(split, (split,)) if name in splits), None)
        if found is None:
            raise FovealError(
                f"{self.name} has no split {' or '.join(NAMES.get(split, (split,)))}, only {', '.join(splits)}: choose "
                "another dataset, or save one with these splits by DatasetDict.save_to_disk and pass its folder."
            )
        return found

    def _load(self) -> dict[str, Any]:
        if self._splits is None:
            self._splits = _load(self.name)
        return self._splits


class HubImages(Images):
    """Images in the rows of a table, with one column of encoded images."""

    def __init__(self, table: Any, column: str, classes: list[str], targets: list[int], place: str) -> None:
        super().__init__(classes, [f"{place}[{row}]" for row in range(len(targets))], targets)
        self.table, self.column = table, column

    def load(self, index: int) -> Image.Image:
        image = self.table[index][self.column] or {}
        if image.get("bytes") is None and image.get("path"):
            return load_rgb(image["path"], self.upright)
        return decode_rgb(image.get("bytes") or b"", self.names[index], self.upright)


def _load(name: str | Path) -> dict[str, Any]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise FovealError(
            f"{name} is a Hugging Face dataset, which needs datasets: install it with `pip install 'foveal[data]'`."
        ) from error
    try:
        if isinstance(name, Path):
            splits = datasets.load_from_disk(str(name))
        else:
            splits = datasets.load_dataset(*name.split(":", 1))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".:")
        raise FovealError(f"The dataset {name} cannot be opened ({reason}): check its name and the network.") from error
    if not isinstance(splits, dict):
        raise FovealError(f"{name} is a single split without a name: save a DatasetDict with train and validation.")
    return splits


def _column(table: Any, kind: type, what: str, place: str) -> str:
    """Return the name of the only column of a kind."""
    found = [name for name, feature in table.features.items() if isinstance(feature, kind)]
    if len(found) != 1:
        listed = f" ({', '.join(found)})" if found else ""
        raise FovealError(
            f"{place} has {len(found) or 'no'} columns of {what}{listed}, and needs exactly one: save it with one by "
            "DatasetDict.save_to_disk and pass the folder."
        )
    return found[0]


def _check_labels(targets: list[int | None], names: list[str], place: str) -> None:
    for row, label in enumerate(targets):
        if label is None or not 0 <= label < len(names):
            raise FovealError(
                f"{place}[{row}] has the label {label}, which is not one of its {len(names)} classes: choose a "
                "labelled split, or filter out such rows."
            )
