"""Segmentation in the training loop: exact resumption, initial weights, and rejected settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.recipe import check_drop_path
from foveal.tasks.recipes import create_task, get_recipe
from foveal.tasks.segmentation.task import SegmentationTask
from foveal.training import fit
from foveal.training.batching import Share, split_batch
from foveal.training.checkpoint import read_checkpoint
from foveal.training.processes import start_processes
from support.checkpoints import same_state, snapshot
from support.nets import lively, shrunk
from support.runs import leaving_in_update, lines
from support.segmentation_folders import write_regions, write_split
from support.segmentation_recipes import small_recipe

SEGMENTERS = ("upernet", "mask2former", "semantic_fpn")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six training and two validation images of three classes."""
    return write_regions(tmp_path_factory.mktemp("labelled"))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_run_resumed_within_an_epoch_is_bitwise_identical(name, data, tmp_path):
    """With random crops, colours and flips, dropout and sampled points (Mask2Former); with four updates per epoch,
    passes over the six images start and end within epochs."""
    recipe, straight, cut = small_recipe(name, epoch_steps=4), tmp_path / "straight", tmp_path / "cut"
    fit(create_task(recipe, data), recipe.train, straight)
    assert fit(leaving_in_update(create_task(recipe, data), 6), recipe.train, cut).interrupted
    assert read_checkpoint(cut / "last.pt")["step"] == 6
    fit(create_task(recipe, data), recipe.train, cut, resume=cut / "last.pt")
    one, other = (read_checkpoint(out / "last.pt")["model"] for out in (straight, cut))
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []
    for log in ("steps.jsonl", "metrics.jsonl"):
        assert lines(straight, log) == lines(cut, log)
    assert [line["update"] for line in lines(cut, "steps.jsonl")] == list(range(1, 9))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_loss_is_the_sum_of_the_displayed_terms(name, data):
    task = create_task(small_recipe(name), data)
    loader = task.train_loader(split_batch(2, 1, None), 6, Share(0, 1), task.recipe.train)
    total, parts = task.loss(task.model.train(), next(loader.epoch(0)))
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-5)
    assert total.requires_grad
    assert not any(part.requires_grad for part in parts.values())


def test_a_foveal_checkpoint_is_restored_without_a_recipe(data, tmp_path):
    recipe = replace(small_recipe("upernet", epochs=1), frozen_stages=1)
    task = create_task(recipe, data)
    fit(task, recipe.train, tmp_path)
    known = SegmentationTask.restore(tmp_path / "best.pt", get_recipe("ade20k.upernet_transnext_tiny"))
    assert (known.name, known.classes) == ("upernet transnext_atto", task.train.classes)
    assert (known.inference, known.zero_ignored) == (recipe.inference, False)
    assert not known.model.training
    assert same_state(snapshot(known.model), torch.load(tmp_path / "best.pt")["model"])


def test_the_position_bias_of_a_restored_segmenter_can_be_changed(data, tmp_path):
    """Extrapolation as in training, interpolation on request: equal weights, other outputs at larger sizes."""
    recipe = small_recipe("upernet", epochs=1)
    fit(create_task(recipe, data), recipe.train, tmp_path)
    usual = SegmentationTask.restore(tmp_path / "best.pt").model
    other = SegmentationTask.restore(tmp_path / "best.pt", position_bias="interpolate").model
    larger = SegmentationTask.restore(tmp_path / "best.pt", position_bias="interpolate", reference_size=96).model
    assert same_state(snapshot(usual), snapshot(other))
    image = torch.rand(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    weights = lively(usual).state_dict()
    for model in (other, larger):
        model.load_state_dict(weights)
    with torch.no_grad():
        one, two, three = (model(image) for model in (usual, other, larger))
    assert not torch.equal(one, two)
    assert not torch.equal(two, three)


def test_position_bias_is_rejected_for_other_models(data, tmp_path):
    recipe = small_recipe("semantic_fpn", epochs=1)
    fit(create_task(recipe, data), recipe.train, tmp_path)
    with pytest.raises(FovealError, match=r"^transxnet_atto has no position bias, .*: leave --position-bias out\.$"):
        SegmentationTask.restore(tmp_path / "best.pt", position_bias="interpolate")


def test_a_released_checkpoint_is_restored_with_a_recipe_and_ade20k_classes(tmp_path):
    recipe = replace(small_recipe("semantic_fpn"), zero_ignored=True)
    trained = lively(recipe.create(150))
    torch.save({"state_dict": trained.state_dict(), "meta": {}}, tmp_path / "released.pth")
    known = SegmentationTask.restore(tmp_path / "released.pth", recipe)
    assert same_state(snapshot(known.model), trained.state_dict())
    assert (len(known.classes), known.classes[0], known.classes[149], known.zero_ignored) == (150, "wall", "flag", True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": {"weight": torch.zeros(1)}}, "does not say which segmenter it holds: pass the recipe"),
        (
            {"model": {"weight": torch.zeros(1)}, "card": {"task": "classification", "model": "transnext_atto"}},
            r"holds a classifier \(transnext_atto\), not a segmenter",
        ),
    ],
    ids=["bare", "classifier"],
)
def test_checkpoints_without_a_segmenter_raise_a_one_line_error(content, sentence, tmp_path):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(FovealError, match=sentence):
        SegmentationTask.restore(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (small_recipe("semantic_fpn", lr=2e-4), "started with lr = 0.0001, not 0.0002"),
        (small_recipe("semantic_fpn", epoch_steps=3), "started with epoch_steps = None, not 3"),
        (small_recipe("semantic_fpn", size=96), "started with augmentation = "),
        (
            small_recipe("upernet", "transxnet_atto"),
            "started with recipe = shapes.semantic_fpn_transxnet_atto, not ",
        ),
        (replace(small_recipe("semantic_fpn"), zero_ignored=True), "zero_ignored"),
    ],
    ids=["rate", "epoch", "size", "segmenter", "zero"],
)
def test_resuming_with_other_settings_is_rejected(other, sentence, data, tmp_path):
    recipe = small_recipe("semantic_fpn", epochs=1)
    fit(create_task(recipe, data), recipe.train, tmp_path)
    other = other.with_training(epochs=1)
    with pytest.raises(FovealError, match=sentence):
        fit(create_task(other, data), other.train, tmp_path, resume=tmp_path / "last.pt")


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_a_run_can_start_from_a_classifier(family, data, tmp_path):
    """Feature norms and the head, which classifiers do not have, keep their initial values."""
    classifier = lively(shrunk(f"{family}_atto", num_classes=7, img_size=224))
    torch.save(classifier.state_dict(), tmp_path / "classifier.pt")
    recipe = small_recipe("semantic_fpn", f"{family}_atto")
    new = create_task(recipe, data).model.state_dict()
    started = create_task(recipe, data, checkpoint=tmp_path / "classifier.pt").model
    for name, value in started.backbone.body.state_dict().items():
        if "feature_norm" not in name:
            assert torch.equal(value, classifier.state_dict()[name]), name
    drawn = {n: t for n, t in started.state_dict().items() if not n.startswith("backbone.") or "feature_norm" in n}
    assert all(torch.equal(value, new[name]) for name, value in drawn.items())


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("classes", [3, 5])
def test_a_run_can_start_from_a_segmenter(name, classes, data, tmp_path):
    """With another number of classes, the class layers keep their initial values."""
    recipe = small_recipe(name)
    trained = lively(recipe.create(classes))
    torch.save({"model": trained.state_dict()}, tmp_path / "segmenter.pt")
    new = create_task(recipe, data).model
    started = create_task(recipe, data, checkpoint=tmp_path / "segmenter.pt").model
    for parameter, value in started.state_dict().items():
        of_classes = parameter.startswith(new.class_layers)
        source = new if of_classes and classes != 3 else trained
        assert torch.equal(value, source.state_dict()[parameter]), parameter


def create_with_drop_path(recipe, data, **words):
    """The task of a recipe with a drop path requested explicitly, as on the command line."""
    task = create_task(recipe, data, **words)
    check_drop_path(recipe.drop_path, task.recipe)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(checkpoint="other.pt", pretrained=True), "both name the weights to start from: pass one of them"),
        (dict(checkpoint="nowhere.pt"), "nowhere.pt"),
        (dict(checkpoint="other.pt"), "does not fit this SemanticFPN"),
        (dict(pretrained=True), "transxnet_atto"),
        (dict(data="nowhere"), "nowhere.* pass --data"),
        (dict(model="vit_tiny_patch16_224"), "choose a model with four stages"),
        (dict(model="dla46x_c"), "dla46x_c has no stochastic depth: leave --drop-path out"),
    ],
    ids=lambda value: None if isinstance(value, dict) else "",
)
def test_invalid_tasks_raise_a_one_line_error(settings, sentence, data, tmp_path):
    torch.save({"model": small_recipe("upernet").create(3).state_dict()}, tmp_path / "other.pt")
    recipe = small_recipe("semantic_fpn")
    if "model" in settings:
        recipe = replace(recipe.with_model(settings["model"]), drop_path=0.1)
    checkpoint = tmp_path / settings["checkpoint"] if "checkpoint" in settings else None
    folder = tmp_path / settings["data"] if "data" in settings else data
    with pytest.raises(FovealError, match=sentence) as caught:
        create_with_drop_path(recipe, folder, checkpoint=checkpoint, pretrained=settings.get("pretrained", False))
    assert "\n" not in str(caught.value)


def test_data_is_required_if_the_recipe_has_none():
    recipe = replace(get_recipe("ade20k.upernet_transnext_tiny"), starts_from_weights=False)
    with pytest.raises(FovealError, match="pass --data DIR in ADE20K's layout, with DIR/images/training"):
        create_task(recipe)


def test_initialisation_is_determined_by_the_seed(data):
    one, other = (create_task(small_recipe("upernet"), data).model for _ in "ab")
    another = create_task(small_recipe("upernet", seed=1), data).model
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert not all(torch.equal(value, another.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_class_that_is_predicted_without_having_a_pixel_is_counted_apart(tmp_path):
    """All pixels are sky and all predictions tree: both have an IoU of 0, car has none, and sky alone has pixels."""
    write_split(tmp_path, "train", [np.arange(64 * 64).reshape(64, 64) % 3])
    task = create_task(small_recipe("semantic_fpn"), write_split(tmp_path, "val", [np.zeros((64, 64))]))
    with torch.no_grad():
        task.model.decode_head.classifier.weight.zero_()
        task.model.decode_head.classifier.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    found = task.evaluate(task.model.eval(), start_processes(), lambda done, total: None)
    assert found == {"miou": 0, "macc": 0, "aacc": 0, "scored_classes": 2, "classes": 3, "classes_with_examples": 1}
