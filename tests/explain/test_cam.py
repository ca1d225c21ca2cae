"""Activation maps equal those counted by hand, in either memory format, for classifiers, detectors and segmenters."""

import concurrent.futures
import threading

import numpy as np
import pytest
import timm
import torch
from torch import nn

import foveal
from foveal.errors import FovealError
from foveal.explain import Layer, branch_layers, cam_layer
from foveal.explain.cam import box_score, class_score, region_score, watch_scores
from foveal.explain.layers import stage_layer
from foveal.tasks.detection import create_detector
from foveal.tasks.segmentation import create_segmenter

MAPS = torch.tensor([[[1.0, -2.0], [3.0, 0.0]], [[0.5, 4.0], [-1.0, 2.0]]])  # (2 channels, 2, 2)


class ByHand(nn.Module):
    """A fixed map, then a linear layer per position, or of the average."""

    def __init__(self, weight, pooled, layout):
        super().__init__()
        self.source, self.weight, self.pooled, self.layout = nn.Identity(), nn.Parameter(weight), pooled, layout

    def forward(self, x):
        x = self.source(x if self.layout == "NCHW" else x.permute(0, 2, 3, 1))
        x = x if self.layout == "NCHW" else x.permute(0, 3, 1, 2)
        if self.pooled:
            return x.mean((2, 3)) @ self.weight.t()
        return (x[:, None] * self.weight).sum((2, 3, 4))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("method", ["grad", "hires"])
def test_behind_average_pooling_both_are_the_maps_times_the_weights_of_the_class(method, layout):
    weight = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
    watched = watch_scores(ByHand(weight, True, layout), MAPS[None], Layer("source", layout))
    found = watched.map(class_score(1), method)
    by_hand = np.array([[2 * 1 - 0.5, 2 * -2 - 4], [2 * 3 + 1, 0 - 2]]) / 4  # the average has four positions
    np.testing.assert_allclose(found.evidence, by_hand)
    np.testing.assert_allclose(found.heat, [[0.375, 0], [1.75, 0]])
    assert found.score == pytest.approx(by_hand.sum())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_without_pooling_one_averages_the_derivatives_and_the_other_does_not(layout):
    weight = torch.tensor([[[[1.0, 0.0], [0.0, 3.0]], [[0.0, 2.0], [2.0, 0.0]]]])  # one class
    watched = watch_scores(ByHand(weight, False, layout), MAPS[None], Layer("source", layout))
    np.testing.assert_allclose(watched.map(class_score(0), "hires").evidence, [[1, 8], [-2, 0]])
    np.testing.assert_allclose(watched.map(class_score(0), "grad").evidence, [[1.5, 2], [2, 2]])  # weights 1 and 1


def test_the_wrong_layout_gives_another_map():
    weight = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
    right = watch_scores(ByHand(weight, True, "NHWC"), MAPS[None], Layer("source", "NHWC")).map(class_score(1))
    wrong = watch_scores(ByHand(weight, True, "NHWC"), MAPS[None], Layer("source", "NCHW")).map(class_score(1))
    assert not np.allclose(right.evidence, wrong.evidence)


def test_heat_is_laid_on_the_pixels_that_positions_are_centred_on():
    watched = watch_scores(ByHand(torch.tensor([[4.0, 0.0]]), True, "NCHW"), MAPS[None], Layer("source"))
    found = watched.map(class_score(0))  # heat [[1, 0], [3, 0]]
    overlapping = found.on_image((6, 5), 4)  # centres at pixels 0 and 4
    np.testing.assert_allclose(overlapping[:, 0], [1, 1.5, 2, 2.5, 3, 3])
    np.testing.assert_allclose(overlapping[0], [1, 0.75, 0.5, 0.25, 0])
    apart = found.on_image((8, 8), 4, overlapping=False)  # centres at 1.5 and 5.5
    np.testing.assert_allclose(apart[:, 0], [1, 1, 1.25, 1.75, 2.25, 2.75, 3, 3])


@pytest.fixture(scope="module", params=["transnext_atto", "transxnet_atto"])
def net(request):
    torch.manual_seed(0)
    net = timm.create_model(request.param, num_classes=5).train()
    for parameter in list(net.parameters())[::2]:
        parameter.requires_grad_(False)
    return net


def test_a_stage_and_its_last_block_give_the_same_map_up_to_the_norm_between_them():
    torch.manual_seed(0)
    net = timm.create_model("transnext_atto", num_classes=5)
    image = torch.randn(1, 3, 64, 96)
    stage = watch_scores(net, image, Layer(cam_layer(net, 2))).map(class_score(3))
    block = watch_scores(net, image, Layer(net.stages[2].blocks[-1], "NHWC")).map(class_score(3))
    assert stage.evidence.shape == block.evidence.shape == (4, 6)
    assert stage.score == pytest.approx(block.score)


def test_maps_equal_those_of_plain_autograd_over_the_whole_network(net):
    image, seen = torch.randn(1, 3, 64, 96), []
    found = watch_scores(net, image, Layer(cam_layer(net, 1))).map(class_score(2))
    handle = cam_layer(net, 1).register_forward_hook(lambda _, __, y: seen.append(y))
    modes = net.training
    net.eval()
    with torch.enable_grad():
        logits = net(image.requires_grad_())
    (gradient,) = torch.autograd.grad(logits[0, 2], seen[0])
    handle.remove()
    net.train(modes)
    expected = (gradient.double().mean((2, 3), keepdim=True) * seen[0].double()).sum(1)[0]
    np.testing.assert_allclose(found.evidence, expected.detach(), rtol=1e-4, atol=1e-9)
    assert found.score == pytest.approx(float(logits[0, 2].detach()), rel=1e-5)


def test_the_network_is_left_as_it_was_found_and_is_not_run_again(net):
    calls = []
    handle = net.register_forward_hook(lambda *_: calls.append(1))
    before = [(p.requires_grad, p.grad) for p in net.parameters()]
    with torch.inference_mode():
        watched = watch_scores(net, torch.randn(1, 3, 64, 64), Layer(cam_layer(net)))
        maps = [watched.map(class_score(label), "hires") for label in range(5)]
    handle.remove()
    assert len(calls) == 1
    assert len({found.score for found in maps}) == 5
    assert before == [(p.requires_grad, p.grad) for p in net.parameters()]
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_branch_of_the_mixer_can_be_shown():
    torch.manual_seed(0)
    net = timm.create_model("transxnet_atto", num_classes=5)
    shown = {
        name: watch_scores(net, torch.randn(1, 3, 64, 64), layer).map(class_score())
        for name, layer in branch_layers(net).items()
    }
    assert set(shown) == {"IDConv", "OSRA", "STE"}
    assert all(found.evidence.shape == (4, 4) and found.evidence.any() for found in shown.values())


@pytest.mark.parametrize("head", ["retinanet", "mask_rcnn"])
def test_a_box_of_a_detector_can_be_shown(head):
    torch.manual_seed(0)
    net = create_detector(head, "transnext_atto", num_classes=3, score=0.0).eval()
    net.images.min_size, net.images.max_size = (64,), 96
    watched = watch_scores(net, [torch.rand(3, 64, 80)], Layer(cam_layer(net.backbone.body, 2)))
    found = watched.map(box_score(0))
    assert found.score == pytest.approx(float(watched.outputs[0]["scores"][0].detach()))
    assert found.evidence.any()
    assert found.evidence.shape == (4, 6)  # 64 x 80 pixels, padded to 64 x 96
    assert found.on_image((64, 80), 16).shape == (64, 80)


def test_a_class_of_a_segmenter_can_be_shown():
    torch.manual_seed(0)
    net = create_segmenter("semantic_fpn", "transxnet_atto", num_classes=3).eval()
    watched = watch_scores(net, torch.rand(1, 3, 64, 64), Layer(cam_layer(net.backbone.body, 1)))
    scores = watched.outputs.detach()
    region = torch.zeros(64, 64, dtype=torch.bool)
    region[:10, :20] = True
    assert watched.map(region_score(2, region)).score == pytest.approx(float(scores[0, 2, :10, :20].mean()), rel=1e-5)
    label = int(scores[0].argmax(0)[0, 0])
    inside = scores[0].argmax(0) == label
    assert watched.map(region_score(label)).score == pytest.approx(float(scores[0, label][inside].mean()), rel=1e-5)


def test_what_cannot_be_shown_is_one_sentence(net):
    image = torch.randn(1, 3, 64, 64)
    watched = watch_scores(net, image, Layer(cam_layer(net)))
    for score, method, words in (
        (class_score(5), "grad", "no class 5 among 5"),
        (class_score(0), "plus", "method must be"),
        (lambda logits: logits.detach().sum(), "grad", "does not depend"),
    ):
        with pytest.raises(FovealError, match=words):
            watched.map(score, method)
    with pytest.raises(FovealError, match="one image"):
        watch_scores(net, image.expand(2, -1, -1, -1), Layer(cam_layer(net)))
    with pytest.raises(FovealError, match="no module"):
        watch_scores(net, image, Layer("neck"))
    with pytest.raises(FovealError, match="four dimensions"):
        watch_scores(net, image, Layer(net.head))


def test_a_folded_network_has_the_map_of_the_original():
    torch.manual_seed(0)
    net = timm.create_model("transxnet_atto", num_classes=5).eval()
    image, fast = torch.randn(1, 3, 64, 64), foveal.optimize(net, memory=False)
    ours, theirs = (watch_scores(n, image, Layer(cam_layer(n, 1))).map(class_score(0), "hires") for n in (fast, net))
    np.testing.assert_allclose(ours.evidence, theirs.evidence, rtol=1e-3, atol=1e-6 * np.abs(theirs.evidence).max())


@pytest.mark.parametrize("name", ["convnext_atto", "test_resnet", "swin_tiny_patch4_window7_224"])
def test_stages_of_timm_are_known_with_their_layout(name):
    net = timm.create_model(name, num_classes=2, **({"img_size": 64} if name.startswith("swin") else {})).eval()
    image = torch.randn(1, 3, 64, 64)
    for stage, map_of_stage in zip((-2, -1), net.forward_intermediates(image, indices=2)[1], strict=True):
        found = watch_scores(net, image, stage_layer(net, stage)).map(class_score(0))
        assert found.evidence.shape == map_of_stage.shape[2:]


def test_a_run_by_another_thread_is_not_recorded():
    """Another thread calls the watched layer while it is watched."""
    net = timm.create_model("transnext_atto", num_classes=5).eval()
    x, layer = torch.randn(1, 3, 64, 64), Layer(cam_layer(net))
    expected = watch_scores(net, x, layer).map(class_score(0)).evidence
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        main = threading.get_ident()

        def run(*_):
            if threading.get_ident() == main:
                pool.submit(net, -x).result(60)

        handle = net.stages[0].register_forward_pre_hook(run)
        found = watch_scores(net, x, layer).map(class_score(0)).evidence
        handle.remove()
    np.testing.assert_array_equal(found, expected)
