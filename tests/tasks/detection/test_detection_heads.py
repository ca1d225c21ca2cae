"""The layers of the heads compared with PyTorch functions with the same weights: order and ReLUs."""

import pytest
import torch
import torch.nn.functional as F

from foveal.tasks.detection.retinanet import DenseHead
from foveal.tasks.detection.roi_heads import BoxHead, MaskHead
from foveal.tasks.detection.rpn import ProposalHead


def drawn(head):
    """The head in double precision with random weights, and its state dict."""
    for parameter in head.double().parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head, head.state_dict()


def conv(x, state, name, **settings):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **settings)


def linear(x, state, name):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def test_the_proposal_head_equals_plain_layers():
    head, state = drawn(ProposalHead(4, 3))
    maps = [torch.randn(2, 4, *size).double() for size in ((5, 7), (3, 4))]
    for m, objectness, boxes in zip(maps, *head(maps), strict=True):
        hidden = conv(m, state, "conv", padding=1).relu()
        torch.testing.assert_close(objectness, conv(hidden, state, "objectness"))
        torch.testing.assert_close(boxes, conv(hidden, state, "box"))


def test_the_box_head_equals_plain_layers():
    """Flattening in the order channels, rows, columns; two hidden layers; four values per class."""
    head, state = drawn(BoxHead(2, 16, 3))
    features = torch.randn(5, 2, 7, 7).double()
    logits, codes = head(features)
    hidden = linear(linear(features.reshape(5, 98), state, "fc1").relu(), state, "fc2").relu()
    torch.testing.assert_close(logits, linear(hidden, state, "classifier"))
    torch.testing.assert_close(codes[:, 2], linear(hidden, state, "box")[:, 8:12])
    assert logits.shape == (5, 4)
    assert codes.shape == (5, 3, 4)


@pytest.mark.parametrize("convs", [0, 2])
def test_the_mask_head_equals_plain_layers(convs):
    head, state = drawn(MaskHead(4, convs, 3))
    features = x = torch.randn(5, 4, 14, 14).double()
    for i in range(convs):
        x = conv(x, state, f"convs.{i}", padding=1).relu()
    x = F.conv_transpose2d(x, state["upsample.weight"], state["upsample.bias"], stride=2).relu()
    torch.testing.assert_close(head(features), conv(x, state, "logits"))
    assert head(features).shape == (5, 3, 28, 28)


def test_the_dense_head_equals_plain_layers():
    """Two towers with a ReLU after each convolution; the outputs of a cell are ordered by anchor, then by class."""
    head, state = drawn(DenseHead(4, 2, 9, 3))
    maps = [torch.randn(2, 4, *size).double() for size in ((5, 7), (3, 4))]
    for m, logits, codes in zip(maps, *head(maps), strict=True):
        for tower, last, numbers, found in (("class_tower", "classifier", 3, logits), ("box_tower", "box", 4, codes)):
            x = m
            for i in range(2):
                x = conv(x, state, f"{tower}.{i}", padding=1).relu()
            expected = conv(x, state, last, padding=1)
            height, width = m.shape[-2:]
            assert found.shape == (2, height * width * 9, numbers)
            at = (2 * width + 3) * 9 + 5  # row 2, column 3, anchor 5
            torch.testing.assert_close(found[:, at], expected[:, 5 * numbers : 6 * numbers, 2, 3])
