"""Training on a folder, evaluation and prediction with one small run."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image

from foveal.errors import FovealError
from foveal.tasks.classification.evaluate import batch_sums, evaluate
from foveal.tasks.classification.network import load_weights, released_start, restore
from foveal.tasks.classification.predict import predict
from foveal.tasks.classification.preprocessing import Augmentation, Preprocessing
from foveal.tasks.classification.recipe import Recipe
from foveal.tasks.classification.recipes import get_recipe
from foveal.tasks.recipe import check_drop_path
from foveal.tasks.recipes import create_task, plan_recipe
from foveal.training import TrainConfig, fit
from foveal.training.batching import Batching

RECIPE = Recipe(
    name="test.pets",
    summary="colours",
    model="test_convnext",
    fit=Preprocessing((32, 32), crop=1.0, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2)),
    augment=Augmentation(
        crop_scale=(0.5, 1.0), rand_augment=None, color_jitter=0.0, erasing=0.0, mixup=0.0, cutmix=0.0
    ),
    train=TrainConfig(epochs=6, batch_size=8, lr=5e-3, warmup_epochs=1, workers=0, ema_decay=0.8),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An image folder and the outcome of a short run on it."""
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("pets")
    draw = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for label, name in enumerate(("cat", "dog", "eel")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 120, (20, 30, 3))
                pixels[..., label] += 100
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number}.png")
    return folder, fit(create_task(RECIPE, folder), RECIPE.train, folder / "run")


def test_training_learns_to_classify_colours(run):
    assert run[1].best == 100.0


def test_the_memory_of_a_device_batch_is_that_of_the_plan(run):
    recipe = RECIPE.with_training(device_batch_size=4)
    plan = plan_recipe(recipe, run[0])
    assert create_task(recipe, run[0]).device_memory(4, 1) == plan.run.memory.total > 0


def test_a_checkpoint_contains_its_metadata(run):
    classifier = restore(run[1].best_path)
    assert (classifier.name, classifier.classes) == ("test_convnext", ["cat", "dog", "eel"])
    assert classifier.fit == RECIPE.fit


def test_the_ema_weights_of_a_last_checkpoint_are_restored(run):
    last = run[0] / "run" / "last.pt"
    content, restored = torch.load(last), restore(last).model.state_dict()
    assert all(torch.equal(tensor, content["ema"][name]) for name, tensor in restored.items())
    assert not all(torch.equal(tensor, content["model"][name]) for name, tensor in restored.items())


def test_evaluation_agrees_with_the_run_and_is_consistent(run):
    folder, outcome = run
    found = evaluate(restore(outcome.best_path), folder, batch_size=5, workers=0)
    record = outcome.history[outcome.best_epoch - 1]
    assert found.top1 == record["val_top1"]
    assert found.accuracies() == {"top1": record["val_top1"], "top2": record["val_top2"]}
    assert (found.per_class, found.counted_classes) == ((4, 4, 4), 3)
    assert "val_top5" not in record
    assert found.loss == pytest.approx(record["val_loss"], abs=1e-5)
    assert found.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [path.split("/")[-2] for path in found.paths] == [found.classes[target] for target in found.targets]
    assert found.probabilities.sum(1).tolist() == pytest.approx([1.0] * 12, abs=1e-5)
    confusion = torch.zeros(3, 3, dtype=torch.int64)
    for true, predicted in zip(found.targets, found.predictions, strict=True):
        confusion[true, predicted] += 1
    assert torch.equal(found.confusion, confusion)
    assert found.top1 == pytest.approx(100 * confusion.trace().item() / 12)


@pytest.mark.parametrize(("classes", "k"), [(9, 5), (6, 5), (5, 4), (3, 2), (2, 1)])
def test_top1_top_k_and_loss_are_correct(classes, k):
    logits, targets = torch.randn(50, classes, generator=torch.Generator().manual_seed(0)), torch.arange(50) % classes
    order = logits.numpy().argsort(axis=1)[:, ::-1]
    top_k = sum(target in row[:k] for row, target in zip(order, targets.tolist(), strict=True))
    top1 = sum(row[0] == target for row, target in zip(order, targets.tolist(), strict=True))
    loss = -logits.double().log_softmax(1)[torch.arange(50), targets].sum().item()
    sums = batch_sums(logits, targets)
    assert (sums["top1"], sums["top_k"]) == (100.0 * top1, 100.0 * top_k)
    assert top_k < 50  # whatever is reported can be below 100 %
    assert sums["loss"] == pytest.approx(loss, rel=1e-5)


def test_predictions_agree_with_the_evaluation(run):
    folder, outcome = run
    classifier = restore(outcome.best_path)
    found = evaluate(classifier, folder, workers=0)
    seen = []
    predictions = predict(classifier, found.paths, top_k=2, batch_size=5, on_batch=lambda *step: seen.append(step))
    assert [prediction.path for prediction in predictions] == found.paths
    for prediction, probabilities in zip(predictions, found.probabilities, strict=True):
        best, second = prediction.guesses
        assert best.probability >= second.probability
        assert best.probability == pytest.approx(probabilities.max().item(), abs=1e-5)
        assert best.name == classifier.classes[best.index]
        assert best.index == probabilities.argmax()
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_missing_image_raises_a_one_line_error(run):
    with pytest.raises(FovealError, match=r"no image at .*nowhere.png"):
        predict(restore(run[1].best_path), ["/nowhere.png"])


def test_evaluating_other_classes_is_rejected(run, pets, images):
    images(pets / "val", {"fox": 1})
    with pytest.raises(FovealError, match=r"has a class 'fox' that the checkpoint does not have"):
        evaluate(restore(run[1].best_path), pets, workers=0)


def test_a_new_classifier_replaces_one_for_other_classes(run, tmp_path, images):
    for split in ("train", "val"):
        images(tmp_path / split, {"ant": 8, "bee": 8})
    task = create_task(RECIPE, tmp_path, checkpoint=run[1].best_path)
    trained, weights = restore(run[1].best_path).model.state_dict(), task.model.state_dict()
    assert weights["head.fc.weight"].shape[0] == 2
    for name, weight in weights.items():
        assert name.startswith("head.fc.") or torch.equal(weight, trained[name]), name


def test_weights_of_another_model_are_rejected_and_change_nothing(run):
    model = timm.create_model("test_resnet", num_classes=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(FovealError, match=r"holds a test_convnext, not a test_resnet: pass --model test_convnext"):
        load_weights(model, run[1].best_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_transnext_can_start_from_released_weights(tmp_path, pets):
    """A bare state dict with 1,000 classes, the released format."""
    released = timm.create_model("transnext_atto")
    torch.save({"model": released.state_dict()}, tmp_path / "released.pth")
    recipe = replace(get_recipe("digits.transnext_atto"), data=None)
    weights = create_task(recipe, pets, checkpoint=tmp_path / "released.pth").model.state_dict()
    for name, weight in released.state_dict().items():
        assert name.startswith("head.fc.") or torch.equal(weights[name], weight), name
    classifier = restore(tmp_path / "released.pth", "transnext_atto")
    assert classifier.classes[:2] == ["tench", "goldfish"] or classifier.classes[0].startswith("tench")
    assert len(classifier.classes) == 1000
    assert classifier.fit.size == (224, 224)


def test_a_checkpoint_without_a_model_name_asks_for_it(tmp_path):
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(FovealError, match=r"pass --model NAME"):
        restore(tmp_path / "weights.pth")


def loss_of(recipe, pets, logits, targets):
    task = create_task(recipe, pets)
    return task.loss(lambda images: logits, (torch.zeros(len(targets), 3, 32, 32), targets))


def test_label_smoothing_is_applied_to_the_loss(pets):
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loss, stats = loss_of(replace(RECIPE, augment=replace(RECIPE.augment, label_smoothing=0.3)), pets, logits, targets)
    soft = F.one_hot(targets, 3) * 0.7 + 0.1
    torch.testing.assert_close(loss, -(soft * logits.log_softmax(1)).sum(1).mean())
    assert stats["top1"].item() == pytest.approx(100 * (logits.argmax(1) == targets).float().mean().item())


def test_mixup_mixes_images_and_targets_equally(pets):
    """Batch-wise mixup pairs each image with the one at the same position from the end."""
    augment = replace(RECIPE.augment, mixup=1.0, label_smoothing=0.0)
    task, seen = create_task(replace(RECIPE, augment=augment), pets), []
    np.random.seed(1)
    images = torch.stack([torch.full((3, 32, 32), float(number)) for number in range(4)])
    targets = torch.tensor([0, 1, 2, 0])
    logits = torch.randn(4, 3)
    loss, _ = task.loss(lambda mixed: seen.append(mixed) or logits, (images.clone(), targets))
    share = 1 - (seen[0][0, 0, 0, 0] / 3).item()  # all pixels of image 0 are 0, those of its partner 3
    assert 0 < share < 1
    soft = share * F.one_hot(targets, 3) + (1 - share) * F.one_hot(targets.flip(0), 3)
    torch.testing.assert_close(loss, -(soft * logits.log_softmax(1)).sum(1).mean(), rtol=1e-4, atol=1e-5)


def test_mixup_rejects_an_odd_device_batch_size(pets):
    task = create_task(replace(RECIPE, augment=replace(RECIPE.augment, mixup=0.8)), pets)
    with pytest.raises(FovealError, match=r"even --device-batch-size"):
        task.train_loader(Batching(24, 1, 3, 8), 24, None, RECIPE.train)


def test_fine_tuning_without_weights_is_rejected(pets):
    with pytest.raises(FovealError, match=r"pass --checkpoint FILE or --pretrained"):
        create_task(get_recipe("imagenet.transnext_small_384"), pets)


def test_images_are_checked_before_the_model_is_created(tmp_path, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: pytest.fail("made too early"))
    with pytest.raises(FovealError, match=r"no folder"):
        create_task(RECIPE, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "transnext_tinny"}, "There is no model 'transnext_tinny', did you mean transnext_tiny"),
        ({"model": "vgg11", "model_args": {"depth": 3}}, "vgg11 cannot be created: .*depth"),
        ({"model": "transnext_atto", "fit": Preprocessing((16, 16))}, "at least 32"),
        ({"model": "transnext_atto", "model_args": {"window_size": 4}}, "odd"),
    ],
)
def test_a_model_that_cannot_be_created_raises_a_one_line_error(pets, change, sentence):
    with pytest.raises(FovealError, match=sentence) as caught:
        create_task(replace(RECIPE, **change), pets)
    assert "\n" not in str(caught.value)


def test_another_model_does_not_inherit_the_model_args_of_the_recipe():
    recipe = replace(RECIPE, model_args={"window_size": 5})
    assert recipe.with_model("test_resnet").model_args == {}
    assert recipe.with_model("test_convnext").model_args == {"window_size": 5}


def test_drop_path_is_ignored_by_models_without_it_unless_requested(pets):
    recipe = replace(RECIPE, model="test_vit2", model_args={}, drop_path=0.1)
    check_drop_path(0.1, create_task(recipe, pets).recipe)
    recipe = replace(recipe, model="dla46_c")
    check_drop_path(None, create_task(recipe, pets).recipe)
    assert create_task(recipe, pets).metadata()["drop_path"] == 0.0
    with pytest.raises(FovealError, match=r"no stochastic depth: leave --drop-path out"):
        check_drop_path(0.1, create_task(recipe, pets).recipe)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_an_invalid_drop_path_is_rejected(rate):
    with pytest.raises(FovealError, match=r"drop_path must be at least 0 and below 1"):
        replace(RECIPE, drop_path=rate)


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": w}, lambda w: {"model": w, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_any_timm_model_can_start_from_a_plain_state_dict(tmp_path, pets, wrap, prefix):
    released = timm.create_model("test_resnet").state_dict()
    torch.save(wrap({prefix + name: value for name, value in released.items()}), tmp_path / "w.pth")
    task = create_task(replace(RECIPE, model="test_resnet"), pets, checkpoint=tmp_path / "w.pth")
    for name, weight in task.model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(weight, released[name]), name
    restored = restore(tmp_path / "w.pth", "test_resnet").model.state_dict()
    assert all(torch.equal(restored[name], weight) for name, weight in released.items())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"epoch": 3}, "holds no weights"),
        ({"conv1.weight": torch.zeros(2, 2)}, "does not fit this ResNet .*missing.*pass the --model"),
    ],
)
def test_a_mismatched_state_dict_raises_a_one_line_error_and_changes_nothing(tmp_path, content, sentence):
    torch.save(content, tmp_path / "w.pth")
    model = timm.create_model("test_resnet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(FovealError, match=sentence):
        load_weights(model, tmp_path / "w.pth")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["model.", "net.module.", "encoder."])
def test_any_network_of_timm_is_found_inside_of_another_module(prefix, tmp_path):
    trained, model = (timm.create_model("test_resnet", num_classes=3) for _ in range(2))
    state = {f"{prefix}{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save({"state_dict": {**state, "criterion.weight": torch.ones(3)}}, tmp_path / "w.ckpt")
    report = load_weights(model, tmp_path / "w.ckpt")
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())
    assert (set(report.loaded), report.left_out) == (set(trained.state_dict()), 1)


@pytest.mark.parametrize(("classes", "new"), [(3, ()), (5, ("fc.weight", "fc.bias"))])
def test_a_classifier_for_as_many_classes_is_loaded_and_another_begins_anew(classes, new, tmp_path):
    trained, model = (
        timm.create_model("test_resnet", num_classes=3),
        timm.create_model("test_resnet", num_classes=classes),
    )
    before = {name: model.state_dict()[name].clone() for name in new}
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    report = load_weights(model, tmp_path / "w.pth", new_classifier=True)
    assert (report.new, report.left_out) == (new, len(new))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in new else trained.state_dict()[name]), name


def test_the_classifier_of_released_weights_begins_anew_for_other_classes():
    """timm keeps it if the number of classes is that of the release."""
    assert released_start(timm.create_model("test_resnet", num_classes=3)).new == ("fc.weight", "fc.bias")
    assert released_start(timm.create_model("test_resnet")).new == ()
