"""What ``foveal export`` does with its options: a network as a file for another runtime."""

from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path

from foveal.cli.commands.export import ExportOptions
from foveal.cli.console import UsageError, print_json, steps
from foveal.cli.options import check_least
from foveal.cli.predict import CLASSIFICATION, what_it_holds
from foveal.errors import FovealError
from foveal.export import FORMATS, Exported, Subject, export
from foveal.export.formats import check_request, check_target
from foveal.export.int8 import EVERY, Calibration
from foveal.export.program import AXES, BATCH
from foveal.export.subject import Features
from foveal.models.pyramid import Pyramid
from foveal.models.weights_file import WeightsFile
from foveal.near import did_you_mean
from foveal.runtime.card import Resizing
from foveal.runtime.classification import MULTI_LABEL
from foveal.tasks.classification.network import Classifier, described_by_timm, restore
from foveal.tasks.classification.preprocessing import Preprocessing
from foveal.tasks.listing import walk_images
from foveal.tasks.network import lacks_released_weights, set_input_size
from foveal.tasks.registry import TASKS, noun
from foveal.wording import many

OTHERS = {".pt", ".pth", ".bin", ".safetensors", ".json", ".ort", ".data"}  # endings that no exported file has


def run(options: ExportOptions, *, json: bool = False) -> None:
    """Write the files that the options ask for, and print what was written."""
    formats, dynamic = _listed("format", options.format, FORMATS), _listed("dynamic", options.dynamic or "", AXES)
    batch = _batch(options, dynamic)
    for name in formats:
        check_request(name, options.precision, frozenset(dynamic), batch)
    _check_endings(formats, options.out)
    if options.out is not None:
        _check_targets(_paths(formats, options.out))
    calibration = _calibration(options)
    subject = _subject(options, dynamic, batch)
    paths = _paths(formats, options.out or Path(subject.model))
    _check_targets(paths)
    exported = []
    for name, path in paths:
        with steps(f"exporting {subject.model}") as show:
            one = export(
                subject,
                path,
                name,
                precision=options.precision,
                dynamic=dynamic,
                batch=batch,
                calibration=calibration,
                on_step=show,
            )
        exported.append(one)
        if not json:
            print(_sentence(one), flush=True)
    if json:
        print_json([_document(one) for one in exported])


def _listed(option: str, words: str, known: Collection[str]) -> list[str]:
    listed = [word.strip() for word in words.split(",") if word.strip()]
    for word in listed:
        if word not in known:
            near = did_you_mean(word, known, most=1)
            raise UsageError(f"--{option} takes {', '.join(known)} or a list of these, not {word!r}{near}.")
    return list(dict.fromkeys(listed))


def _batch(options: ExportOptions, dynamic: list[str]) -> int:
    check_least(("--batch", options.batch, 1))
    if options.batch is not None and BATCH in dynamic:
        raise UsageError("--dynamic batch takes any number of images: leave --batch out.")
    return options.batch or 1


def _calibration(options: ExportOptions) -> Calibration | None:
    """Return the images for int8. Raises UsageError or FovealError before anything is computed."""
    folder = options.calibration
    if options.precision != "int8":
        for name, value in (("calibration", folder), ("calibration-images", options.calibration_images)):
            if value is not None:
                raise UsageError(f"--{name} is for int8: add --precision int8, or leave it out.")
        return None
    if folder is None:
        raise UsageError("int8 is calibrated on images: pass --calibration FOLDER with some of the training images.")
    count = 128 if options.calibration_images is None else options.calibration_images
    if count < EVERY:
        raise UsageError(f"--calibration-images must be at least {EVERY}, not {count}: one of them checks the file.")
    if not folder.is_dir():
        raise UsageError(f"--calibration {folder} is not a folder: pass one of images.")
    paths = walk_images(folder).images
    if not paths:
        raise UsageError(f"--calibration {folder} has no images: pass a folder of images.")
    return Calibration.draw(paths, count)


def _subject(options: ExportOptions, dynamic: list[str], batch: int) -> Subject:
    if options.checkpoint is None and options.model is None:
        raise UsageError("A network is missing: pass --checkpoint FILE or --model NAME.")
    if options.checkpoint is not None and not options.pretrained:
        raise UsageError("--checkpoint has the weights: leave --no-pretrained out.")
    if len(options.size) > 2:
        raise UsageError(f"--size takes one side, or height and width, not {len(options.size)} numbers.")
    check_least(*(("--size", side, 1) for side in options.size))
    sides = options.size * 2 if len(options.size) == 1 else options.size
    size = (sides[0], sides[1]) if sides else None
    weights = None if options.checkpoint is None else WeightsFile.open(options.checkpoint)
    if weights is not None:
        kind, recipe = what_it_holds(weights, options.model)
        if kind != CLASSIFICATION:
            if options.features:
                raise UsageError(
                    f"--features is for classifiers, and {weights.path} holds a {noun(kind)}: leave it out."
                )
            if kind not in TASKS:
                raise FovealError(
                    f"{weights.path} holds a {noun(kind)}, which this version does not know: update foveal."
                )
            from foveal.cli.export_dense import subject_of

            return subject_of(kind, weights, recipe, size, dynamic, batch, options.precision)
    classifier = _classifier(options, weights, size)
    fit = classifier.fit
    net = classifier.model.eval()
    if options.features:
        if not isinstance(net, Pyramid):
            raise UsageError(f"--features is for networks of foveal, and {classifier.name} is not one: leave it out.")
        stages = tuple(f"stage{number}" for number in range(1, len(net.feature_info) + 1))
        return Subject(Features(net).eval(), "features", classifier.name, fit.size, _resizing(fit), stages)
    return Subject(
        net,
        "classification",
        classifier.name,
        fit.size,
        _resizing(fit),
        ("logits",),
        tuple(classifier.classes),
        {MULTI_LABEL: True} if classifier.multi_label else {},
    )


def _classifier(options: ExportOptions, weights: WeightsFile | None, size: tuple[int, int] | None) -> Classifier:
    if weights is not None:
        return restore(weights, options.model, size=size)
    assert options.model is not None
    if options.pretrained and lacks_released_weights(options.model):
        raise FovealError(
            f"{options.model} has no released weights: pass --checkpoint FILE, or --no-pretrained to measure speed."
        )
    classifier = described_by_timm(options.model, pretrained=options.pretrained)
    if size is None:
        return classifier
    set_input_size(classifier.model, size)
    return replace(classifier, fit=replace(classifier.fit, size=size))


def _resizing(fit: Preprocessing) -> Resizing:
    return Resizing(fit.crop, fit.takes_whole_image, fit.interpolation, tuple(fit.mean), tuple(fit.std), fit.whole_from)


def _check_endings(formats: list[str], out: Path | None) -> None:
    """Raise UsageError if files of these formats cannot have their endings."""
    if not formats:
        raise UsageError(f"--format takes {', '.join(FORMATS)} or a list of these.")
    endings = {FORMATS[name].ending for name in formats}
    if len(endings) < len(formats):
        raise UsageError("torch and aoti files both end in .pt2: export them one at a time.")
    if out is not None and (out.suffix in OTHERS or (len(formats) == 1 and out.suffix in _endings() - endings)):
        kind = FORMATS[formats[0]]
        raise UsageError(f"--out {out} does not end in {kind.ending}, as {kind.title} files do: rename it.")


def _endings() -> set[str]:
    return {one.ending for one in FORMATS.values()}


def _paths(formats: list[str], out: Path) -> list[tuple[str, Path]]:
    """Return a file for every format; a name may have dots, such as transnext_base.in1k_384."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder: pass the name of a file.")
    stem = out.with_suffix("") if out.suffix in _endings() else out
    return [(name, stem.with_name(stem.name + FORMATS[name].ending)) for name in formats]


def _check_targets(paths: list[tuple[str, Path]]) -> None:
    for name, path in paths:
        check_target(path, FORMATS[name])


def _document(one: Exported) -> dict:
    return {
        "path": str(one.path),
        "operators": one.operators,
        "error": one.error,
        "seconds": round(one.seconds, 1),
        "bytes": one.path.stat().st_size,
        **({} if one.int8 is None else {"int8": asdict(one.int8)}),
    }


def _sentence(one: Exported) -> str:
    given = one.card.input
    batch = "any batch" if given.batch is None else f"batch {given.batch}"
    size = "any size" if given.any_size else f"{given.size[0]} x {given.size[1]}"
    difference = f"differs by {one.error:.1e} from the network" if one.int8 is None else str(one.int8)
    return (
        f"{one.path}: {one.card.model}, {one.card.precision}, {batch}, {size}\n"
        f"  {many(one.operators, 'operator')}; {difference}; {one.seconds:.0f} s"
    )
