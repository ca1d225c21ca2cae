"""Learning rates and weight decay compared with the published rules, computed independently."""

import math

import pytest
import timm
import torch

import foveal  # noqa: F401 - registers the models
from foveal.errors import FovealError
from foveal.tasks.classification.recipes import get_recipe
from foveal.training.config import TrainConfig
from foveal.training.optimiser import base_lr, create_optimizer, create_schedule

STEPS = 5


def rates(config, steps=STEPS):
    """Yield the learning rate of every update."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule = create_schedule(optimizer, config, steps)
    for update in range(config.total_epochs * steps):
        yield base_lr(optimizer)
        schedule.step_update(update + 1)


def test_the_paper_recipe_has_the_published_learning_rate_at_every_epoch():
    config = get_recipe("imagenet.transnext_tiny").train
    found = list(rates(config))[::STEPS]
    assert len(found) == 310
    for epoch, rate in enumerate(found):
        if epoch < 5:
            expected = 1e-6 + (1e-3 - 1e-6) * epoch / 5
        elif epoch < 300:
            expected = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * epoch / 300)) / 2
        else:
            expected = 1e-5
        assert rate == pytest.approx(expected, rel=1e-9), epoch


def test_the_rate_changes_with_every_update():
    config = TrainConfig(epochs=4, warmup_epochs=1, lr=1.0, warmup_lr=0.0, min_lr=0.0, batch_size=1)
    found = list(rates(config))
    warmup = [update / STEPS for update in range(STEPS)]
    cosine = [(1 + math.cos(math.pi * update / (4 * STEPS))) / 2 for update in range(STEPS, 4 * STEPS)]
    assert found == pytest.approx(warmup + cosine)


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_a_run_of_one_update_has_the_full_rate_and_the_cooldown_the_lowest_without_a_warning(schedule, caplog):
    config = TrainConfig(epochs=1, cooldown_epochs=1, warmup_epochs=0, lr=1.0, min_lr=0.25, schedule=schedule)
    assert list(rates(config, steps=1)) == [1.0, 0.25]
    assert caplog.records == []


def test_a_constant_schedule_is_constant():
    config = get_recipe("imagenet.transnext_base_384").train
    assert set(rates(config)) == {1e-5}


def decay_by_name(model, config):
    optimizer = create_optimizer(model, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay.keys() == set(names.values()), "every parameter is trained exactly once"
    return decay


@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_transnext_biases_norms_embeddings_temperatures_and_position_biases_have_no_decay(layer_decay):
    model = timm.create_model("transnext_atto", num_classes=10, img_size=32)
    decay = decay_by_name(model, TrainConfig(weight_decay=0.05, layer_decay=layer_decay))
    for name, parameter in model.named_parameters():
        exempt = ("query_embedding", "relative_pos_bias_local", "cpb", "temperature")
        free = parameter.ndim <= 1 or name.endswith(".bias") or any(word in name for word in exempt)
        assert decay[name] == (0.0 if free else 0.05), name


def test_layer_decay_lowers_the_rate_of_lower_layers_throughout_the_schedule():
    model = timm.create_model("test_convnext", num_classes=10)
    config = TrainConfig(epochs=4, warmup_epochs=0, lr=1.0, layer_decay=0.5, batch_size=1)
    optimizer = create_optimizer(model, config)
    schedule = create_schedule(optimizer, config, STEPS)
    schedule.step_update(7)
    head = next(g for g in optimizer.param_groups if any(p is model.head.fc.weight for p in g["params"]))
    stem = next(g for g in optimizer.param_groups if any(p is model.stem[0].weight for p in g["params"]))
    assert head["lr"] == pytest.approx(base_lr(optimizer))
    assert math.log2(stem["lr"] / head["lr"]) == pytest.approx(round(math.log2(stem["lr"] / head["lr"])))
    assert stem["lr"] < head["lr"] / 2


def test_a_multistep_schedule_drops_to_a_tenth_exactly_at_the_milestones():
    config = TrainConfig(epochs=12, schedule="multistep", milestones=(8, 11), warmup_steps=3, warmup_lr=1e-7, lr=1e-4)
    warmup = [1e-7 + (1e-4 - 1e-7) * update / 3 for update in range(3)]
    expected = warmup + [1e-4] * (8 * STEPS - 3) + [1e-5] * (3 * STEPS) + [1e-6] * STEPS
    assert list(rates(config)) == pytest.approx(expected)


@pytest.mark.parametrize("power", [1.0, 0.9])
def test_a_polynomial_schedule_decays_from_the_first_update(power):
    config = TrainConfig(epochs=4, schedule="poly", power=power, warmup_steps=2, warmup_lr=6e-11, lr=6e-5, min_lr=0.0)
    warmup = [6e-11 + (6e-5 - 6e-11) * update / 2 for update in range(2)]
    falling = [6e-5 * (1 - update / (4 * STEPS)) ** power for update in range(2, 4 * STEPS)]
    assert list(rates(config)) == pytest.approx(warmup + falling)


class TwoParts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.ModuleDict({"first": torch.nn.Linear(2, 3), "last": torch.nn.Linear(3, 3)})
        self.head = torch.nn.Linear(3, 1)
        self.head.scale = torch.nn.Parameter(torch.ones(1, 1))

    def no_weight_decay(self):
        return {"head.scale"}


def test_lr_factors_apply_by_longest_name_prefix_throughout_the_schedule():
    model = TwoParts()
    factors = {"backbone.": 0.1, "backbone.last.": 0.5}
    config = TrainConfig(epochs=4, lr=1.0, min_lr=0.0, warmup_epochs=0, weight_decay=0.05, lr_factors=factors)
    optimizer = create_optimizer(model, config)
    create_schedule(optimizer, config, STEPS).step_update(2 * STEPS)  # halfway through a cosine: 0.5
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    found = {name: (groups[id(p)]["lr"], groups[id(p)]["weight_decay"]) for name, p in model.named_parameters()}
    assert found == {
        "backbone.first.weight": (pytest.approx(0.05), 0.05),
        "backbone.first.bias": (pytest.approx(0.05), 0.0),
        "backbone.last.weight": (pytest.approx(0.25), 0.05),
        "backbone.last.bias": (pytest.approx(0.25), 0.0),
        "head.weight": (pytest.approx(0.5), 0.05),
        "head.bias": (pytest.approx(0.5), 0.0),
        "head.scale": (pytest.approx(0.5), 0.0),
    }
    assert base_lr(optimizer) == pytest.approx(0.5)


def test_frozen_parameters_are_in_no_group():
    model = TwoParts()
    model.backbone.first.requires_grad_(False)
    optimizer = create_optimizer(model, TrainConfig(lr_factors={"backbone.": 0.1}))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 5


def test_an_lr_factor_without_matching_parameters_is_rejected():
    with pytest.raises(FovealError, match=r"lr_factors names 'neck\.'"):
        create_optimizer(TwoParts(), TrainConfig(lr_factors={"neck.": 0.1}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"schedule": "step"}, "schedule must be one of cosine, constant, multistep, poly, not 'step'"),
        ({"milestones": (11, 8)}, "milestones must increase"),
        ({"layer_decay": 0.7, "lr_factors": {"backbone.": 0.1}}, "set one of them"),
        ({"lr_factors": {"backbone.": 0.0}}, "lr_factors of backbone. must be above 0"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0"),
    ],
)
def test_invalid_settings_are_rejected(settings, sentence):
    with pytest.raises(FovealError, match=sentence):
        TrainConfig(**settings)
