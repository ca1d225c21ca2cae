"""The papers' rules, written independently: learning rates of all ImageNet recipes, weight decay of all parameters."""

import fnmatch
import math

import pytest
import torch

from foveal.tasks.classification.recipes import get_recipe, list_recipes
from foveal.training.dry_run import planned_parameters
from foveal.training.optimiser import base_lr, create_optimizer, create_schedule, learning_rates
from support.nets import NAMES, TRANSNEXT, TRANSXNET, on_meta

STEPS = 1251  # updates per epoch of 1,281,167 images with a batch size of 1,024
IMAGENET = [recipe.name for recipe in list_recipes() if recipe.name.startswith("imagenet.")]

# Recipe: (highest rate, epochs of the cosine, cooldown); None is a constant rate.
SCHEDULES = {
    "imagenet.transnext_micro": (1e-3, 300, 10),
    "imagenet.transnext_tiny": (1e-3, 300, 10),
    "imagenet.transnext_small": (1e-3, 300, 10),
    "imagenet.transnext_base": (1e-3, 300, 10),
    "imagenet.transnext_micro_aaaa_256": (1e-3, 300, 10),
    "imagenet.transnext_small_384": (1e-5, None, 5),
    "imagenet.transnext_base_384": (1e-5, None, 5),
    "imagenet.transxnet_t": (2e-3, 300, 0),
    "imagenet.transxnet_s": (2e-3, 300, 0),
    "imagenet.transxnet_b": (2e-3, 300, 0),
    "imagenet.transxnet_b_384": (1e-5, None, 30),
}

# The first matching pattern applies; * matches any text.
TRANSNEXT_DECAY = (
    ("*.bias", 0.0),
    ("*.norm*.weight", 0.0),
    ("*.query_embedding", 0.0),
    ("*.relative_pos_bias_local", 0.0),
    ("*.cpb_fc?.weight", 0.0),
    ("*.temperature", 0.0),
    ("*.learnable_tokens", 0.05),
    ("*.learnable_bias", 0.05),
    ("*.downsample.proj.weight", 0.05),
    ("*.attn.q.weight", 0.05),
    ("*.attn.kv.weight", 0.05),
    ("*.attn.qkv.weight", 0.05),
    ("*.attn.sr.weight", 0.05),
    ("*.attn.proj.weight", 0.05),
    ("*.mlp.fc?.weight", 0.05),
    ("*.mlp.dwconv.weight", 0.05),
    ("head.fc.weight", 0.05),
)
TRANSXNET_DECAY = (
    ("*.bias", 0.0),
    ("norm.weight", 0.0),
    ("*.norm*.weight", 0.0),
    ("*.bn.weight", 0.0),
    ("*.token_mixer.proj.[257].weight", 0.0),  # BatchNorm after convolutions 0, 3 and 6
    ("*.mlp.fc1.2.weight", 0.0),  # BatchNorm
    ("*.mlp.fc2.1.weight", 0.0),  # BatchNorm
    ("*.downsample.proj.weight", 0.05),
    ("*.position_bias.table", 0.05),
    ("*.pos_embed.weight", 0.05),
    ("*.token_mixer.local_unit.weight", 0.05),
    ("*.token_mixer.local_unit.proj.?.weight", 0.05),
    ("*.token_mixer.local_unit.proj.?.conv.weight", 0.05),
    ("*.token_mixer.global_unit.*.weight", 0.05),
    ("*.token_mixer.proj.[036].weight", 0.05),
    ("*.mlp.fc?.0.weight", 0.05),
    ("*.mlp.dwconv.proj.?.weight", 0.05),
    ("*.layer_scale_?.weight", 0.05),
    ("head.fc.weight", 0.05),
)


def published_rate(name: str, epoch: float) -> float:
    """Linear from 1e-6 over 5 epochs, then a half cosine counted from the start of training, then the lowest rate."""
    highest, cosine, _ = SCHEDULES[name]
    if cosine is None:
        return highest
    if epoch < 5:
        return 1e-6 + (highest - 1e-6) * epoch / 5
    if epoch < cosine:
        return 1e-5 + (highest - 1e-5) * (1 + math.cos(math.pi * epoch / cosine)) / 2
    return 1e-5


def test_every_imagenet_recipe_is_in_the_table():
    assert set(SCHEDULES) == set(IMAGENET)


@pytest.mark.parametrize("name", IMAGENET)
def test_the_rate_at_every_epoch_matches_the_published_one(name):
    config = get_recipe(name).train
    _, cosine, more = SCHEDULES[name]
    epochs = (cosine or 0) + more
    assert config.total_epochs == epochs
    found = learning_rates(config, STEPS, [epoch * STEPS for epoch in range(epochs)])
    assert found == pytest.approx([published_rate(name, epoch) for epoch in range(epochs)], rel=1e-9)


@pytest.mark.parametrize("name", ["imagenet.transnext_tiny", "imagenet.transxnet_t", "imagenet.transnext_base_384"])
def test_the_rate_of_every_update_is_on_the_published_curve(name):
    """Stepped after every update as in the training loop, with 24 updates per epoch."""
    config, steps = get_recipe(name).train, 24
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule = create_schedule(optimizer, config, steps)
    for update in range(config.total_epochs * steps):
        assert base_lr(optimizer) == pytest.approx(published_rate(name, update / steps), rel=1e-9), update
        schedule.step_update(update + 1)


def published_decay(variant: str, name: str) -> float:
    table = TRANSNEXT_DECAY if variant.startswith("transnext") else TRANSXNET_DECAY
    return next(decay for pattern, decay in table if fnmatch.fnmatch(name, pattern))


@pytest.mark.parametrize("variant", NAMES)
def test_weight_decay_of_every_parameter_matches_the_table(variant):
    config = get_recipe(f"imagenet.{'transnext_tiny' if variant.startswith('transnext') else 'transxnet_t'}").train
    model = on_meta(variant)
    groups = create_optimizer(model, config).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    found = {name: decay.pop(id(parameter)) for name, parameter in model.named_parameters()}
    assert not decay
    assert found == {name: published_decay(variant, name) for name in found}
    planned = {p.name: p.weight_decay for p in planned_parameters(model, config)}
    assert planned == found


@pytest.mark.parametrize("table", [TRANSNEXT_DECAY, TRANSXNET_DECAY], ids=["transnext", "transxnet"])
def test_every_row_of_the_tables_applies_to_a_parameter(table):
    family = TRANSNEXT if table is TRANSNEXT_DECAY else TRANSXNET
    names = {name for variant in family for name, _ in on_meta(variant).named_parameters()}
    deciding = {next(pattern for pattern, _ in table if fnmatch.fnmatch(name, pattern)) for name in names}
    assert deciding == {pattern for pattern, _ in table}
