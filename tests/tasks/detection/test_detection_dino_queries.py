"""Mixed query selection, and look forward twice."""

import pytest
import torch
from torch import nn

from foveal.tasks.detection.dino import Settings
from foveal.tasks.detection.dino.levels import Flatten
from foveal.tasks.detection.dino.queries import Heads, QuerySelection, propose
from foveal.tasks.detection.dino.transformer import Decoder, refine

DIM = 64


def one_level(height, width, size=None, padded=None):
    """A level with a stride of 8 pixels."""
    padded = padded or (8 * height, 8 * width)
    return Flatten(1, DIM)([torch.randn(1, DIM, height, width)], [size or padded], padded)


class FirstNumbers(nn.Module):
    """A head that returns the first values of a token, set by the test."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, states):
        return states[..., : self.count]


def selection_of(queries):
    """A query selection whose states are the memory itself."""
    selection = QuerySelection(queries, DIM)
    selection.project, selection.norm = nn.Identity(), nn.Identity()
    return selection


def test_proposals_are_centred_at_tokens_and_double_in_size_per_level():
    levels = Flatten(2, DIM)([torch.zeros(1, DIM, 2, 2), torch.zeros(1, DIM, 1, 1)], [(16, 16)], (16, 16))
    boxes, able = propose(levels)
    want = [[x, y, 0.05, 0.05] for y in (0.25, 0.75) for x in (0.25, 0.75)] + [[0.5, 0.5, 0.1, 0.1]]
    torch.testing.assert_close(boxes.sigmoid()[0], torch.tensor(want))
    assert able.all()


def test_tokens_at_the_border_and_in_the_padding_have_no_proposals():
    """The outer of 60 columns are centred at 0.5 / 60, closer than 0.01 to the border; padding starts at column 60."""
    levels = one_level(2, 64, size=(16, 480), padded=(16, 512))
    boxes, able = propose(levels)
    assert able[0, :64].tolist() == [False] + [True] * 58 + [False] * 5
    assert boxes[0, :64][~able[0, :64]].isposinf().all()
    assert boxes[0, :64][able[0, :64]].isfinite().all()


def test_tokens_with_the_highest_class_scores_are_selected_in_order():
    levels, memory = one_level(1, 5), torch.zeros(1, 5, DIM)
    memory[0, :, :2] = torch.tensor([[0.1, 0.9], [0.8, 0.0], [0.3, 0.3], [-1.0, 2.0], [0.0, 0.2]])
    selection = selection_of(3)
    found = selection(memory, levels, FirstNumbers(2), FirstNumbers(4))
    assert found.tokens.tolist() == [[3, 0, 1]]
    assert torch.equal(found.logits, memory[:, [3, 0, 1], :2])
    proposals, _ = propose(levels)
    torch.testing.assert_close(found.boxes, (memory[:, [3, 0, 1], :4] + proposals[:, [3, 0, 1]]).sigmoid())


def test_content_queries_are_learned_and_independent_of_tokens():
    levels, memory = one_level(1, 5), torch.randn(1, 5, DIM, requires_grad=True)
    selection = selection_of(3)
    found = selection(memory, levels, FirstNumbers(2), FirstNumbers(4))
    assert torch.equal(found.content[0], selection.content.weight)
    assert torch.autograd.grad(found.content.sum(), memory, allow_unused=True) == (None,)


def test_fewer_tokens_than_queries_are_all_selected():
    levels, memory = one_level(1, 5), torch.randn(1, 5, DIM)
    found = selection_of(9)(memory, levels, FirstNumbers(2), FirstNumbers(4))
    assert sorted(found.tokens[0].tolist()) == [0, 1, 2, 3, 4]
    assert found.content.shape == (1, 5, DIM)


@pytest.fixture
def decoded():
    """A decoder of three layers with heads that move boxes, and its outputs for four queries."""
    settings = Settings(dim=DIM, heads=4, points=2, mlp_dim=16, decoder_layers=3)
    decoder, heads = Decoder(settings).double(), Heads(2, DIM, 3).double()
    nn.init.uniform_(decoder.norm.weight)
    for head in heads.boxes:
        nn.init.normal_(head.layers[-1].weight)
    maps = [torch.randn(1, DIM, side, side, dtype=torch.float64) for side in (4, 2, 1, 1)]
    levels = Flatten(4, DIM).double()(maps, [(32, 32)], (32, 32))
    boxes = (0.2 + 0.5 * torch.rand(1, 4, 4, dtype=torch.float64)).requires_grad_()
    content = torch.randn(1, 4, DIM, dtype=torch.float64, requires_grad=True)
    queries, starts = decoder(content, boxes, levels.tokens, levels, heads.boxes, None)
    _, found = heads(queries, starts)
    return decoder, heads, boxes, queries, starts, found


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_box_loss_reaches_the_box_heads_of_its_own_and_the_previous_layer(decoded, layer):
    _, heads, _, _, _, found = decoded
    # Queries depend on earlier content with gradients, and on earlier boxes without.
    found[layer].sum().backward()
    gradients = [head.layers[-1].bias.grad for head in heads.boxes]
    reached = [gradient is not None and bool(gradient.any()) for gradient in gradients]
    assert reached == [number in (layer, layer - 1) for number in range(4)]


def test_a_box_loss_propagates_through_the_refinement_of_the_previous_layer(decoded):
    """d box_1 / d bias of head 0 is the slope of box_1's sigmoid: logit undoes the previous one except at borders."""
    _, heads, _, _, _, found = decoded
    (gradient,) = torch.autograd.grad(found[1].sum(), heads.boxes[0].layers[-1].bias)
    slope = found[1] * (1 - found[1])
    torch.testing.assert_close(gradient, slope.sum((0, 1)).detach(), atol=1e-10, rtol=0)


def test_the_first_boxes_get_no_gradient_from_later_layers(decoded):
    _, _, boxes, _, starts, found = decoded
    assert torch.equal(starts[0], boxes)
    (later,) = torch.autograd.grad(found[1:].sum(), boxes, allow_unused=True, retain_graph=True)
    assert later is None or later.abs().max() == 0


def test_boxes_are_refined_from_queries_before_the_norm(decoded):
    """Predictions use normalised queries; the refinement for the next layer uses them before the norm."""
    _, heads, _, queries, starts, found = decoded
    assert torch.allclose(found[1], refine(heads.boxes[1](queries[1]), starts[1]))
    assert not torch.allclose(starts[1], found[0])


def test_refinement_clamps_boxes_by_eps():
    boxes = torch.tensor([0.0, 1.0, 0.5])
    assert refine(torch.zeros(3), boxes, 1e-3).tolist() == pytest.approx([0.001 / 1.001, 1 / 1.001, 0.5], abs=1e-7)


def test_heads_start_with_a_probability_of_001_and_unchanged_boxes():
    heads = Heads(3, DIM, 2)
    starts = torch.rand(2, 1, 5, 4) * 0.8 + 0.1
    logits, boxes = heads(torch.zeros(2, 1, 5, DIM), starts)
    assert logits.sigmoid().flatten().tolist() == pytest.approx([0.01] * 30)
    torch.testing.assert_close(boxes, starts)
    assert torch.equal(heads(torch.randn(2, 1, 5, DIM), starts)[1], boxes)
