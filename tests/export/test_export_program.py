"""Networks as they are, without ``foveal export``: what PyTorch's exporters make of them needs no foveal."""

import shutil

import numpy as np
import onnx
import pytest
import torch

import foveal
from foveal.export.program import trace
from foveal.ops import use_backend
from support.accuracy import OUTPUT, relative_error
from support.nets import atto, image

every_family = pytest.mark.parametrize("family", ["transnext", "transxnet"])
OPTIONS = {
    "transnext": ("transnext", {}),
    "transnext, linear mode and interpolated bias": (
        "transnext",
        dict(pool_size=2, img_size=128, position_bias="interpolate"),
    ),
    "transxnet": ("transxnet", {}),
}
every_network = pytest.mark.parametrize("name", OPTIONS)
SIZE = (66, 131)


def network(name):
    """A network with blocks in its first and last stage alone: one of each kind, in half the time."""
    family, options = OPTIONS[name]
    return atto(family, depths=(1, 0, 0, 1), **options)


@torch.no_grad()
def right(net, x):
    """The output in float64 by the formula of every operator."""
    with use_backend("reference"):
        return net.double()(x.double())


def names(program):
    """The operators of a program, those of its blocks included."""
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    return {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"}


@every_network
@torch.no_grad()
def test_torch_export_gives_a_program_of_pytorch_s_operators(name):
    net, x = network(name), image(*SIZE)
    program = torch.export.export(net, (x,)).run_decompositions({})
    assert not [operator for operator in names(program) if "foveal" in operator]
    assert relative_error(program.module()(x), right(net, x)) <= OUTPUT


@every_network
@torch.no_grad()
def test_the_exporter_of_pytorch_gives_an_onnx_file_of_standard_operators(name, tmp_path):
    import onnxruntime

    net, x = network(name), image(*SIZE)
    path = tmp_path / "a.onnx"
    torch.onnx.export(net, (x,), path, dynamo=True, input_names=["images"], external_data=False, verbose=False)
    assert {opset.domain for opset in onnx.load(path).opset_import} == {""}
    (found,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": x.numpy()})
    assert relative_error(torch.from_numpy(np.asarray(found)), right(net, x)) <= OUTPUT


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler")
@torch.no_grad()
def test_aotinductor_compiles_a_network_as_it_is(tmp_path):
    net, x = atto(depths=(1, 0, 0, 0)), image(64, 64)
    program = torch.export.export(net, (x,))
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "a.pt2"))
    assert relative_error(torch._inductor.aoti_load_package(package)(x), right(net, x)) <= OUTPUT


@every_family
@torch.no_grad()
def test_the_standard_form_of_a_folded_network_has_the_answers_of_the_network(family):
    net = network(family)
    folded = foveal.optimize(net, memory=False)
    for size in ((64, 64), SIZE):
        x = image(*size, batch=2)
        with use_backend("standard"):
            found = folded(x)
        assert relative_error(found, right(net, x)) <= OUTPUT
        net.float()


@every_family
@torch.no_grad()
def test_a_network_is_traced_again_at_another_size(family):
    net = network(family)
    folded = foveal.optimize(net, memory=False)
    for size in ((64, 64), SIZE):
        program = trace(folded, image(*size), frozenset(), whole=False)
        assert relative_error(program.module()(image(*size)), right(net, image(*size))) <= OUTPUT
        net.float()


@every_family
@torch.no_grad()
def test_a_backend_that_was_chosen_stays_in_the_program(family):
    net, x = network(family), image(64, 64)
    with use_backend("torch"):
        program = torch.export.export(net, (x,))
    assert [operator for operator in names(program) if "foveal" in operator]
