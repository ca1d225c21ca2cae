"""Half precision: values stay finite for inputs of any magnitude, forward and backward."""

import pytest
import torch

from support.accuracy import relative_error
from support.nets import atto, gradients, image

FAMILIES = ("transnext", "transxnet")
HALF = {torch.bfloat16: "bf16", torch.float16: "fp16"}
every_family = pytest.mark.parametrize("family", FAMILIES)
every_half = pytest.mark.parametrize("dtype", HALF, ids=HALF.values())


@every_family
@every_half
@pytest.mark.parametrize("magnitude", [1.0, 100.0, 1e-4])
@pytest.mark.parametrize("options", [{}, dict(window_size=7, pool_size=1)], ids=["3", "window 7, linear"])
def test_autocast_stays_finite(family, dtype, magnitude, options):
    if family == "transxnet":
        options = dict(img_size=128) if options else {}
    net = atto(family, **options).train()
    with torch.autocast("cpu", dtype):
        out = net(magnitude * image(64, 96, batch=2))
    assert out.isfinite().all()
    with torch.autocast("cpu", dtype):
        found = gradients(net, magnitude * image(64, 96, batch=2))
    assert [name for name, g in found.items() if not g.isfinite().all()] == []
    assert all(g.dtype is torch.float32 for g in found.values())


@every_family
@every_half
@torch.no_grad()
def test_autocast_error_is_at_most_30_roundings(family, dtype):
    """Rounding errors grow over four blocks; more than 30 would mean that an operation runs in the wrong dtype."""
    net, x = atto(family), image(64, 96, batch=2)
    exact = net(x)
    with torch.autocast("cpu", dtype):
        found = net(x)
    assert relative_error(found.float(), exact) <= 30 * torch.finfo(dtype).eps


@every_family
def test_a_model_cast_to_bf16_is_accurate_and_trains(family):
    net = atto(family).bfloat16()
    x = image(64, 47, batch=2).bfloat16()
    with torch.no_grad():
        out = net(x)
    assert out.dtype is torch.bfloat16
    exact = atto(family)(x.float())
    assert relative_error(out.float(), exact) <= 30 * torch.finfo(torch.bfloat16).eps
    found = gradients(net.train(), x)
    assert all(g.isfinite().all() and g.dtype is torch.bfloat16 for g in found.values())


@every_family
def test_a_model_cast_to_float64_stays_in_float64(family):
    net = atto(family).double()
    assert net(image(64, 47).double()).dtype is torch.float64
    assert all(g.dtype is torch.float64 for g in gradients(net, image(64, 47).double()).values())


@every_family
@pytest.mark.parametrize("pixel", [0.0, 255.0])
def test_constant_images_have_finite_gradients(family, pixel):
    """All queries equal all keys and every variance is 0."""
    net = atto(family).train()
    found = gradients(net, torch.full((2, 3, 64, 64), pixel))
    assert all(g.isfinite().all() for g in found.values())


@every_half
def test_half_precision_features_are_finite_and_keep_their_shape(dtype):
    net = atto("transnext", features_only=True)
    with torch.no_grad(), torch.autocast("cpu", dtype):
        maps = net(image(64, 64))
    assert all(m.isfinite().all() for m in maps)
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 16, 16), (48, 8, 8), (96, 4, 4), (192, 2, 2)]
