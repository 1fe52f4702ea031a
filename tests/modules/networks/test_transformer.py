"""The transformer: what a position sees, how many weights there are, and how they begin."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.fit import check_net
from modules.networks.transformer import Attention, Transformer


def small(**arguments):
    torch.manual_seed(0)
    return Transformer((8,), (11,), **{"width": 12, "depth": 2, "heads": 3} | arguments).double()


@pytest.mark.parametrize("place", range(8))
def test_a_token_changes_what_follows_it_and_nothing_before(place):
    net = small()
    ids = torch.arange(8)[None] % 11
    other = ids.clone()
    other[0, place] = 10
    change = (net(ids) - net(other)).abs().sum(2)[0]
    assert (change[:place] == 0).all()
    assert (change[place:] > 0).all()


def test_in_both_directions_a_token_changes_all_places_and_their_order_counts_by_position_alone():
    net = small(causal=False)
    ids = torch.arange(8)[None] % 11
    other = ids.clone()
    other[0, 5] = 10
    assert ((net(ids) - net(other)).abs().sum(2) > 0).all()
    with torch.no_grad():
        net.position.weight.zero_()
    torch.testing.assert_close(net(ids.flip(1)), net(ids).flip(1))


def test_a_shorter_text_is_the_beginning_of_a_longer_one():
    net, ids = small(), torch.arange(8)[None]
    torch.testing.assert_close(net(ids[:, :5]), net(ids)[:, :5])
    with pytest.raises(UserError, match="a text of 9 tokens"):
        net(torch.arange(9)[None])


def test_attention_is_the_softmax_of_scaled_products():
    torch.manual_seed(0)
    layer = Attention(width=6, heads=2, dropout=0.0, bias=True).double()
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    query, key, value = layer.inward(x)[0].chunk(3, dim=1)
    parts = []
    for head in (slice(0, 3), slice(3, 6)):
        scores = query[:, head] @ key[:, head].T / 3**0.5
        scores[torch.triu(torch.ones(4, 4), 1).bool()] = -torch.inf
        parts.append(scores.softmax(1) @ value[:, head])
    torch.testing.assert_close(layer(x)[0], layer.outward(torch.cat(parts, dim=1)))


@pytest.mark.parametrize("bias", [False, True])
def test_the_number_of_weights(bias):
    width, depth, context, vocabulary = 12, 2, 8, 11
    # A block: 3 w^2 + w^2 of attention, 4 w^2 + 4 w^2 of the MLP, two norms; biases 3 w + w + 4 w + w, and two norms'.
    block = 12 * width**2 + 2 * width + bias * (9 * width + 2 * width)
    expected = vocabulary * width + context * width + depth * block + width + bias * width
    assert sum(parameter.numel() for parameter in small(bias=bias).parameters()) == expected


def test_gpt2_has_124_million_weights():
    with torch.device("meta"):
        net = Transformer((1024,), (50257,), width=768, depth=12, heads=12, bias=True)
    assert sum(parameter.numel() for parameter in net.parameters()) == 124_439_808


def test_weights_begin_as_in_gpt2():
    torch.manual_seed(0)
    net = Transformer((64,), (256,), width=128, depth=8, heads=4, bias=True)
    for name, weight in net.named_parameters():
        if weight.dim() == 2:
            std = 0.02 / 4 if "outward" in name or "narrow" in name else 0.02
            assert weight.std().item() == pytest.approx(std, rel=0.05), name
        else:
            assert (weight == (1.0 if name.endswith(("attention.weight", "mlp.weight", "norm.weight")) else 0.0)).all()
    logits = net(torch.randint(256, (4, 64)))
    uniform = torch.full((4 * 64,), 256.0).log().mean()
    loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(256, (4 * 64,)))
    assert loss.item() == pytest.approx(uniform.item(), rel=0.02)


def test_dropout_acts_in_training_alone():
    net, ids = small(dropout=0.5), torch.arange(8)[None]
    assert not torch.equal(net(ids), net(ids))
    net.eval()
    assert torch.equal(net(ids), net(ids))


def test_what_it_reads():
    check_net("modules.networks.transformer.Transformer", "text")
    with pytest.raises(UserError, match=r"reads text data"):
        check_net("modules.networks.transformer.Transformer", "image")
    with pytest.raises(UserError, match=r"nets that would do: .*transformer"):
        check_net("modules.networks.cnn.CNN", "text")
    with pytest.raises(UserError, match=r"net\.heads=5 do not divide net\.width=12"):
        small(heads=5)
