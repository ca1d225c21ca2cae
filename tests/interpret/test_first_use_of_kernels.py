"""The trial of the real kernels at their first use, in Triton's interpreter; and their verdict in traced networks."""

import importlib
import math

import pytest
import torch
import triton.language as tl

from foveal.ops.deviation import Deviation
from foveal.ops.first_use import examine, subject
from foveal.ops.gated_dwconv import triton_kernels as gated
from support import nets

ATTENTION, TABLE = "aggregated_attention", "aggregated_attention_table"
KERNELS = [
    (ATTENTION, (24, 3)),
    *((TABLE, (24, 0, resized)) for resized in (0, 1)),
    ("gated_dwconv", (3,)),
    ("dynamic_dwconv", (3,)),
]


def tried(operator: str, numbers: tuple[int, ...]):
    fused, _ = subject(operator)
    return examine(operator, (torch.float32,) * len(fused.tensors), numbers, torch.device("cpu"))


@pytest.mark.parametrize(("operator", "numbers"), KERNELS, ids=str)
def test_right_kernels_pass_with_a_wide_margin(operator, numbers):
    found = tried(operator, numbers)
    assert isinstance(found, Deviation), found
    assert found.error <= found.allowed / 4, found


def test_a_kernel_that_is_wrong_in_backward_alone_fails(monkeypatch):
    monkeypatch.setattr(gated, "INVERSE_SQRT_TWO_PI", tl.constexpr(1.001 / math.sqrt(2 * math.pi)))
    found = tried("gated_dwconv", (3,))
    assert found.error > 4 * found.allowed
    assert found.what.startswith("the gradient of ")


def test_a_wrong_gradient_of_a_table_fails(monkeypatch):
    module = importlib.import_module("foveal.ops.aggregated_attention.triton")
    right = module.table_gradient
    monkeypatch.setattr(module, "table_gradient", lambda *call: 1.001 * right(*call))
    found = tried(TABLE, (24, 0, 0))
    assert found.error > 4 * found.allowed
    assert found.what == "the gradient of pool_bias_table"


@pytest.mark.parametrize("family", ["transnext", "transxnet"])
@torch.no_grad()
def test_networks_compile_to_one_graph_that_keeps_the_kernels(family):
    """Nothing is run, since interpreted kernels are slow. Of TransNeXt, the first stage has a window and the last one
    has none."""
    torch.compiler.reset()
    net, x, graphs = nets.atto(family, depths=(1, 0, 0, 1)), nets.image(64, 96), []

    def compiler(graph, inputs):
        nodes = [node for node in graph.graph.nodes if "foveal" in str(node.target)]
        graphs.append({(str(node.target), node.args[-1]) for node in nodes})
        return lambda *inputs: (torch.zeros(1, 1000),)

    torch.compile(net, fullgraph=True, backend=compiler, dynamic=True)(x)
    (operations,) = graphs
    assert {backend for name, backend in operations if "gelu_pool" not in name and "multiscale" not in name} == {
        "triton"
    }
