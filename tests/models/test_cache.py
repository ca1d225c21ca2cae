"""The cache of what is computed from weights: never stale, whatever happens to the weights."""

import sys
import threading

import pytest
import torch
from torch import nn

import foveal
from foveal.models.cache import SizeCache
from support.nets import atto, image


def test_a_weight_that_lies_where_another_one_was_is_not_taken_for_it():
    """PyTorch gives the memory of a freed tensor to the next one of its size; here both share it."""
    cache, first = SizeCache(), torch.ones(3)
    assert cache.get("sum", (first,), lambda: torch.tensor(3)) == 3
    second = first.detach()
    assert (second.data_ptr(), second._version) == (first.data_ptr(), first._version)
    assert cache.get("sum", (second,), lambda: torch.tensor(4)) == 4
    assert cache.get("sum", (second,), lambda: torch.tensor(5)) == 4


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
@torch.no_grad()
def test_eval_makes_an_optimised_network_see_weights_written_through_data(family):
    """Such a write does not count as one for PyTorch; averages of weights are often written so."""
    net = foveal.optimize(atto(family))
    net(image(64, 64))
    for parameter in net.parameters():
        parameter.data.mul_(0.9)
    net.eval()
    again = foveal.optimize(atto(family))
    for parameter in again.parameters():
        parameter.data.mul_(0.9)
    assert torch.equal(net(image(64, 64)), again(image(64, 64)))


@torch.no_grad()
def test_a_replaced_parameter_of_an_optimised_network_is_used_at_once():
    """Every time, though a new weight often gets the memory of the one before it."""
    net = foveal.optimize(atto())
    layer = net.stages[0].blocks[0].mlp.fc1
    for factor in (1.1, 0.9, 1.2, 0.8, 1.3):
        new = layer.weight * factor
        layer.weight = None
        layer.weight = nn.Parameter(new.clone(), requires_grad=False)
        del new
        fresh = foveal.optimize(atto())
        fresh.load_state_dict(net.state_dict())
        assert torch.equal(net(image(64, 64)), fresh(image(64, 64)))


def test_threads_with_different_weights_may_share_a_cache():
    """As the replicas of DataParallel do."""
    cache, failures = SizeCache(), []

    def work(number):
        weight = torch.full((10,), float(number))
        for _ in range(2000):
            try:
                found = cache.get("twice", (weight,), lambda: weight * 2)
            except KeyError as error:
                failures.append(error)
            else:
                failures.extend([found] if found[0] != 2 * number else [])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
