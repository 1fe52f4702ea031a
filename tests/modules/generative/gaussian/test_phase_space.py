"""The process by a matrix exponential, a solver and a Gaussian's law; exact noise by automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import solve_ivp

from compendium.errors import UserError
from datamodules.sources.densities import GaussianMixture
from modules.generative.gaussian.phase_space import PhaseField, PhaseMixture, PhaseSpace, acted

SPACES = [PhaseSpace(), PhaseSpace(gamma=0.0, nu=4.0, rate=5.0), PhaseSpace(gamma=1.5, nu=0.5, rate=3.0, spread=1.0)]
LAW = GaussianMixture(torch.tensor([[-1.0, 0.3], [0.8, -0.4]]), torch.tensor([0.3, 0.6]), torch.tensor([0.7, 0.3]))


def exact(space):
    return PhaseMixture(space, LAW.means, LAW.std, LAW.weights)


@pytest.mark.parametrize("space", SPACES)
def test_the_transition_is_the_matrix_exponential(space):
    t = torch.tensor([0.0, 0.1, 0.7, 1.0], dtype=torch.float64)
    torch.testing.assert_close(space.transition(t), torch.linalg.matrix_exp(t[:, None, None] * space.drift))


@pytest.mark.parametrize("space", SPACES)
def test_the_covariance_solves_its_equation(space):
    """dC / dt = F C + C F' + G G', from a record and a momentum of variance spread M."""
    drift, squared = space.drift.numpy(), space.diffusion.numpy()

    def rate(_, c):
        c = c.reshape(2, 2)
        return (drift @ c + c @ drift.T + squared).ravel()

    start = [0, 0, 0, space.spread * space.mass]
    solved = solve_ivp(rate, (0, 0.6), start, rtol=1e-10, atol=1e-12).y[:, -1].reshape(2, 2)
    factor = space.factor(torch.tensor(0.6).double())
    torch.testing.assert_close(factor @ factor.T, torch.from_numpy(solved), rtol=1e-6, atol=1e-9)


def test_noised_records_have_the_mean_and_the_covariance():
    torch.manual_seed(0)
    space, t = SPACES[0], torch.full((100_000,), 0.2).double()
    x = torch.full((100_000, 1), 2.0).double()
    z = space.noised(x, t, torch.randn(100_000, 2, 1).double())[:, :, 0]
    torch.testing.assert_close(z.mean(0), 2 * space.transition(t[0])[:, 0], rtol=0.02, atol=0.01)
    factor = space.factor(t[0])
    torch.testing.assert_close(z.T.cov(), factor @ factor.T, rtol=0.03, atol=0.01)


def test_the_exact_noise_is_that_of_the_mixtures_density():
    space, t = SPACES[0], torch.tensor(0.15).double()
    z = torch.randn(20, 2, 2, dtype=torch.float64, requires_grad=True)
    parts = []
    for mean, std, weight in zip(LAW.means, LAW.std, LAW.weights, strict=True):
        covariance = space.covariance(t, torch.diag(torch.tensor([std**2, space.spread * space.mass])))
        law = torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariance)
        offset = z - space.transition(t)[:, :1] * mean
        parts.append(weight.log() + law.log_prob(offset.mT).sum(1))
    (score,) = torch.autograd.grad(torch.stack(parts).logsumexp(0).sum(), z)
    field = PhaseField(space, exact(space).predict)
    torch.testing.assert_close(field.score(z.detach(), t), score)
    factor = space.factor(t)
    torch.testing.assert_close(field.noise(z.detach(), t), -acted(factor.T, score))
    assert field.calls == 2


def test_the_predicted_position_of_a_gaussian_is_its_regression():
    """For x_0 ~ N(mu, s^2): mu + cov(x_0, z) cov(z)^-1 (z - E z)."""
    space, t, mu, std = SPACES[0], torch.tensor(0.1).double(), 0.7, 0.5
    model = PhaseMixture(space, torch.tensor([[mu]]), torch.tensor([std]), torch.ones(1))
    z = torch.randn(6, 2, 1).double()
    start = torch.diag(torch.tensor([std**2, space.spread * space.mass], dtype=torch.float64))
    move, covariance = space.transition(t), space.covariance(t, start)
    gain = (start @ move.T)[0] @ torch.linalg.inv(covariance)
    expected = mu + (z[:, :, 0] - mu * move[:, 0]) @ gain
    torch.testing.assert_close(PhaseField(space, model.predict).position(z, t)[:, 0], expected)


@pytest.mark.parametrize("wrong", [{"gamma": -1}, {"gamma": 2, "nu": 2}, {"rate": 0}, {"spread": 0}])
def test_what_is_no_process_is_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        PhaseSpace(**wrong)
