"""Accuracies of a checkpoint in the row of its network in a paper's table, by the evaluation of ``foveal evaluate``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.cli.total_progress import total_progress
from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile
from foveal.near import did_you_mean
from foveal.papers import Column, PaperTable, Row
from foveal.papers.measured import Measured, OwnFigures
from foveal.tasks.classification.cell import Cell
from foveal.tasks.classification.evaluate import EvaluationSettings
from foveal.tasks.classification.imagenet.sets import SETS, evaluated_by, mode_of
from foveal.tasks.classification.names import Mode, SetName
from foveal.tasks.classification.network import Classifier, restore
from foveal.tasks.classification.survey import EvaluationGrid, survey
from foveal.types import Size
from foveal.wording import many

Rows = dict[int, Row]  # by index
Wanted = dict[Column, tuple[SetName, Size | None]]
Place = tuple[SetName, Mode | None, Size]


@dataclass(frozen=True)
class AccuracyOptions:
    """What is evaluated: a file of weights, the folder of the data, and the name or the model of the row, which a file
    that does not say its network needs."""

    checkpoint: Path
    data: Path
    row: str | None = None


def evaluate_table(table: PaperTable, options: AccuracyOptions, settings: EvaluationSettings) -> Measured:
    """Return the accuracies of a classifier, for the columns of a table whose sets are in the data.

    Args:
        table: a table with accuracies of classifiers.
        options: what is evaluated.
        settings: how.

    Raises:
        FovealError: the table has no such columns, no row of this network, or the data has none of the sets.
    """
    wanted = _wanted(table)
    file = WeightsFile.open(options.checkpoint)
    classifier, rows = _matching(table, file, options.row)
    missing = [name for name in _sets(wanted) if not _is_there(name, options.data)]
    present = {column: place for column, place in wanted.items() if place[0] not in missing}
    if not present:
        titles = ", ".join("val" if name == "val" else SETS[name].folders[0] for name in missing)
        raise FovealError(f"{options.data} has none of {table.name}'s sets ({titles}): pass the --data that holds one.")
    grid = EvaluationGrid(
        data=options.data,
        sets=tuple(_sets(present)),
        modes=tuple(dict.fromkeys(map(mode_of, rows.values()))),
        sizes=tuple(dict.fromkeys(size for _, size in present.values())),
    )
    cells = survey(classifier, grid, settings, total_progress)
    found: dict[Place, Cell] = {(cell.set, cell.mode, cell.size): cell for cell in cells}
    own = classifier.fit.size
    figures = tuple(
        OwnFigures(column, "measured", "here", _values(rows, found, name, size or own), decimals=2)
        for column, (name, size) in present.items()
    )
    return Measured(figures, tuple(_notes(options, cells, missing)), _facts(options, classifier, cells))


def _values(rows: Rows, found: Mapping[Place, Cell], name: SetName, size: Size) -> dict[int, float]:
    cells = {index: found[name, mode_of(row), size] for index, row in rows.items()}
    return {
        index: cell.score.top1 if cell.corruptions is None else cell.corruptions.mce for index, cell in cells.items()
    }


def _wanted(table: PaperTable) -> Wanted:
    """Return the columns with accuracies of classifiers, and what each is of."""
    columns = {column: place for column in table.columns if (place := evaluated_by(column.name))}
    if columns:
        return columns
    if any(column.name.startswith(("box_ap", "miou")) for column in table.columns):
        raise FovealError(
            f"{table.name} has detectors or segmenters: evaluate this file with `foveal evaluate RECIPE --checkpoint`."
        )
    raise FovealError(f"{table.name} has no accuracies: choose a table that has, such as transnext.imagenet.")


def _sets(wanted: Wanted) -> list[SetName]:
    return list(dict.fromkeys(name for name, _ in wanted.values()))


def _is_there(name: SetName, data: Path) -> bool:
    """Whether a folder has a set. The validation set has many layouts; it is missing if other sets alone are there."""
    there = [one for one, known in SETS.items() if any((data / folder).is_dir() for folder in known.folders)]
    return name in there if name != "val" else data.exists() and (not there or (data / "val").exists())


def _matching(table: PaperTable, file: WeightsFile, name: str | None) -> tuple[Classifier, Rows]:
    """Return the classifier in a file, and the rows of its network."""
    rows = {index: row for index, row in enumerate(table.rows) if name in (None, row.name, row.model)}
    if not rows:
        known = list(dict.fromkeys(row.name for row in table.rows if row.model))
        near = did_you_mean(str(name), known)
        raise FovealError(f"{table.name} has no row {name!r}{near}: rows of networks of foveal are {', '.join(known)}.")
    own = {index: row for index, row in rows.items() if row.model}
    if not own:
        raise FovealError(f"Row {name!r} of {table.name} is no network of foveal: name another --row.")
    if file.metadata is None:
        return _named(file, own, name)
    classifier = restore(file)
    alike = {index: row for index, row in own.items() if _is_of(row, file.metadata, classifier, table)}
    if not alike:
        side = classifier.fit.size[0]
        which = (
            f"row {name!r} of {table.name} is another network" if name else f"no row of {table.name} is that network"
        )
        raise FovealError(
            f"{file.path} holds a {classifier.name} for {side} pixels, and {which}: choose another table."
        )
    return classifier, alike


def _named(file: WeightsFile, rows: Rows, name: str | None) -> tuple[Classifier, Rows]:
    """Return the classifier of a file without metadata, such as released weights: the row says what it is."""
    first = next(iter(rows.values()))
    alike = {i: row for i, row in rows.items() if (row.model, row.arguments) == (first.model, first.arguments)}
    if len(alike) < len(rows):
        names = (row.name if name is None else str(row.model) for row in rows.values())
        known = ", ".join(dict.fromkeys(names))
        raise FovealError(f"{file.path} does not say which network it holds: name its --row, one of {known}.")
    if first.arguments:
        raise FovealError(
            f"{file.path} does not say which network it holds, and {first.name} needs further arguments: pass a file "
            "of foveal train."
        )
    return restore(file, first.model), alike


def _is_of(row: Row, card: Mapping[str, Any], classifier: Classifier, table: PaperTable) -> bool:
    """Whether a row is of the network that a file of ``foveal train`` describes, at its size."""
    ablated = {key for one in table.rows for key in one.arguments}
    arguments = {key: value for key, value in card["model_args"].items() if key in ablated}
    size = row.number("size") or classifier.fit.size[0]
    return (
        str(row.model).partition(".")[0] == card["model"].partition(".")[0]
        and _plain(arguments) == _plain(row.arguments)
        and size == classifier.fit.size[0]
    )


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with lists as tuples, since a file may hold either."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}


def _notes(options: AccuracyOptions, cells: Sequence[Cell], missing: Sequence[SetName]) -> Iterator[str]:
    yield f"here: weights of {options.checkpoint.name} on images of {options.data}; top-1 and mCE in percent."
    counts = dict.fromkeys(
        f"{cell.title}: {many(cell.score.images, 'image')}"
        + (f" of {cell.score.counted_classes:,} of {len(cell.classes):,} classes" if cell.uncounted else "")
        for cell in cells
    )
    yield "; ".join(counts) + "."
    yield from dict.fromkeys(notice for cell in cells for notice in cell.notices)
    if missing:
        titles = ", ".join("the validation set" if name == "val" else SETS[name].title for name in missing)
        yield f"Not in {options.data}, so not evaluated: {titles}."


def _facts(options: AccuracyOptions, classifier: Classifier, cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "checkpoint": str(options.checkpoint),
        "model": classifier.name,
        "data": str(options.data),
        "results": [cell.document() for cell in cells],
    }
