"""Samplers of text whose figures are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from callbacks.evaluation.token_samples import TokenSamples, pair_divergence
from compendium.seeding import generator
from datamodules.presentations.token_records import TokenRecords
from datamodules.sources.chains import Chain
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.datamodules.fakes import text

SOURCE = Chain(letters=4, successors=2, length=16, train=50, validation=10, test=2000)


class Exact(Fake):
    """Draws from the law of the source, letters a to d being tokens 2 to 5, and calls a network twice per chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Identity()
        self.asked = []

    def sample(self, n):
        self.asked.append(n)
        self.net(self.net(torch.zeros(1)))
        return 2 + SOURCE.draw(n, generator(int(torch.randint(2**40, ()))))


class Same(Fake):
    """The same letter over and over."""

    def __init__(self, token) -> None:
        super().__init__()
        self.token = token

    def sample(self, n):
        return torch.full((n, 16), self.token)


def test_exact_draws_are_as_likely_as_records(tmp_path):
    method = Exact()
    got = evaluate(method, TokenRecords(SOURCE), TokenSamples(n=2000, chunk=300), folder=tmp_path)
    assert method.asked == [300] * 6 + [200]
    assert got["calls"] == 2
    real = -SOURCE.log_prob(SOURCE.load().documents["test"]) / 16
    assert got["sample_excess"] == pytest.approx(0, abs=4.5 * float(real.std()) * (2 / 2000) ** 0.5)
    assert got["sample_nll"] - got["sample_excess"] == pytest.approx(float(real.mean()), rel=1e-9)
    # 2 n KL of about 15 degrees of freedom, of pairs that are not quite independent.
    assert 0 < 2 * 2000 * 15 * got["pair_kl"] < 60
    letters = torch.cat([torch.full((1, 4), 0.25).double(), SOURCE.pairs().sum(0, keepdim=True) * 15]).sum(0) / 16
    assert got["sample_entropy"] == pytest.approx(float(torch.special.entr(letters).sum()), abs=0.01)


def test_one_letter_by_hand(tmp_path):
    got = evaluate(Same(3), TokenRecords(SOURCE), TokenSamples(n=10), folder=tmp_path)
    assert got["sample_entropy"] == 0
    assert got["sample_nll"] == pytest.approx((math.log(4) - 15 * math.log(SOURCE.transition[0, 1, 1])) / 16, rel=1e-9)
    assert got["pair_kl"] == pytest.approx(-math.log(SOURCE.pairs()[1, 1]), rel=1e-9)
    assert "calls" not in got
    assert pair_divergence(SOURCE, ["b" * 16]) == got["pair_kl"]


class Mixed(Fake):
    """Every other draw is of separators."""

    def sample(self, n):
        return torch.full((n, 16), 3) * (torch.arange(n) % 2)[:, None]


def test_draws_of_other_characters_are_counted_and_left_out(tmp_path):
    got = evaluate(Mixed(), TokenRecords(SOURCE), TokenSamples(n=10), folder=tmp_path)
    same = evaluate(Same(3), TokenRecords(SOURCE), TokenSamples(n=10), folder=tmp_path)
    assert (got["foreign"], same["foreign"]) == (0.5, 0)
    assert got["sample_nll"] == pytest.approx(same["sample_nll"], rel=1e-12)
    assert got["pair_kl"] == same["pair_kl"]
    got = evaluate(Same(0), TokenRecords(SOURCE), TokenSamples(n=10), folder=tmp_path)
    assert got["foreign"] == 1
    assert math.isnan(got["sample_nll"])
    assert math.isnan(got["pair_kl"])


def test_text_without_a_law_has_entropy_alone(tmp_path):
    data = TokenRecords(text("abc" * 4, validation=["a"], test=["b"]), context=16)
    got = evaluate(Same(3), data, TokenSamples(n=10), folder=tmp_path)
    assert set(got) == {"sample_entropy"}
