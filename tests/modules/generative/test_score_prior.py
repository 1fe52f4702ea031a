"""The prior's density and its slope against the law, the objective against a divergence in closed form."""

from __future__ import annotations

import pytest
import torch

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.sources.measured import Measured
from datamodules.spec import DataSpec
from modules.generative.measurement import LogLikelihood
from modules.generative.score_prior import ScorePrior

SPEC = DataSpec(name="plane", kind="vector", shape=(2,))
GAUSSIAN = {"_target_": "datamodules.sources.densities.Gaussians", "means": [[1.0, -0.5]], "std": 0.8}
PROBLEM = {
    "_target_": "datamodules.sources.measured.Measured",
    "source": GAUSSIAN,
    "operator": [[1.0, 0.5]],
    "measurement": [0.2],
    "noise": 0.5,
}


def law():
    return Measured(**{key: value for key, value in PROBLEM.items() if key != "_target_"}).law()


def made(problem=PROBLEM, **changes):
    values = compose(["model=generative/score_prior"]).values["model"]
    arguments = values | {"problem": problem, "width": 8, **changes}
    return ScorePrior(SPEC, **{key: value for key, value in arguments.items() if key != "_target_"})


@pytest.mark.parametrize("std", [0.8, [0.5, 0.9]])
def test_the_score_priors_density_and_slope_are_the_laws(std):
    """But for the noise of the smallest time, and what the largest leaves of the data: 0.0066 of them."""
    source = GAUSSIAN | {"means": [[1.0, -0.5]] * len(std) if isinstance(std, list) else [[1.0, -0.5]], "std": std}
    model = made(PROBLEM | {"source": source}, likelihood_steps=24)
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    truth = model.log_likelihood.law
    found = model.log_prior(x)
    torch.testing.assert_close(found, truth.log_prob(x), rtol=0, atol=0.03)
    (slope,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(slope, truth.score(x.detach()), rtol=0, atol=0.02)


def test_the_gaussian_prior_has_the_moments_of_the_law():
    source = GAUSSIAN | {"means": [[1.0, 0.0], [-2.0, 1.0]], "std": [0.5, 1.0], "weights": [0.25, 0.75]}
    model = made(PROBLEM | {"source": source}, prior="gaussian")
    x = model.log_likelihood.law.sample(400_000, torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(model.gaussian.mean, x.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(model.gaussian.covariance_matrix, x.T.cov(), rtol=0, atol=0.02)


@pytest.mark.parametrize("prior", ["score", "gaussian"])
def test_at_the_exact_posterior_the_objective_is_minus_the_evidence_and_has_no_spread(prior):
    """-ln p(y | x) - ln p(x) + ln q(x) is the same at each x where q is the posterior of a Gaussian."""
    model, x = made(prior=prior, likelihood_steps=24), law().sample(50).double()
    value = -model.log_likelihood(x) - model.log_prior(x) + law().log_prob(x)
    assert float(value.std()) < 0.01


def test_the_loss_is_the_objective_at_draws_of_the_flow():
    torch.manual_seed(0)
    model = made(prior="gaussian")
    terms = model.loss(Unlabelled(torch.zeros(4000, 2)))
    x = model.sample(4000)
    value = -model.log_likelihood(x) - model.log_prior(x) + model.log_prob(x)
    assert float(sum(terms.values()).detach()) == pytest.approx(float(value.mean()), abs=0.15)


def test_the_log_likelihood_by_hand():
    """y = 0.2 and A x = 1 + 0.5: -(1.3)^2 / (2 0.25)."""
    found = LogLikelihood(PROBLEM)(torch.tensor([[1.0, 1.0]]))
    assert float(found) == pytest.approx(-(1.3**2) / 0.5)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="prior=flat"):
        made(prior="flat")
    with pytest.raises(UserError, match="transforms=0"):
        made(transforms=0)
    with pytest.raises(UserError, match="no measurement"):
        made(GAUSSIAN)
