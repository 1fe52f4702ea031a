"""The loss of a known score, and a likelihood by the score of Brownian motion itself."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from modules.generative.riemannian_score import RiemannianScore
from tests.modules.generative.test_riemannian_mixture import made


def model_of(**changes):
    return made(name="riemannian_score", kind=RiemannianScore, **changes)


def test_the_variance_is_the_integral_of_the_rate():
    model = model_of(low=0.1, high=3.0)
    t = torch.linspace(0.3, 1, 10_001).double()
    assert float(model.variance(t[0])) == pytest.approx(float(torch.trapezoid(model.rate(t), t)), rel=1e-6)


def test_the_loss_of_the_true_score_of_a_single_record_is_zero():
    torch.manual_seed(0)
    model = model_of(simulation_steps=3)
    z = torch.tensor([0.0, 0.6, 0.8]).double()
    model.at = lambda net, x, t: model.scale(t) * model.manifold.heat_score(x, z.expand_as(x), model.variance(t))
    assert float(model.loss(Unlabelled(z.expand(40, 3)))) < 1e-12


def test_the_flow_of_the_true_score_ends_as_the_heat_kernel():
    """Data with the law of Brownian motion from a point after tau = 0.5: its score is the kernel's at tau + 0.5."""
    model = model_of(low=0.5, high=14.0, likelihood_steps=24)
    z = torch.tensor([0.0, 0.0, 1.0]).double()
    model.score = lambda x, t: model.manifold.heat_score(x, z.expand_as(x), model.variance(t) + 0.5, terms=12)
    x = model.manifold.uniform(8, torch.empty(0).double())
    height, k = x[:, 2].numpy(), range(40)
    from scipy.special import eval_legendre

    terms = sum(
        (2 * i + 1) * torch.tensor(-0.25 * i * (i + 1)).double().exp() * torch.tensor(eval_legendre(i, height))
        for i in k
    )
    expected = terms.log() - model.manifold.log_volume
    torch.testing.assert_close(model.log_prob(x), expected, rtol=0, atol=0.02)


def test_random_walks_have_the_spread_of_brownian_motion():
    """E cos(angle) = e^-tau on the sphere, at the first eigenvalue -2 of the Laplacian."""
    torch.manual_seed(0)
    model, start = model_of(), torch.tensor([0.0, 0.0, 1.0]).double().expand(20_000, 3)
    x = start
    for _ in range(50):
        x = model.moved(x, torch.zeros_like(x), torch.full((20_000, 1), 0.7 / 50).double())
    assert float(x[:, 2].mean()) == pytest.approx(0.4966, abs=0.01)


def test_rates_out_of_range_are_refused():
    with pytest.raises(UserError, match="low=0"):
        model_of(low=0.0)
