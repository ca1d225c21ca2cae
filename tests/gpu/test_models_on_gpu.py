"""Models on a CUDA device: agreement with the CPU, and training under autocast. Run by `make test-gpu`."""

import pytest
import timm
import torch

from foveal.models import transnext, transxnet
from golden.fill import filled_image, filled_state, stored
from support.accuracy import OUTPUT, relative_error
from support.nets import atto, gradients, image

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
every_family = pytest.mark.parametrize("family", ["transnext", "transxnet"])


@every_family
@pytest.mark.parametrize("size", [(64, 64), (33, 47), (224, 160)], ids=str)
@torch.no_grad()
def test_logits_match_the_cpu(family, size):
    expected = atto(family)(image(*size, batch=2))
    found = atto(family).to(DEVICE)(image(*size, batch=2).to(DEVICE))
    assert relative_error(found.cpu(), expected) <= OUTPUT


@every_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_a_training_step_under_autocast_stays_finite(family, dtype):
    net = atto(family).to(DEVICE).train()
    with torch.autocast(DEVICE, dtype):
        out = net(image(64, 96, batch=4).to(DEVICE))
    out.float().square().mean().backward()
    assert out.isfinite().all()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@every_family
def test_gradients_match_the_cpu(family):
    expected = gradients(atto(family), image(64, 64, batch=2))
    net = atto(family).to(DEVICE)
    found = gradients(net, image(64, 64, batch=2).to(DEVICE))
    scale = max(g.abs().max().item() for g in expected.values())
    assert all(relative_error(found[n].cpu(), g, floor=scale) <= OUTPUT for n, g in expected.items())


@pytest.mark.parametrize(
    ("name", "family", "batch"), [("transnext_micro", transnext, 1), ("transxnet_t", transxnet, 2)]
)
@torch.no_grad()
def test_logits_match_the_authors_code(name, family, batch):
    net = timm.create_model(name).eval()
    net.load_state_dict(family.checkpoint_filter_fn(filled_state(name), net))
    found = net.to(DEVICE)(filled_image(batch, 3, 224, 224).to(DEVICE))
    assert relative_error(found.cpu(), stored(f"{name}_224")) <= OUTPUT
