"""Claims of the three priors, and what is counted."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import beta

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.sources.systems import FEATURES
from datamodules.spec import DataSpec
from modules.uncertainty.conservative import worst_reliability
from modules.uncertainty.conservative_reliability import ConservativeReliability

SPEC = DataSpec(
    "s", "vector", (5,), target="class", classes=("fails", "passes"), features=FEATURES, sizes={"train": 4, "test": 3}
)
PAST = torch.tensor([[0, 0, 40, 0.75, 0.125], [1, 0, 8, 0.75, 0.125], [0, 0, 20, 0.75, 0.125], [2, 1, 9, 0.5, 0.25]])
NEXT = torch.tensor([[0, 0, 5, 0.75, 0.125], [1, 0, 5, 0.75, 0.125], [2, 1, 5, 0.5, 0.25]])


def seen(prior):
    method = ConservativeReliability(SPEC, prior)
    method.accumulate(Labelled(PAST[:2], torch.tensor([1, 1])))
    method.accumulate(Labelled(PAST[2:], torch.tensor([1, 0])))
    return method


def test_counts_demands_and_claims_nothing_after_a_failure():
    method = seen("conservative")
    assert method.passed.tolist() == [60, 8, 0, 0]
    got = method.predict_reliability(NEXT)
    want = worst_reliability(torch.tensor([60.0, 8.0]), torch.tensor(5.0), torch.tensor(0.75), torch.tensor(0.125))
    torch.testing.assert_close(got[:2], want, rtol=1e-5, atol=0)
    assert float(got[2]) == 0
    assert (got[:2] <= want).all()  # float32 is rounded to the safe side
    assert method.population(NEXT).tolist() == [0, 0, 1]
    confidence = method.confidence(NEXT, 0.2)
    assert float(confidence[0]) == pytest.approx(1 / (1 + (0.8 / 0.875) ** 60 / 3), rel=1e-5)
    assert float(confidence[2]) == 0


@pytest.mark.parametrize(("prior", "b"), [("uniform", 1.0), ("fitted", None)])
def test_beta_priors_are_those_of_the_integral(prior, b):
    if b is None:
        b = float(torch.log(torch.tensor(0.25)) / torch.log(torch.tensor(0.875)))
        assert beta(1, b).cdf(0.125) == pytest.approx(0.75)
    density = beta(1, b).pdf
    top, bottom = (quad(lambda x, n=n: density(x) * (1 - x) ** n, 0, 1)[0] for n in (65, 60))
    assert float(seen(prior).predict_reliability(NEXT)[0]) == pytest.approx(top / bottom, rel=1e-4)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"model\.prior=jeffreys"):
        ConservativeReliability(SPEC, "jeffreys")
    with pytest.raises(UserError, match="takes periods of operation"):
        ConservativeReliability(SPEC.but(features=("a",) * 5))
