"""Settings counted in updates suit the length of a run: on the published set they stay, on a small one they adapt."""

import json
from dataclasses import replace

import pytest
import torch

from foveal.errors import FovealError
from foveal.tasks.recipes import list_recipes
from foveal.tasks.registry import task_class
from foveal.training import fit
from foveal.training.batching import Share, updates_per_epoch
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import TrainConfig
from foveal.training.length import continued, fit_to_length
from foveal.training.loading import train_loader
from foveal.training.optimiser import learning_rates
from support.runs import leaving_in_update, lines

#: As the detectors' recipes: twelve epochs, a rate that falls twice, 500 updates of warm-up.
ONE_X = TrainConfig(
    epochs=12, batch_size=16, lr=1e-4, schedule="multistep", milestones=(8, 11), warmup_steps=500, warmup_lr=1e-7
)
RECIPES = {recipe.name: recipe for recipe in list_recipes()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_unchanged_on_the_set_that_it_is_named_after(name):
    recipe = RECIPES[name]
    known = task_class(recipe.kind).known_set(recipe)
    fitted, notices = fit_to_length(recipe.train, known.count)
    assert fitted == recipe.train
    assert all("fill no batch" in notice for notice in notices)


def test_updates_per_epoch_are_those_of_the_published_logs():
    """timm's training drops the last batch of ImageNet, MMDetection's fills that of COCO."""
    assert updates_per_epoch(1_281_167, RECIPES["imagenet.transnext_tiny"].train) == 1251
    assert updates_per_epoch(117_266, RECIPES["coco.mask_rcnn_transnext_tiny"].train) == 7330


def test_a_published_schedule_leaves_its_warmup_on_a_small_set_and_takes_every_step():
    """480 images are 30 updates an epoch: 240 before the first milestone, and half of these for the warm-up."""
    config, notices = fit_to_length(ONE_X, 480)
    looks = [0, 60, 120, 239, 240, 329, 330, 359]
    half = 1e-7 + (1e-4 - 1e-7) / 2
    expected = [1e-7, half, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6]
    assert learning_rates(config, 30, looks) == pytest.approx(expected)
    assert notices == [
        "The warm-up takes 120 updates instead of 500: half of the 240 before the rate is first lowered."
    ]


@pytest.mark.parametrize("images", [16, 40, 480, 5000, 100_000])
@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("imagenet.")])
def test_every_recipe_reaches_its_rate_on_any_set(name, images):
    train = replace(RECIPES[name].train, batch_size=min(RECIPES[name].train.batch_size, 16), device_batch_size=None)
    config, _ = fit_to_length(train, images)
    steps = updates_per_epoch(images, config)
    rates = learning_rates(config, steps, range(0, steps * config.total_epochs, max(1, steps // 20)))
    assert max(rates) > 0.4 * config.lr
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "constant"])
def test_a_warmup_takes_at_most_half_of_a_run_without_steps(schedule):
    config = TrainConfig(epochs=3, epoch_steps=30, batch_size=4, schedule=schedule, warmup_steps=1500)
    fitted, (notice,) = fit_to_length(config, 100)
    assert fitted == replace(config, warmup_steps=45)
    assert notice == "The warm-up takes 45 updates instead of 1,500: half of all 90."
    assert fit_to_length(replace(config, warmup_steps=45), 100) == (fitted, [])


def test_milestones_that_a_run_does_not_reach_are_left_out():
    fitted, (notice, _) = fit_to_length(replace(ONE_X, epochs=8), 480)
    assert fitted.milestones == ()
    assert notice == "The rate is not multiplied by 0.1 after epoch 8, 11: the run ends after epoch 8."


def test_a_warmup_in_epochs_that_lasts_until_the_rate_is_lowered_is_refused():
    with pytest.raises(
        FovealError, match=r"warm-up of 8 epochs leaves none at the full rate.*fewer --warmup-epochs\.$"
    ):
        fit_to_length(replace(ONE_X, warmup_steps=None, warmup_epochs=8), 480)
    fit_to_length(replace(ONE_X, warmup_steps=None, warmup_epochs=7), 480)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "constant", "multistep"])
def test_a_warmup_as_long_as_the_run_is_refused(schedule):
    """Its last update would have the highest rate so far, and still not the full one."""
    config = TrainConfig(epochs=2, batch_size=4, warmup_epochs=2, schedule=schedule)
    with pytest.raises(
        FovealError,
        match=r"warm-up of 2 epochs lasts until the end of the 2 epochs.*never reaches its full value",
    ):
        fit_to_length(config, 40)
    fit_to_length(replace(config, warmup_epochs=1), 40)
    assert continued(config, 40, {"drop_last": False})[0] == config  # begun with an older version


def test_a_cooldown_at_the_full_rate_may_follow_a_warmup_as_long_as_the_epochs():
    config = TrainConfig(epochs=2, cooldown_epochs=1, batch_size=4, warmup_epochs=2, schedule="constant", lr=0.1)
    assert fit_to_length(config, 40) == (config, [])
    assert learning_rates(config, 10, [20, 29]) == pytest.approx([0.1, 0.1])
    with pytest.raises(FovealError, match="until the end of the 2 epochs"):
        fit_to_length(replace(config, schedule="cosine"), 40)


@pytest.mark.parametrize(
    ("updates", "sentence"),
    [
        (1, "The warm-up of 500 updates is left out: it would take more than half of all 1."),
        (3, "The warm-up takes 1 update instead of 500: half of all 3."),
        (4, "The warm-up takes 2 updates instead of 500: half of all 4."),
    ],
)
def test_the_shortest_runs_have_a_sentence_of_their_own(updates, sentence):
    config = TrainConfig(epochs=1, epoch_steps=updates, batch_size=4, warmup_steps=500)
    assert fit_to_length(config, 100)[1] == [sentence]


@pytest.mark.parametrize("updates", [1, 12, 100, 360, 49_000])
def test_little_of_the_initial_weights_is_left_in_the_average(updates):
    """What is left of them after n updates is decay ** n."""
    config = TrainConfig(epochs=1, epoch_steps=updates, batch_size=4, warmup_epochs=0, ema_decay=0.9999)
    fitted, (notice,) = fit_to_length(config, 100)
    assert fitted.ema_decay**updates < max(0.0068, 0.5**updates + 1e-9)
    assert notice.startswith(f"The average of weights decays by {fitted.ema_decay:g} per update instead of 0.9999")
    long = replace(config, epoch_steps=50_001)
    assert fit_to_length(long, 100) == (long, [])


def indices(images, batch, epochs):
    """What each epoch draws, batch by batch."""
    config = TrainConfig(batch_size=batch)
    loader = train_loader(range(images), batch, updates_per_epoch(images, config) * batch, Share(), seed=0, workers=0)
    return [[samples.tolist() for samples in loader.epoch(number)] for number in range(epochs)]


def test_the_last_batch_of_an_epoch_is_filled_from_the_next_pass():
    """240 images in batches of 64: four updates an epoch, and fifteen epochs are sixteen passes."""
    epochs = indices(240, 64, 15)
    assert all([len(samples) for samples in batches] == [64] * 4 for batches in epochs)
    drawn = [index for batches in epochs for samples in batches for index in samples]
    passes = [drawn[start : start + 240] for start in range(0, len(drawn), 240)]
    assert len(passes) == 16
    assert all(sorted(order) == list(range(240)) for order in passes)


def test_images_that_are_left_out_are_counted(points, config, change, out):
    """Seven batches of 8 leave out 3 of 59."""
    fit(of_size(points, 59), change(config, epochs=1, drop_last=True, ema_decay=None), out)
    written = json.loads((out / "run.json").read_text())
    assert written["images"] == {"train": 59, "left_out": 3, "filled": 0}
    assert written["updates"] == {"per_epoch": 7, "all": 7}
    assert written["notices"] == [
        "Each epoch leaves out 3 of the 59 images, others every time, because they fill no batch of 8 (drop_last)."
    ]


def test_run_json_says_what_the_run_was_fitted_to(points, config, change, out):
    settings = change(config, warmup_steps=500, drop_last=False)
    fit(of_size(points, 59), settings, out)
    written = json.loads((out / "run.json").read_text())
    assert written["images"] == {"train": 59, "left_out": 0, "filled": 5}
    assert written["updates"] == {"per_epoch": 8, "all": 32}
    assert written["settings"]["warmup_steps"] == 16 == read_checkpoint(out / "last.pt")["config"]["warmup_steps"]
    assert written["notices"] == ["The warm-up takes 16 updates instead of 500: half of all 32."]
    assert written["start"] is None


def of_size(points, count):
    data = type(points().data)(count)
    return points(data)


def test_a_fitted_run_resumed_within_an_epoch_is_bitwise_identical(points, config, change, tmp_path):
    settings, straight, cut = change(config, warmup_steps=500), tmp_path / "straight", tmp_path / "cut"
    fit(of_size(points, 59), settings, straight)
    assert fit(leaving_in_update(of_size(points, 59), 19), settings, cut).interrupted
    begun = (cut / "run.json").read_bytes()
    fit(of_size(points, 59), settings, cut, resume=cut / "last.pt")
    assert (cut / "run.json").read_bytes() == begun
    for name in ("steps.jsonl", "metrics.jsonl"):
        assert lines(cut, name) == lines(straight, name)
    for name, value in read_checkpoint(straight / "last.pt")["model"].items():
        assert torch.equal(read_checkpoint(cut / "last.pt")["model"][name], value)


def test_a_run_of_before_goes_on_as_it_began(points, config, change, tmp_path):
    """Its epochs leave out what fills no batch, its warm-up keeps its length, and its average its decay."""
    settings = change(config, ema_decay=0.99, warmup_steps=20)
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    before = change(settings, drop_last=True)
    with_old_rules(fit, of_size(points, 59), before, straight)
    assert with_old_rules(fit, leaving_in_update(of_size(points, 59), 17), before, cut).interrupted
    state = read_checkpoint(cut / "last.pt")
    del state["config"]["drop_last"]
    torch.save(state, cut / "last.pt")
    assert fit(of_size(points, 59), settings, cut, resume=cut / "last.pt").updates == 28
    assert lines(cut, "steps.jsonl") == lines(straight, "steps.jsonl")
    for name, value in read_checkpoint(straight / "last.pt")["ema"].items():
        assert torch.equal(read_checkpoint(cut / "last.pt")["ema"][name], value)


def with_old_rules(fit, *words):
    """Train as versions did that held no setting against the length of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foveal.training.run.fit_to_length", lambda config, images: (config, []))
        return fit(*words)


def test_another_number_of_images_is_named_before_the_settings_that_follow_from_it(points, config, change, out):
    settings = change(config, warmup_steps=500)
    fit(of_size(points, 59), settings, out)
    with pytest.raises(FovealError, match="started with 59 training images, not 48"):
        fit(of_size(points, 48), settings, out, resume=out / "last.pt")
