"""The weights from their divergences, and the gradient beside that of the divergence itself by quadrature."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.sources.densities import GaussianMixture
from modules.generative.f_distill import WEIGHTS, FDistill
from tests.modules.generative.exact import Known
from tests.modules.generative.particles import MEAN, STD, arguments

DIVERGENCES = {
    "reverse_kl": lambda r: -r.log(),
    "softened_reverse_kl": lambda r: (r + 1) * ((r + 1) / (2 * r)).log(),
    "jensen_shannon": lambda r: r * r.log() - (r + 1) * ((r + 1) / 2).log(),
    "squared_hellinger": lambda r: 1 - r.sqrt(),
    "forward_kl": lambda r: r * r.log(),
    "jeffreys": lambda r: (r - 1) * r.log(),
}
"""f of D_f(p || q) = E_q f(p / q), Table 1."""


def made(**changes):
    net = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 2}
    return FDistill(**arguments("f_distill", net=net, **changes)).double()


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_is_the_ratio_squared_times_the_second_derivative_of_its_divergence(name):
    r = torch.logspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(DIVERGENCES[name](r).sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    torch.testing.assert_close(WEIGHTS[name](r.detach()), r.detach().square() * second, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_weighted_difference_of_scores_is_the_gradient_of_the_divergence(name):
    """One dimension, a teacher of two Gaussians and q = N(a, b^2) as the law of x = a + b z, by quadrature."""
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    x = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    normal = torch.distributions.Normal
    p = (
        torch.stack([normal(-1.0, 1.0).log_prob(x), normal(1.5, 1.4).log_prob(x)]).logsumexp(0)
        - torch.tensor(2.0).log()
    )
    q = normal(a, b).log_prob(x)
    divergence = torch.trapezoid(q.exp() * DIVERGENCES[name]((p - q).exp()), x)
    exact = torch.autograd.grad(divergence, (a, b))
    z = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    at = (a + b * z).detach().requires_grad_()
    log_p = (
        torch.stack([normal(-1.0, 1.0).log_prob(at), normal(1.5, 1.4).log_prob(at)]).logsumexp(0)
        - torch.tensor(2.0).log()
    )
    log_q = normal(a.detach(), b.detach()).log_prob(at)
    (difference,) = torch.autograd.grad((log_p - log_q).sum(), at)
    weighted = WEIGHTS[name]((log_p - log_q).exp().detach()) * difference * normal(0.0, 1.0).log_prob(z).exp()
    ours = -torch.trapezoid(weighted, z), -torch.trapezoid(weighted * z, z)
    torch.testing.assert_close(torch.stack(ours), torch.stack(exact), rtol=1e-5, atol=1e-9)


def exact_critics(method, mean, std):
    """Gives the method the exact score and ratio of records from N(mean, std^2 I)."""
    model = Known(method.path, GaussianMixture(torch.tensor([mean]), std))
    method.fake.denoise = lambda x, t, y=None: model.denoise(x, t)
    log_prob = lambda d, x, t: d.log_prob(x, method.path.alpha(t), method.path.sigma(t))  # noqa: E731
    method.log_ratio = lambda x, t: log_prob(method.teacher.denoiser, x, t) - log_prob(model.denoiser, x, t)


def test_the_direction_of_two_records_by_hand():
    """Weights in the ratio r1 / r2 whose mean is 1, over the mean distance to the teacher's E[x_0 | x_t]."""
    method = made(divergence="forward_kl", bound=1e9)
    exact_critics(method, [0.0, 0.0], 1.5)
    x = torch.tensor([[0.4, 0.1], [-1.0, 0.8]], dtype=torch.float64)
    records, t = torch.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=torch.float64), torch.full((2,), 0.3).double()
    alpha, sigma = float(method.path.alpha(t[0])), float(method.path.sigma(t[0]))
    mean = torch.tensor(MEAN, dtype=torch.float64)

    def known(m, s):
        variance = alpha**2 * s**2 + sigma**2
        log_prob = -(x - alpha * m).square().sum(1) / (2 * variance) - torch.tensor(variance).log()
        return m + alpha * s**2 / variance * (x - alpha * m), log_prob

    (teacher, log_p), (fake, log_q) = known(mean, STD), known(torch.zeros(2), 1.5)
    r = (log_p - log_q).exp()
    weight = 2 * r / r.sum() / (records - teacher).abs().mean(1)
    expected = weight[:, None] * (fake - teacher)
    torch.testing.assert_close(method.direction(x, t, records), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("divergence", WEIGHTS)
def test_a_generator_of_the_teachers_law_stays_where_it_is(divergence):
    method = made(divergence=divergence)
    exact_critics(method, MEAN, STD)
    x, t = torch.randn(20, 2).double(), torch.rand(20).double().clamp(0.05)
    assert method.direction(x, t, torch.randn(20, 2).double()).abs().max() < 1e-9


def test_the_loss_descends_along_the_direction_and_draws_cost_one_evaluation():
    torch.manual_seed(0)
    method = made(gan=0.0)
    records = torch.randn(6, 2).double().requires_grad_()
    direction = torch.randn(6, 2).double()
    method.direction = lambda x, t, at: direction
    (gradient,) = torch.autograd.grad(method.generate(records)["generator"], records)
    torch.testing.assert_close(gradient, direction / 6)
    assert method.sample(5).shape == (5, 2)
    assert method.function_evaluations() == 1
    assert set(method.loss(Unlabelled(records.detach()))) == {"fake", "discriminator", "generator"}


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="divergence=chi is unknown"):
        made(divergence="chi")
    with pytest.raises(UserError, match="bound=1"):
        made(bound=1.0)
