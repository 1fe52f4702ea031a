"""Samplers with one known flaw each."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.divergence import Divergence
from callbacks.evaluation.fidelity import Fidelity
from callbacks.evaluation.modes import Modes
from callbacks.evaluation.samples import CHUNK, Samples
from compendium.errors import UserError
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Grid
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Flawed(Fake):
    """Draws training records, some of them alone, or with noise."""

    def __init__(self, pool, noise=0.0):
        super().__init__()
        self.pool, self.noise, self.calls = pool, noise, []

    def sample(self, n):
        self.calls.append(n)
        x = self.pool[torch.randint(len(self.pool), (n,))]
        return x + self.noise * torch.randn_like(x)


@pytest.fixture(scope="module")
def digits():
    data = UnlabelledData(Digits())
    data.setup()
    return data


def test_each_flaw_lowers_its_own_figure(digits, tmp_path):
    x, y = digits.records("train").x, digits.columns["y"][digits.rows["train"]]
    good, noisy, dropped = (
        evaluate(method, digits, Fidelity(), folder=tmp_path)
        for method in (Flawed(x), Flawed(x, noise=0.8), Flawed(x[y < 3]))
    )
    assert good["precision"] > 0.75
    assert good["recall"] > 0.6
    assert good["diversity"] == pytest.approx(1, abs=0.05)
    assert noisy["precision"] < good["precision"] - 0.3
    assert noisy["realism"] < good["realism"]
    assert dropped["precision"] > 0.75
    assert dropped["recall"] < 0.4  # 3 of 10 classes
    assert dropped["diversity"] < 0.95


def test_equally_many_are_compared(tmp_path):
    """Of vectors the features are the vectors: 20 records, 50 draws, of which the first 20 count."""
    data = UnlabelledData(Grid(train=100, validation=10, test=20), scale="none")
    data.setup()
    real = data.records("test").x

    class Copies(Fake):
        def sample(self, n):
            return torch.cat([real, torch.full((n - 20, 2), 99.0)])

    got = evaluate(Copies(), data, Fidelity(n=50), folder=tmp_path)
    assert (got["precision"], got["recall"], got["diversity"]) == (1, 1, 1)


def test_evaluations_share_their_draws(digits, tmp_path):
    data = UnlabelledData(Grid(train=2000, validation=10, test=20))
    data.setup()
    method = Flawed(data.records("train").x)
    suite = (Samples(n=500), Fidelity(n=500), Modes(n=1000), Divergence(n=1100))
    got = evaluate(method, data, *suite, folder=tmp_path)
    assert method.calls == [CHUNK] * 4 + [100]
    alone = evaluate(method, data, Modes(n=1000), folder=tmp_path)
    assert method.calls[5:] == [CHUNK] * 4  # drawn anew in another pass
    assert all(got[name] == value for name, value in alone.items())


def test_draws_of_the_last_pass_are_not_those_of_other_weights(digits, tmp_path):
    method = Flawed(digits.records("train").x)
    first = evaluate(method, digits, Fidelity(n=200), folder=tmp_path)
    method.noise = 2.0
    assert evaluate(method, digits, Fidelity(n=200), folder=tmp_path)["precision"] < first["precision"]


def test_draws_that_are_not_finite_give_nan(digits, tmp_path):
    got = evaluate(Flawed(torch.full((5, 1, 8, 8), math.nan)), digits, Fidelity(n=100), folder=tmp_path)
    assert all(math.isnan(got[name]) for name in ("precision", "recall", "realism", "diversity"))


def test_there_is_no_neighbour_before_the_first():
    with pytest.raises(UserError, match="k=0"):
        Fidelity(k=0)
