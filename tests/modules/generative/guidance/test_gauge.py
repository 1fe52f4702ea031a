"""The gauge: another field, the same law."""

from __future__ import annotations

import pytest
import torch

from modules.generative.gaussian.likelihood import log_prob
from modules.generative.guidance.gauge import turned
from tests.modules.generative.exact import LAW, Known, configured

T = torch.tensor(0.3, dtype=torch.float64)


@pytest.fixture
def model():
    return Known(configured("path", "vp"))


def test_what_is_added_meets_the_gauge_condition(model):
    """r . score + div r = 0, by automatic differentiation of the mixture's score."""
    plain, gauged = model.field(), configured("guidance", "gauge", strength=0.7).field(model, None)
    x = torch.randn(6, 2, dtype=torch.float64)

    def added(x):
        return gauged.score(x, T) - plain.score(x, T)

    jacobian = torch.autograd.functional.jacobian(lambda x: added(x).sum(0), x).permute(1, 0, 2)
    r, score = added(x), plain.score(x, T)
    divergence = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    assert r.norm(dim=1).min() > 0.01
    torch.testing.assert_close((r * score).sum(1) + divergence, torch.zeros(6).double(), atol=1e-10, rtol=0)
    whole = torch.autograd.functional.jacobian(lambda x: gauged.score(x, T).sum(0), x).permute(1, 0, 2)
    assert (whole - whole.mT).abs().amax((1, 2)).min() > 0.05  # it is no gradient


def test_the_likelihood_under_the_gauged_flow_is_that_of_the_law(model):
    """Up to what the noise at the end is not normal: alpha there is 0.0066, and means lie 1.5 away."""
    x = LAW.sample(40).double()
    plain = log_prob(model.field(), x, steps=50)
    gauged = log_prob(configured("guidance", "gauge", strength=1.5).field(model, None), x, steps=50)
    assert (gauged - plain).abs().max() < 0.02
    other = log_prob(configured("guidance", "annealed", power=1.5).field(model, None), x, steps=50)
    assert (other - plain).abs().max() > 0.2  # a change along the score is no gauge


def test_draws_have_the_law_and_are_others(model):
    times = configured("timesteps", "log_snr", steps=80).times(model.path)
    sampler, draws = configured("sampler", "heun"), []
    for field in (model.field(), configured("guidance", "gauge", strength=1.0).field(model, None)):
        torch.manual_seed(0)
        draws.append(sampler.sample(field, field.prior(6000, (2,), LAW.means), times))
    shares = [(torch.cdist(x, LAW.means) / LAW.std).argmin(1).bincount(minlength=3) / 6000 for x in draws]
    torch.testing.assert_close(shares[1], shares[0], atol=0.025, rtol=0)
    torch.testing.assert_close(draws[1].mean(0), draws[0].mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(draws[1].T.cov(), draws[0].T.cov(), atol=0.08, rtol=0)
    assert (draws[1] - draws[0]).norm(dim=1).mean() > 0.2


def test_a_component_without_a_partner_is_left_alone():
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert turned(x).tolist() == [[-2.0, 1.0, 0.0]]
