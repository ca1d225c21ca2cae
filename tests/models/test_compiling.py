"""torch.compile and torch.export: a single graph for static and dynamic sizes, with the results of eager mode."""

import pytest
import torch

from foveal.ops import use_backend
from support import nets
from support.accuracy import assert_same
from support.nets import gradients, image

ROUNDINGS = 100_000
every_family = pytest.mark.parametrize("family", ["transnext", "transxnet"])


def atto(family: str = "transnext", **options):
    """A model with blocks only in the first and last stage: one of each kind, in half the tracing time."""
    return nets.atto(family, depths=(1, 0, 0, 1), **options)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


@every_family
@torch.no_grad()
def test_compiles_to_one_graph_for_all_sizes(family):
    """The sizes do not cross the thresholds at which PyTorch selects another convolution algorithm."""
    net = atto(family)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, fullgraph=True, backend=backend, dynamic=True)
    for size in ((96, 128), (128, 96), (65, 131)):
        assert_same(compiled(image(*size)), net(image(*size)), ROUNDINGS)
    assert len(graphs) == 1


@every_family
def test_a_compiled_training_step_gives_the_same_gradients(family):
    net, twin = atto(family).train(), atto(family).train()
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    expected, found = gradients(net, image(64, 64, batch=2)), gradients(compiled, image(64, 64, batch=2))
    for name, gradient in expected.items():
        assert_same(found[f"_orig_mod.{name}"], gradient, ROUNDINGS, name, floor=1.0)


@every_family
@torch.no_grad()
def test_a_compiled_model_follows_its_weights(family):
    """Cached values are not baked into the graph."""
    net, x = atto(family), image(64, 96)
    net(x)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=False)
    assert_same(compiled(x), net(x), ROUNDINGS)
    bias = net.stages[0].blocks[0].attn.cpb_fc2.bias if family == "transnext" else net.stages[0].position_bias.table
    bias.add_(torch.randn_like(bias))
    assert_same(compiled(x), net(x), ROUNDINGS)


@torch.no_grad()
def test_changing_the_operator_backend_recompiles():
    net, x = atto(), image(64, 64)
    targets = []

    def backend(graph, inputs):
        targets.append({str(node.target) for node in graph.graph.nodes if node.op == "call_function"})
        return graph.forward

    compiled = torch.compile(net, backend=backend, fullgraph=True)
    automatic = compiled(x)
    with use_backend("reference"):
        reference = compiled(x)
    assert len(targets) == 2
    assert any("foveal" in name for name in targets[0])
    assert not any("foveal" in name for name in targets[1])
    assert_same(reference, automatic, ROUNDINGS)


@every_family
@torch.no_grad()
def test_exports_at_a_fixed_size(family):
    net, x = atto(family), image(64, 96)
    program = torch.export.export(net, (x,))
    assert_same(program.module()(x), net(x), ROUNDINGS)


EXPORTS = {
    "transnext": ("transnext", {}),
    "transnext, linear, interpolated, window sizes": (
        "transnext",
        dict(pool_size=2, img_size=128, position_bias="interpolate", window_size=(5, 3, 3, 3)),
    ),
    "transxnet": ("transxnet", {}),
    "transxnet, traced at its table size": ("transxnet", dict(img_size=(128, 96))),
}


@pytest.mark.parametrize("case", EXPORTS)
@torch.no_grad()
def test_exports_for_all_sizes(case):
    family, options = EXPORTS[case]
    net = atto(family, **options)
    batch, height, width = (torch.export.Dim(n, min=low) for n, low in (("batch", 1), ("height", 64), ("width", 64)))
    program = torch.export.export(net, (image(128, 96, batch=2),), dynamic_shapes=({0: batch, 2: height, 3: width},))
    module = program.module()
    for size in ((128, 96), (64, 64), (224, 160), (65, 131)):
        assert_same(module(image(*size)), net(image(*size)), ROUNDINGS)
    assert_same(module(image(96, 64, batch=3)), net(image(96, 64, batch=3)), ROUNDINGS)
