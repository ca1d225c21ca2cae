"""int8 keeps the accuracy of a trained classifier: the goals of ``benchmarks/int8_accuracy.py``, after three epochs."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from foveal.tasks.classification.data import open_split
from foveal.tasks.classification.digits import write_digits
from foveal.tasks.classification.int8 import CalibrationImages, quantized
from foveal.tasks.classification.network import restore
from foveal.tasks.recipes import create_task, get_recipe
from foveal.training import fit

pytest.importorskip("sklearn.datasets")


def test_a_trained_classifier_keeps_its_accuracy_in_int8(tmp_path):
    data = write_digits(tmp_path / "digits")
    recipe = get_recipe("digits.transnext_atto")
    recipe = replace(recipe, train=replace(recipe.train, epochs=3, warmup_epochs=1, workers=0))
    fit(create_task(recipe, data), recipe.train, tmp_path / "run")
    classifier = restore(tmp_path / "run" / "best.pt")
    int8, report = quantized(classifier, CalibrationImages.find(data, data / "val", 128))
    assert report.in_int8 >= 20
    images = open_split(data, "val", classifier.fit.transform())
    x, targets = torch.stack([images[i][0] for i in range(len(images))]), torch.tensor(images.targets)
    with torch.no_grad():
        exact, found = classifier.model(x), int8.model(x)
    hits, kept = ((answers.argmax(1) == targets).float().mean().item() for answers in (exact, found))
    assert hits > 0.5
    assert kept >= hits - 0.003
    assert F.cosine_similarity(exact, found).mean().item() >= 0.999
