"""The exact denoiser, against integrals by quadrature and autograd."""

from __future__ import annotations

import pytest
import torch

from modules.generative.gaussian.mixtures import MixtureDenoiser


def test_posterior_mean_in_one_dimension_by_quadrature():
    law = MixtureDenoiser(
        *(torch.tensor(part, dtype=torch.float64) for part in ([[-1.0], [2.0]], [[0.5], [0.2]], [0.3, 0.7]))
    )
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)

    def density(x, mean, std):
        return torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * (2 * torch.pi) ** 0.5)

    prior = 0.3 * density(grid, -1.0, 0.5) + 0.7 * density(grid, 2.0, 0.2)
    alpha, sigma = 0.8, 0.6
    for x in (-1.0, 0.5, 3.0):
        joint = prior * density(x, alpha * grid, sigma)
        expected = (joint * grid).sum() / joint.sum()
        a, s = (torch.tensor([value], dtype=torch.float64) for value in (alpha, sigma))
        found = law.denoise(torch.tensor([[x]], dtype=torch.float64), a, s)
        assert float(found) == pytest.approx(float(expected), abs=1e-9)
        marginal = law.log_prob(torch.tensor([[x]], dtype=torch.float64), a, s).exp()
        assert float(marginal) == pytest.approx(float(joint.sum() * (grid[1] - grid[0])), rel=1e-9)


def test_full_covariances_agree_with_torch_and_tweedie():
    root = torch.randn(2, 3, 3, dtype=torch.float64)
    covariance = root @ root.mT
    variances, vectors = torch.linalg.eigh(covariance)
    means, weights = torch.randn(2, 3, dtype=torch.float64), torch.tensor([0.4, 0.6], dtype=torch.float64)
    law = MixtureDenoiser(means, variances.sqrt(), weights, vectors)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    alpha, sigma = torch.rand(2, 5, dtype=torch.float64) + 0.1
    scaled = alpha[:, None, None, None] ** 2 * covariance + sigma[:, None, None, None] ** 2 * torch.eye(3).double()
    components = torch.distributions.MultivariateNormal(alpha[:, None, None] * means, scaled)
    expected = (components.log_prob(x[:, None]) + weights.log()).logsumexp(1)
    found = law.log_prob(x, alpha, sigma)
    torch.testing.assert_close(found, expected)
    (score,) = torch.autograd.grad(expected.sum(), x)
    tweedie = (x + sigma[:, None] ** 2 * score) / alpha[:, None]
    torch.testing.assert_close(law.denoise(x, alpha, sigma), tweedie)


def test_one_time_for_all_records_gives_the_same_as_their_own_times():
    law = MixtureDenoiser(torch.randn(6, 4), torch.zeros(6, 1), torch.ones(6))
    x, shared = torch.randn(5, 4), torch.tensor(0.7).expand(5)
    torch.testing.assert_close(law.denoise(x, shared, shared), law.denoise(x, shared.clone(), shared.clone()))
