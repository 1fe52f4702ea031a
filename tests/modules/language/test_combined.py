"""Several networks as one: the normalised product of their laws, whole and piece by piece."""

from __future__ import annotations

import torch
from torch import nn

from modules.language.combined import LogLinear
from modules.language.generation import write
from modules.networks.transformer import Transformer
from modules.preference.policy import token_log_probs


class Wide(nn.Module):
    """A network without a cache, which looks at all that was before."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 7)

    def forward(self, ids):
        return self.table(ids).cumsum(1)


def nets():
    torch.manual_seed(0)
    made = [Transformer((16,), (7,), width=16, depth=2, heads=2), Transformer((16,), (7,), width=8, depth=1, heads=1)]
    for net in made:
        nn.init.normal_(net.token.weight, std=0.3)
    return [*made, Wide()]


WEIGHTS = (1.0, 0.7, -0.4)
PROMPTS, LENGTHS = torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0], [6, 6, 0, 0]]), torch.tensor([4, 1, 2])


def test_it_is_the_normalised_product_in_float64():
    parts = [net.double().eval() for net in nets()]
    ids = torch.randint(7, (5, 9))
    found = LogLinear(parts, WEIGHTS)(ids).softmax(2)
    powers = [net(ids).softmax(2) ** weight for net, weight in zip(parts, WEIGHTS, strict=True)]
    product = powers[0] * powers[1] * powers[2]
    torch.testing.assert_close(found, product / product.sum(2, keepdim=True), rtol=1e-12, atol=1e-14)


def test_it_writes_from_the_caches_of_its_parts_and_rereads_for_those_that_have_none():
    net = LogLinear(nets(), WEIGHTS).eval()
    torch.manual_seed(1)
    written = write(net, PROMPTS, LENGTHS, 6, end=0, samples=40)
    again = token_log_probs(net, written.ids, written.answer)
    torch.testing.assert_close(written.log_probs[:, 1:], again.detach(), rtol=0, atol=2e-5)
    cache = net.cache(2, 10)
    ids = torch.randint(7, (2, 8))
    pieces = torch.cat([net.advance(ids[:, :5], cache, keep=2), net.advance(ids[:, 5:], cache)], 1)
    assert cache.length == 8
    torch.testing.assert_close(pieces, net(ids)[:, 3:].detach(), rtol=0, atol=1e-5)
