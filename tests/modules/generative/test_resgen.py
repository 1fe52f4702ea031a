"""Masks, quantization and the mixture beside counts and sums by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from compendium.compose import compose
from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec

SPEC = DataSpec("pictures", "image", (1, 4, 4), "class", ("a", "b", "c"), bounds=(-1.0, 1.0))


def made(name="resgen", net="dit", **changes):
    values = compose([f"model=generative/{name}"]).values
    sizes = {"width": 16, "depth": 1, "heads": 2}
    torch.manual_seed(0)
    method = instantiate({**values["model"], **changes}, SPEC, net={**values["net"], **sizes})
    books = method.tokenizer.books()
    with torch.no_grad():
        for j, layer in enumerate(method.tokenizer.quantizer.layers):
            layer._codebook.embed.copy_(torch.randn_like(books[j]) * 0.3**j)
            layer._codebook.initted.fill_(True)
        for weight in method.net.parameters():
            weight.normal_(std=0.2)
    return method.eval()


def test_masks_are_as_many_as_asked_and_follow_the_hypergeometric_law():
    """n of L D = 16 slots: k of a place's 4 are masked with probability C(4, k) C(12, n - k) / C(16, n)."""
    method, n = made(), 6
    k = method.masked(torch.full((20_000,), n))
    assert k.shape == (20_000, 4)
    assert set(k.sum(1).tolist()) == {n}
    shares = torch.bincount(k.flatten(), minlength=5) / k.numel()
    exact = [math.comb(4, j) * math.comb(12, n - j) / math.comb(16, n) for j in range(5)]
    torch.testing.assert_close(shares, torch.tensor(exact), atol=0.01, rtol=0)


def test_the_last_depths_are_the_masked_ones():
    hidden = made().hidden(torch.tensor([[0, 1, 3, 4]]))
    assert hidden.int().tolist() == [[[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]]]


def test_a_sum_of_vectors_is_taken_apart_greedily_behind_what_is_seen():
    """By hand, one place after the other."""
    method = made()
    books = method.tokenizer.books()
    tokens = torch.randint(32, (1, 4, 4))
    hidden = method.hidden(torch.tensor([[0, 2, 3, 4]]))
    z = torch.randn(1, 4, method.tokenizer.features)
    found = method.quantized(z, hidden, tokens)
    for i, k in enumerate((0, 2, 3, 4)):
        expected, left = tokens[0, i].clone(), z[0, i]
        for j in range(4 - k, 4):
            expected[j] = (left - books[j]).square().sum(1).argmin()
            left = left - books[j][expected[j]]
        assert torch.equal(found[0, i], expected)


def test_the_loss_is_the_density_of_the_hidden_sums():
    """With a network that says nothing the law is a mixture of N(centre, 1), equally weighted."""
    method = made()
    for weight in method.net.parameters():
        weight.data.zero_()
    y, x = torch.tensor([0, 2]), torch.randn(2, 1, 4, 4)
    torch.manual_seed(5)
    loss = method.loss(Labelled(x, y))
    torch.manual_seed(5)
    share = torch.cos(0.5 * math.pi * torch.rand(2))
    k = method.masked((share * 16).ceil())
    vectors = method.tokenizer.vectors(method.tokenizer.tokens(x))
    total, places = 0.0, 0
    for b in range(2):
        for i in range(4):
            masks = int(k[b, i])
            if masks:
                z = vectors[b, i, 4 - masks :].sum(0)
                squared = (z - method.centres).square().sum(1)
                terms = -0.5 * squared - 0.5 * z.numel() * math.log(2 * math.pi)
                total -= float((terms.logsumexp(0) - math.log(method.components)).detach())
                places += z.numel()
    assert float(loss.detach()) == pytest.approx(total / places, rel=1e-5)


@pytest.mark.parametrize("order", ["random", "confidence"])
def test_a_draw_unmasks_on_schedule_and_keeps_what_it_has(order):
    method = made(order=order, steps=5)
    seen = []
    own = method.quantized
    method.quantized = lambda z, hidden, tokens: seen.append((hidden, own(z, hidden, tokens))) or seen[-1][1]
    tokens = method.tokens_of(torch.tensor([0, 1, 2]))
    assert tokens.shape == (3, 4, 4)
    assert method.function_evaluations() == 5
    counts = [hidden.sum((1, 2)).unique().tolist() for hidden, _ in seen]
    assert counts == [[16], *([math.floor(16 * math.cos(math.pi * s / 10))] for s in range(1, 5))]
    for (_, before), (hidden, after) in pairwise(seen):
        assert torch.equal(before[~hidden], after[~hidden])
    assert method.sample_of(torch.tensor([0, 1])).shape == (2, 1, 4, 4)


def test_the_surest_tokens_stay_where_there_is_no_noise():
    method = made()
    k = torch.tensor([[4, 4, 2, 0]])
    left = method.kept(torch.tensor([[0.0, 5.0, 3.0, -9.0]]), k, n=4, temperature=0.0)
    assert left.tolist() == [[4, 0, 0, 0]]


def test_tokens_one_by_one_have_the_probability_of_the_chain():
    """The loss is the mean of what each token costs after those before it, asked for one at a time."""
    method = made("autoregressive_tokens", net="transformer").double()
    x, y = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.tensor([1, 2])
    tokens = method.tokenizer.tokens(x)
    words = method.text(tokens)
    total = 0.0
    for t in range(16):
        log_p = method.log_probs(y, words[:, :t])[:, -1].double()
        torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2, dtype=log_p.dtype))
        total -= log_p.gather(1, tokens.flatten(1)[:, t, None]).sum()
    torch.testing.assert_close(method.loss(Labelled(x, y)).double(), total / 32, rtol=1e-5, atol=1e-6)
    drawn = method.tokens_of(y)
    assert drawn.shape == (2, 4, 4)
    assert method.function_evaluations() == 16
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"steps": 0}, "steps=0"), ({"components": 0}, "components=0"), ({"order": "best"}, "best")],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        made(**changes)
