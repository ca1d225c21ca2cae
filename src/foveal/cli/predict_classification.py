"""``foveal predict`` with classifiers: the most probable classes, on the screen or in a file, and pooled features."""

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foveal.cli.console import UsageError
from foveal.cli.options import PredictOptions
from foveal.cli.predict_run import Tally, run, screen_of
from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile
from foveal.report.answer_files import (
    ADVICE,
    CLASS_FILES,
    FEATURES_ADVICE,
    NAMES_ENDING,
    check_place,
    class_file,
    feature_file,
    json_list,
)
from foveal.runtime.classification import ExportedClassifier
from foveal.runtime.guesses import Prediction
from foveal.runtime.predicting import Answer, Predictor
from foveal.runtime.session import Session
from foveal.tasks.classification.predict import ClassPredictor, Featured, FeaturePredictor
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.task import ClassificationTask
from foveal.tasks.inputs import Inputs
from foveal.wording import percent

MANY = 64  # images: folding a network takes as long as a few of them


def predict(inputs: Inputs, weights: WeightsFile, recipe: Recipe | None, options: PredictOptions) -> Tally:
    """Classify images and print or write the most probable classes; with ``--features`` also write features."""
    _check_files(options)
    classifier = ClassificationTask.restore(weights, recipe, size=options.size, name=options.model)
    kind = ClassPredictor if options.features is None else FeaturePredictor
    many = inputs.total is None or inputs.total >= MANY
    return _predict(inputs, kind(classifier, top_k=options.top_k, fold=many), options)


def predict_exported(inputs: Inputs, session: Session, options: PredictOptions) -> Tally:
    """Classify images with an exported file, as ``predict``."""
    _check_files(options)
    if options.features is not None:
        raise UsageError(f"{session.path} has no features beside its classes: pass --features with a checkpoint.")
    size = None if options.size is None else (options.size, options.size)
    return _predict(inputs, ExportedClassifier(session, size=size, top_k=options.top_k), options)


def _check_files(options: PredictOptions) -> None:
    """Raise UsageError or FovealError for files that have the wrong name, or cannot be written."""
    out, features = options.out, options.features
    if out is not None:
        if out.suffix.lower() not in CLASS_FILES:
            raise UsageError(f"--out is a file for a classifier: end it in {', '.join(CLASS_FILES)}, not {out.name}.")
        check_place(out, ADVICE)
    if features is not None:
        if features.suffix.lower() != ".npy":
            raise UsageError(f"--features is a file of NumPy: end it in .npy, not {features.name}.")
        check_place(features, FEATURES_ADVICE)
        if out == features.with_suffix(NAMES_ENDING):
            raise FovealError(f"{out} is where the names beside {features} go: {ADVICE}.")


def _predict(inputs: Inputs, predictor: Predictor[Any, Any], options: PredictOptions) -> Tally:
    out, features = options.out, options.features
    with ExitStack() as stack:
        writers = [] if out is None else [stack.enter_context(class_file(out))]
        if options.json:
            writers.append(stack.enter_context(json_list(sys.stdout)))
        add_feature = None if features is None else stack.enter_context(feature_file(features))
        screen = stack.enter_context(screen_of("Predicting", inputs, options))
        silent = bool(writers) or features is not None

        def add(found: Answer[Any, Any]) -> None:
            answer = found.answer
            if isinstance(answer, Featured) and add_feature is not None:
                add_feature(answer.prediction.path, answer.feature)
                answer = answer.prediction
            for write in writers:
                write(asdict(answer))
            if not silent:
                screen.say(_text(answer))

        tally = run(inputs, predictor, add, screen, options.workers)
    if not options.json:
        _say_files(tally, [file for file in (out, features) if file is not None])
    return tally


def _say_files(tally: Tally, files: list[Path]) -> None:
    for file in files:
        print(f"{file}: {tally.answered:,} image{'' if tally.answered == 1 else 's'}")


def _text(prediction: Prediction) -> str:
    lines = [f"  {percent(100 * guess.probability):>8}  {guess.name}" for guess in prediction.guesses]
    lines = lines or ["  no label"]
    return "\n".join([prediction.path, *lines])
