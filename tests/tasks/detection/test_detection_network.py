"""Restoring detectors: Foveal checkpoints describe themselves, released ones need a recipe."""

from dataclasses import replace

import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.dense.released import start_from
from foveal.tasks.detection.data.coco_file import COCO_CLASSES
from foveal.tasks.detection.task import DetectionTask
from foveal.tasks.recipes import create_task
from foveal.training import fit
from support.checkpoints import same_state, snapshot
from support.coco_folders import write_objects
from support.detectors import noise, small_detector, small_recipe
from support.nets import lively, shrunk


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short RetinaNet run."""
    recipe, out = small_recipe("retinanet", epochs=1), tmp_path_factory.mktemp("run")
    fit(create_task(recipe, write_objects(tmp_path_factory.mktemp("coco"))), recipe.train, out)
    return out


def test_a_foveal_checkpoint_is_restored_without_a_recipe(run):
    known = DetectionTask.restore(run / "best.pt")
    assert (known.name, known.classes, known.category_ids) == ("retinanet transxnet_atto", ["cat", "dog"], [3, 7])
    assert not known.model.training
    assert same_state(snapshot(known.model), torch.load(run / "best.pt")["model"])
    assert (known.model.images.min_size[-1], known.model.images.max_size) == (64, 128)


def test_the_metadata_of_a_foveal_checkpoint_override_the_recipe(run):
    known = DetectionTask.restore(run / "best.pt", small_recipe("mask_rcnn"))
    assert known.name == "retinanet transxnet_atto"


def test_size_sets_the_short_side_and_scales_the_long_side(run):
    usual, larger = DetectionTask.restore(run / "best.pt").model, DetectionTask.restore(run / "best.pt", size=96).model
    assert (larger.images.min_size[-1], larger.images.max_size) == (96, 192)
    assert same_state(snapshot(usual), snapshot(larger))
    batch, _ = larger.images([noise(40, 60)])
    assert batch.image_sizes == [(96, 144)]


def test_a_released_checkpoint_is_restored_with_a_recipe_and_coco_classes(tmp_path):
    recipe = replace(small_recipe("retinanet"), name="coco.retinanet")
    trained = lively(recipe.create(80))
    torch.save({"state_dict": trained.state_dict(), "meta": {}}, tmp_path / "released.pth")
    known = DetectionTask.restore(tmp_path / "released.pth", recipe)
    assert same_state(snapshot(known.model), trained.state_dict())
    assert (known.classes[0], known.category_ids[0]) == ("person", 1)
    assert (known.classes[79], known.category_ids[79]) == ("toothbrush", 90)


def test_coco_has_80_classes_with_gaps_in_the_ids():
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES.values())) == 80
    assert list(COCO_CLASSES) == sorted(COCO_CLASSES)
    assert set(range(1, 91)) - set(COCO_CLASSES) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": {"weight": torch.zeros(1)}}, "does not say which detector it holds: pass the recipe"),
        (
            {"model": {"weight": torch.zeros(1)}, "card": {"task": "classification", "model": "transnext_atto"}},
            r"holds a classifier \(transnext_atto\), not a detector",
        ),
    ],
    ids=["bare", "classifier"],
)
def test_checkpoints_without_a_detector_raise_a_one_line_error(content, sentence, tmp_path):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(FovealError, match=sentence):
        DetectionTask.restore(tmp_path / "file.pt")


def test_a_missing_checkpoint_raises_a_one_line_error(tmp_path):
    with pytest.raises(FovealError, match=r"nowhere\.pt"):
        DetectionTask.restore(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_complete_detector_is_recognised_in_any_wrapping(wrapper, prefix, tmp_path):
    detector, trained = small_detector("retinanet"), lively(small_detector("retinanet"))
    state = {f"{prefix}{name}": value for name, value in trained.state_dict().items()}
    torch.save(state if wrapper is None else {wrapper: state}, tmp_path / "detector.pt")
    start_from(detector, tmp_path / "detector.pt")
    assert same_state(snapshot(detector), trained.state_dict())


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_backbone_checkpoint_loads_only_the_backbone(prefix, tmp_path):
    classifier = lively(shrunk("transnext_atto"))
    state = {f"{prefix}{name}": value for name, value in classifier.state_dict().items()}
    torch.save(state, tmp_path / "backbone.pt")
    detector = small_detector("retinanet", "transnext_atto")
    head = snapshot(detector.head)
    start_from(detector, tmp_path / "backbone.pt")
    assert same_state(snapshot(detector.head), head)
    for name, value in detector.backbone.body.state_dict().items():
        assert torch.equal(value, classifier.state_dict()[name]), name
