"""A text that is read piece by piece has the logits of the whole text."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.networks.bigram import Bigram
from modules.networks.cache import CachedNet
from modules.networks.transformer import Transformer

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05}


def transformer(dtype=torch.float64, **more):
    torch.manual_seed(0)
    net = Transformer((16,), (11,), **({"width": 24, "depth": 3, "heads": 4, "bias": True} | more)).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return net.to(dtype)


def bigram(dtype=torch.float64):
    net = Bigram((16,), (11,)).to(dtype)
    torch.nn.init.normal_(net.table.weight)
    return net


def pieces(net, ids, *sizes):
    cache = net.cache(*ids.shape)
    return torch.cat([net.advance(part, cache) for part in ids.split(sizes, 1)], 1)


@pytest.mark.parametrize("make", [transformer, bigram])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("sizes", [(5, *[1] * 11), (1,) * 16, (3, 4, 1, 8), (16,)])
def test_pieces_have_the_logits_of_the_whole_text(make, dtype, sizes):
    net = make(dtype)
    ids = torch.randint(11, (3, 16))
    expected = net(ids)
    found = pieces(net, ids, *sizes)
    assert isinstance(net, CachedNet)
    assert found.dtype == dtype
    assert not found.requires_grad
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected.detach(), atol=TOLERANCE[dtype] * max(1.0, scale), rtol=0)


@pytest.mark.parametrize("make", [transformer, bigram])
def test_rows_are_selected_repeated_and_independent_of_what_they_came_from(make):
    net, ids = make(), torch.randint(11, (3, 16))
    cache = net.cache(3, 16)
    net.advance(ids[:, :6], cache)
    rows = torch.tensor([2, 0, 0, 2])
    chosen = cache.select(rows)
    ends = torch.randint(11, (4, 3))
    found = net.advance(ends, chosen)
    with torch.no_grad():
        torch.testing.assert_close(found, net(torch.cat([ids[rows, :6], ends], 1))[:, 6:])
        torch.testing.assert_close(net.advance(ids[:, 6:], cache), net(ids)[:, 6:])
    assert (chosen.length, cache.length) == (9, 16)


@pytest.mark.parametrize("make", [transformer, bigram])
def test_texts_that_have_become_equally_long_join(make):
    net, ids = make(), torch.randint(11, (5, 16))
    grown, begun = net.cache(3, 16), net.cache(2, 16)
    net.advance(ids[:3, :4], grown)
    net.advance(ids[:3, 4:7], grown)
    net.advance(ids[3:, :7], begun)
    joined = grown.join(begun)
    torch.testing.assert_close(net.advance(ids[:, 7:], joined), net(ids)[:, 7:].detach())
    torch.testing.assert_close(net.advance(ids[:3, 7:], grown), net(ids)[:3, 7:].detach())


@pytest.mark.parametrize("make", [transformer, bigram])
def test_what_is_cropped_is_forgotten(make):
    net, ids = make(), torch.randint(11, (3, 12))
    cache = net.cache(3, 16)
    net.advance(ids[:, :9], cache)
    cache.crop(5)
    ends = torch.randint(11, (3, 4))
    expected = net(torch.cat([ids[:, :5], ends], 1))[:, 5:].detach()
    torch.testing.assert_close(net.advance(ends, cache), expected)
    assert cache.length == 9


@pytest.mark.parametrize("make", [transformer, bigram])
def test_of_a_long_piece_the_last_logits_alone(make):
    net, ids = make(), torch.randint(11, (2, 9))
    torch.testing.assert_close(net.advance(ids, net.cache(2, 9), keep=2), net(ids)[:, -2:].detach())


def test_under_autocast_it_is_forward_under_autocast():
    net, ids = transformer(torch.float32), torch.randint(11, (2, 9))
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = net(ids), pieces(net, ids, 4, 1, 1, 3)
    torch.testing.assert_close(found, expected.detach(), atol=0.3, rtol=0.05)


def test_no_cache_of_what_reads_in_both_directions_or_of_longer_texts_than_it_reads():
    with pytest.raises(UserError, match="cannot go on"):
        transformer(causal=False).cache(1, 4)
    with pytest.raises(UserError, match="a text of 17 tokens"):
        transformer().cache(1, 17)
