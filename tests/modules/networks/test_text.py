"""What networks make of the order of words."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from modules.networks.caption_decoder import CaptionDecoder
from modules.networks.text import CrossAttention, TextEncoder, places
from modules.networks.text_dit import TextDiT
from modules.networks.text_mlp import TextMLP

SHAPE = (2, 4, 4)


def nets(**changes):
    torch.manual_seed(0)
    arguments = {"in_shape": SHAPE, "out_shape": SHAPE, "words": 7, "read": 1, "time": True, **changes}
    dit, mlp = TextDiT(width=16, heads=2, depth=2, **arguments), TextMLP(width=16, text=8, heads=2, **arguments)
    for block in dit.blocks:  # as if it had been trained: what starts at zero says nothing of words
        torch.nn.init.normal_(block.modulation.weight)
    torch.nn.init.normal_(dit.last.weight)
    return [dit.double(), mlp.double()]


def test_places_are_sines_and_cosines():
    found = places(torch.zeros(1, 3, 4, dtype=torch.float64))
    rows = [[math.sin(i), math.cos(i), math.sin(i / 100), math.cos(i / 100)] for i in range(3)]
    torch.testing.assert_close(found, torch.tensor(rows, dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("ordered", "tenor"), [(False, False), (True, False), (False, True)])
def test_without_places_words_are_a_set_and_with_them_a_sequence(ordered, tenor):
    x, t = torch.randn(2, *SHAPE).double(), torch.rand(2).double()
    y = torch.tensor([[2, 3, 4, 0], [5, 5, 6, 0]])
    for net in nets(ordered=ordered, tenor=tenor):
        apart = (net(x, t, y) - net(x, t, y[:, [2, 0, 3, 1]])).abs().amax((1, 2, 3))
        other = (net(x, t, y) - net(x, t, y.roll(1, 0))).abs().amax((1, 2, 3))
        assert (other > 1e-4).all()  # it reads them at all
        assert (apart > 1e-4).all() if ordered or tenor else (apart < 1e-12).all()


def test_tenor_changes_keys_alone_by_hand():
    """Values and weights as without it; two words, one head, all maps the identity."""
    attention = CrossAttention(4, 4, 1, True, 4).double()
    for layer in (attention.query, attention.key, attention.value, attention.outward):
        layer.weight.data, layer.bias.data = torch.eye(4).double(), torch.zeros(4).double()
    x, words = torch.randn(1, 1, 4).double(), torch.randn(1, 2, 4).double()
    e = torch.tensor([[0, 1, 0, 1], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]], dtype=torch.float64)
    weights = ((words[0] + e) @ x[0, 0] / 2).softmax(0)
    torch.testing.assert_close(attention(x, words)[0, 0], weights @ words[0], rtol=0, atol=1e-7)
    attention.tenor = False
    torch.testing.assert_close(attention(x, words)[0, 0], (words[0] @ x[0, 0] / 2).softmax(0) @ words[0])


def test_tenor_has_no_weights():
    for plain, tenor in zip(nets(), nets(tenor=True), strict=True):
        assert plain.load_state_dict(tenor.state_dict()).missing_keys == []


def test_no_caption_is_the_empty_one():
    x, t = torch.randn(2, *SHAPE).double(), torch.rand(2).double()
    for net in nets():
        hidden, empty = (torch.full((2, 3), value) for value in (-1, 0))
        torch.testing.assert_close(net(x, t, hidden), net(x, t, empty), rtol=0, atol=0)
        assert net(x, t).shape == (2, *SHAPE)


def test_a_word_is_predicted_from_the_picture_and_the_words_before():
    torch.manual_seed(0)
    net = CaptionDecoder(SHAPE, (7,), patch=2, width=8, depth=2, heads=2).double()
    x, caption = torch.randn(3, *SHAPE).double(), torch.randint(7, (3, 4))
    logits = net(x, caption)
    assert logits.shape == (3, 5, 7)
    other = caption.clone()
    other[:, 2] = (other[:, 2] + 1) % 7
    changed = (net(x, other) - logits).abs().amax(2) > 1e-9
    assert changed.tolist() == [[False, False, False, True, True]] * 3
    torch.testing.assert_close(net(x, caption[:, :2]), logits[:, :3])
    assert ((net(x + 1, caption) - logits).abs().amax(2) > 1e-9).all()


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(UserError, match=r"net\.patch=3"):
        CaptionDecoder(SHAPE, (7,), patch=3)
    with pytest.raises(UserError, match=r"net\.heads=3"):
        CaptionDecoder(SHAPE, (7,), heads=3)
    with pytest.raises(UserError, match="3 heads"):
        TextEncoder(7, 8, 1, 3, True)
