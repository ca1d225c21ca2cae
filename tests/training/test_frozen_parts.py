"""Frozen parts of a network do not change in a run, and neither do the statistics of their batch norms."""

import copy

import pytest
import torch
from torch import nn

from foveal.training import fit
from foveal.training.dry_run import FROZEN, planned_parameters
from foveal.training.frozen import rest_frozen


def half_frozen():
    torch.manual_seed(0)
    frozen = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)).requires_grad_(False)
    return nn.Sequential(frozen, nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


def test_frozen_parts_are_in_evaluation_mode_and_others_are_not():
    model = half_frozen().train()
    rest_frozen(model)
    assert [part.training for part in model[0]] == [False] * 3
    assert [part.training for part in model[1:]] == [True] * 4


def test_a_frozen_batch_norm_beside_trained_layers_rests_too():
    model = nn.Sequential(nn.BatchNorm1d(3).requires_grad_(False), nn.Linear(3, 2)).train()
    rest_frozen(model)
    assert [part.training for part in model] == [False, True]


@pytest.fixture
def task(points):
    task = points()
    task.model = half_frozen()
    return task


def test_a_run_leaves_them_as_they_are(task, config, out):
    before = copy.deepcopy(task.model.state_dict())
    fit(task, config, out)
    after = task.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in changed} == {"1", "2", "4"}


def test_the_optimiser_has_no_state_of_them(task, config, out):
    outcome = fit(task, config, out)
    state = torch.load(outcome.last_path)["optimizer"]
    trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    assert len(state["state"]) == len(trained) == 6


def test_a_plan_lists_them(task, config):
    planned = planned_parameters(task.model, config)
    assert {one.name for one in planned if one.rule == FROZEN} == {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"}
