"""Learning rates and weight decay against the published rules, computed here on their own."""

import math

import pytest
import timm
import torch

import foveal  # noqa: F401 - registers the models
from foveal.tasks.classification.recipes import get_recipe
from foveal.training.config import TrainConfig
from foveal.training.optimiser import base_lr, create_optimizer, create_schedule

STEPS = 5


def rates(config, steps=STEPS):
    """The learning rate of every update."""
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


def test_the_rate_moves_with_every_update():
    config = TrainConfig(epochs=4, warmup_epochs=1, lr=1.0, warmup_lr=0.0, min_lr=0.0, batch_size=1)
    found = list(rates(config))
    warmup = [update / STEPS for update in range(STEPS)]
    cosine = [(1 + math.cos(math.pi * update / (4 * STEPS))) / 2 for update in range(STEPS, 4 * STEPS)]
    assert found == pytest.approx(warmup + cosine)


def test_a_constant_schedule_stays():
    config = get_recipe("imagenet.transnext_base_384").train
    assert set(rates(config)) == {1e-5}


def decay_by_name(model, config):
    optimizer = create_optimizer(model, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay.keys() == set(names.values()), "every parameter is trained exactly once"
    return decay


@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_transnext_decays_weights_but_no_bias_norm_embedding_temperature_or_position_bias(layer_decay):
    model = timm.create_model("transnext_atto", num_classes=10, img_size=32)
    decay = decay_by_name(model, TrainConfig(weight_decay=0.05, layer_decay=layer_decay))
    for name, parameter in model.named_parameters():
        exempt = ("query_embedding", "relative_pos_bias_local", "cpb", "temperature")
        free = parameter.ndim <= 1 or name.endswith(".bias") or any(word in name for word in exempt)
        assert decay[name] == (0.0 if free else 0.05), name


def test_layer_decay_slows_lower_layers_and_the_schedule_keeps_the_ratio():
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
