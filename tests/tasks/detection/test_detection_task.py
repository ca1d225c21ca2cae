"""Detection in the training loop: exact resumption, initial weights, and rejected settings."""

from dataclasses import replace

import pytest
import torch

from foveal.errors import FovealError
from foveal.models.loading import load_checkpoint
from foveal.tasks.detection.recipes import DetectionRecipe
from foveal.tasks.recipe import check_drop_path
from foveal.tasks.recipes import create_task, get_recipe
from foveal.training import fit
from foveal.training.batching import Share, split_batch
from foveal.training.checkpoint import read_checkpoint
from support.coco_folders import annotation, change, write_objects, write_split
from support.detectors import small_detector, small_recipe
from support.nets import lively, shrunk
from support.runs import leaving_in_update, lines
from support.segmentation_recipes import small_recipe as segmentation_recipe

DETECTORS = ("mask_rcnn", "retinanet", "dino")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_objects(tmp_path_factory.mktemp("coco"))


def snapshot_of(folder):
    """Every file's content."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_run_resumed_within_an_epoch_is_bitwise_identical(name, data, tmp_path):
    """With random sizes, colours and flips, sampled candidates (Mask R-CNN) and noised queries (DINO)."""
    recipe, straight, cut = small_recipe(name), tmp_path / "straight", tmp_path / "cut"
    fit(create_task(recipe, data), recipe.train, straight)
    assert fit(leaving_in_update(create_task(recipe, data), 2), recipe.train, cut).interrupted
    assert read_checkpoint(cut / "last.pt")["step"] == 2
    fit(create_task(recipe, data), recipe.train, cut, resume=cut / "last.pt")
    one, other = (read_checkpoint(out / "last.pt")["model"] for out in (straight, cut))
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []
    for log in ("steps.jsonl", "metrics.jsonl"):
        assert lines(straight, log) == lines(cut, log)
    assert [line["update"] for line in lines(cut, "steps.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", DETECTORS)
def test_the_loss_is_the_sum_of_the_displayed_terms(name, data):
    task = create_task(small_recipe(name), data)
    loader = task.train_loader(split_batch(2, 1, None), 6, Share(0, 1), task.recipe.train)
    total, parts = task.loss(task.model.train(), next(loader.epoch(0)))
    assert len(parts) > 1
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-5)
    assert total.requires_grad
    assert not any(part.requires_grad for part in parts.values())


def test_the_main_metrics_come_first(data, tmp_path):
    """The terminal only shows the first few."""
    recipe = small_recipe("mask_rcnn", epochs=1)
    fit(create_task(recipe, data), recipe.train, tmp_path / "run")
    (line,) = lines(tmp_path / "run", "metrics.jsonl")
    metrics = [name for name in line if name.startswith("val_")]
    assert metrics[:3] == ["val_box_ap", "val_mask_ap", "val_box_ap50"]


def test_checkpoint_metadata_describe_the_detector(data, tmp_path):
    recipe = replace(small_recipe("retinanet"), frozen_stages=1)
    metadata = create_task(recipe, data).metadata()
    assert (metadata["task"], metadata["detector"], metadata["model"]) == ("detection", "retinanet", "transxnet_atto")
    assert (metadata["classes"], metadata["category_ids"]) == (["cat", "dog"], [3, 7])
    assert (metadata["options"], metadata["model_args"], metadata["frozen_stages"]) == (
        recipe.options,
        recipe.model_args,
        1,
    )


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of one epoch; no test writes to it."""
    recipe, out = small_recipe("retinanet", epochs=1), tmp_path_factory.mktemp("finished")
    fit(create_task(recipe, data), recipe.train, out)
    return out


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (small_recipe("retinanet", lr=2e-4), "started with lr = 0.0001, not 0.0002"),
        (small_recipe("retinanet", device_batch_size=1), "batch norm"),
        (replace(small_recipe("retinanet"), frozen_stages=1), "started with frozen_stages = 0, not 1"),
        (small_recipe("retinanet", size=96), "started with augmentation = "),
        (
            small_recipe("mask_rcnn"),
            "started with recipe = shapes.retinanet_transxnet_atto, not ",
        ),
    ],
    ids=["rate", "device batch", "frozen", "size", "detector"],
)
def test_resuming_with_other_settings_is_rejected(other, sentence, data, finished):
    before, other = snapshot_of(finished), other.with_training(epochs=1)
    with pytest.raises(FovealError, match=sentence):
        fit(create_task(other, data), other.train, finished, resume=finished / "last.pt")
    assert snapshot_of(finished) == before


def test_resuming_with_another_device_batch_size_is_rejected_without_batch_norm(data, tmp_path):
    """Losses are normalised over the images of a device batch."""
    recipe = small_recipe("dino", epochs=1)
    fit(create_task(recipe, data), recipe.train, tmp_path)
    other = recipe.with_training(device_batch_size=1)
    with pytest.raises(FovealError, match="its loss depends on that: resume it with --device-batch-size 2"):
        fit(create_task(other, data), other.train, tmp_path, resume=tmp_path / "last.pt")


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_a_run_can_start_from_a_classifier(family, data, tmp_path):
    """Feature norms and the head, which classifiers do not have, keep their initial values."""
    classifier = lively(shrunk(f"{family}_atto", num_classes=7, img_size=224))
    torch.save(classifier.state_dict(), tmp_path / "classifier.pt")
    recipe = small_recipe("retinanet", f"{family}_atto")
    new = create_task(recipe, data).model.state_dict()
    task = create_task(recipe, data, checkpoint=tmp_path / "classifier.pt")
    started = task.model
    for name, value in started.backbone.body.state_dict().items():
        if "feature_norm" not in name:
            assert torch.equal(value, classifier.state_dict()[name]), name
    initial = {n: t for n, t in started.state_dict().items() if not n.startswith("backbone.") or "feature_norm" in n}
    assert any("feature_norm" in name for name in initial) == (family == "transxnet")
    assert all(torch.equal(value, new[name]) for name, value in initial.items())
    report = task.start.report
    assert set(report.new) == initial.keys()
    assert set(report.loaded) == started.state_dict().keys() - initial.keys()
    assert report.left_out == len(classifier.state_dict()) - len(report.loaded)
    assert create_task(recipe, data, checkpoint=tmp_path / "classifier.pt", resumes=True).start is None


@pytest.mark.parametrize("prefix", ["model.", "model.module.", "net._orig_mod."])
def test_a_detector_inside_of_another_module_is_loaded_whole(prefix, data, tmp_path):
    recipe = small_recipe("retinanet")
    trained = lively(create_task(recipe, data).model)
    state = {f"{prefix}{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save({"state_dict": {**state, "criterion.weight": torch.ones(2)}}, tmp_path / "lightning.ckpt")
    task = create_task(recipe, data, checkpoint=tmp_path / "lightning.ckpt")
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in task.model.state_dict().items())
    assert (task.start.report.new, task.start.report.left_out) == ((), 1)


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
def test_the_backbone_of_a_detector_can_be_loaded_without_its_feature_norms(family, tmp_path):
    detector = lively(small_recipe("retinanet", f"{family}_atto").create(3))
    torch.save({"model": detector.state_dict()}, tmp_path / "best.pt")
    net = shrunk(f"{family}_atto", img_size=224, features_only=True)
    report = load_checkpoint(net, tmp_path / "best.pt")
    assert report.left_out == len(detector.state_dict()) - len(report.loaded)
    body, trained = net.model.state_dict(), detector.backbone.body.state_dict()
    assert [name for name in body if not torch.equal(body[name], trained[name])] == []


def test_a_run_can_start_from_the_backbone_of_a_segmenter(data, tmp_path):
    segmenter = lively(segmentation_recipe("semantic_fpn", "transxnet_atto").create(3))
    card = {"task": "segmentation", "segmenter": "semantic_fpn", "model": "transxnet_atto"}
    torch.save({"model": segmenter.state_dict(), "card": card}, tmp_path / "best.pt")
    started = create_task(small_recipe("retinanet", "transxnet_atto"), data, checkpoint=tmp_path / "best.pt").model
    trained = segmenter.backbone.body.state_dict()
    for name, value in started.backbone.body.state_dict().items():
        if "feature_norm" not in name:
            assert torch.equal(value, trained[name]), name


def test_a_run_can_start_from_the_released_weights_of_its_backbone(data, tmp_path):
    torch.save(lively(shrunk("transnext_atto")).state_dict(), tmp_path / "released.pt")
    recipe = small_recipe("mask_rcnn")
    home = dict(pretrained_cfg_overlay=dict(file=str(tmp_path / "released.pt")))
    task = create_task(replace(recipe, model_args={**recipe.model_args, **home}), data, pretrained=True)
    released = torch.load(tmp_path / "released.pt")
    body = task.model.backbone.body.state_dict()
    assert body
    assert all(torch.equal(value, released[name]) for name, value in body.items())


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("classes", [2, 5])
def test_a_run_can_start_from_a_detector(name, classes, data, tmp_path):
    """With another number of classes, the class layers keep their initial values."""
    recipe = small_recipe(name)
    trained = lively(recipe.create(classes))
    torch.save({"model": trained.state_dict()}, tmp_path / "detector.pt")
    new = create_task(recipe, data).model
    started = create_task(recipe, data, checkpoint=tmp_path / "detector.pt").model
    for parameter, value in started.state_dict().items():
        of_classes = parameter.startswith(new.class_layers)
        source = new if of_classes and classes != 2 else trained
        assert torch.equal(value, source.state_dict()[parameter]), parameter


def create_with_drop_path(recipe, data, **words):
    """The task of a recipe with a drop path requested explicitly, as on the command line."""
    task = create_task(recipe, data, **words)
    check_drop_path(recipe.drop_path, task.recipe)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(recipe="coco.mask_rcnn_transnext_tiny"), "starts from a trained backbone: pass --checkpoint FILE"),
        (dict(checkpoint="other.pt", pretrained=True), "both name the weights to start from: pass one of them"),
        (dict(checkpoint="nowhere.pt"), "nowhere.pt"),
        (dict(checkpoint="other.pt"), "does not fit this RetinaNet"),
        (dict(checkpoint="empty.pt"), "holds no weights"),
        (dict(pretrained=True), "transxnet_atto"),
        (dict(data="nowhere"), "There is no folder .*nowhere: pass --data"),
        (dict(data="classes"), "has no annotations for train: put them into"),
        (dict(model="transnext_tinny"), "transnext_tinny"),
        (dict(model="vit_tiny_patch16_224"), "choose a model with four stages"),
        (dict(model="dla46x_c"), "dla46x_c has no stochastic depth: leave --drop-path out"),
    ],
    ids=lambda value: None if isinstance(value, dict) else "",
)
def test_invalid_tasks_raise_a_one_line_error(settings, sentence, data, tmp_path):
    (tmp_path / "classes" / "train" / "cat").mkdir(parents=True)
    torch.save({"model": small_detector("mask_rcnn").state_dict()}, tmp_path / "other.pt")
    torch.save({"step": 3}, tmp_path / "empty.pt")
    recipe = get_recipe(settings["recipe"]) if "recipe" in settings else small_recipe("retinanet")
    if "model" in settings:
        recipe = replace(recipe.with_model(settings["model"]), drop_path=0.1)
    checkpoint = tmp_path / settings["checkpoint"] if "checkpoint" in settings else None
    folder = tmp_path / settings["data"] if "data" in settings else data
    with pytest.raises(FovealError, match=sentence) as caught:
        create_with_drop_path(recipe, folder, checkpoint=checkpoint, pretrained=settings.get("pretrained", False))
    assert "\n" not in str(caught.value)


def test_data_is_required_if_the_recipe_has_none():
    recipe = replace(get_recipe("coco.mask_rcnn_transnext_tiny"), starts_from_weights=False)
    with pytest.raises(FovealError, match="pass --data DIR in COCO's layout, with DIR/annotations"):
        create_task(recipe)


def test_a_resumed_run_needs_no_initial_weights(data):
    recipe = replace(small_recipe("retinanet"), starts_from_weights=True)
    assert isinstance(create_task(recipe, data, resumes=True).recipe, DetectionRecipe)


def test_drop_path_is_recorded_as_0_for_backbones_without_it(data):
    recipe = replace(small_recipe("retinanet").with_model("dla46x_c"), drop_path=0.1)
    assert create_task(recipe, data).metadata()["drop_path"] == 0


def test_broken_annotations_raise_an_error_or_are_reported(tmp_path):
    folder = write_objects(tmp_path)
    change(folder, "train", lambda content: content["annotations"][0].update(bbox=[4, 5, 0, 28], segmentation=[]))
    with pytest.raises(FovealError, match=r"Annotation 1 of image 1 \(1\.png\).* of zero area: repair it, or pass"):
        create_task(small_recipe("retinanet"), folder)
    file = folder / "annotations" / "instances_train.json"
    task = create_task(small_recipe("retinanet", broken="skip"), folder)
    which = "box of zero area (annotation 1 of image 1 (1.png))"
    assert f"{file} has a broken entry, left out here: {which}." in task.notices
    change(folder, "train", lambda content: content["annotations"][2].update(category_id=99))
    task = create_task(small_recipe("retinanet", broken="skip"), folder)
    others = "unknown category (annotation 3 of image 3 (3.png))"
    assert f"{file} has 2 broken entries, left out here: {which}; {others}." in task.notices


def test_keep_empty_includes_images_without_objects(tmp_path):
    folder = write_split(tmp_path, "train", [annotation(box=(2, 3, 20, 12))], [(40, 40), (40, 40)])
    write_split(folder, "val", [annotation(box=(2, 3, 20, 12))], [(40, 40)])
    recipe = small_recipe("retinanet")
    assert create_task(recipe, folder).train_size == 2
    assert create_task(replace(recipe, keep_empty=False), folder).train_size == 1


def test_initialisation_is_determined_by_the_seed(data):
    one, other = (create_task(small_recipe("dino"), data).model for _ in "ab")
    another = create_task(small_recipe("dino", seed=1), data).model
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert not all(torch.equal(value, another.state_dict()[name]) for name, value in one.state_dict().items())


def test_compiling_a_detector_is_rejected():
    recipe = small_recipe("retinanet")
    with pytest.raises(FovealError, match="leave --compile out"):
        create_task(recipe.with_training(compile=True), "nowhere")
