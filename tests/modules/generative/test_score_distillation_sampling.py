"""Where a particle goes that is alone, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from modules.generative.score_distillation_sampling import ScoreDistillationSampling
from tests.modules.generative.particles import MEAN, STD, arguments, given_times


def test_its_mean_direction_is_that_of_the_closed_form_for_a_gaussian_teacher(monkeypatch):
    """eps_teacher - eps = sigma (alpha (theta - m) + sigma eps) / V - eps with V = alpha^2 s^2 + sigma^2.

    Its mean over eps is sigma alpha (theta - m) / V: towards the mean, whatever the other particles are.
    """
    torch.manual_seed(0)
    method = ScoreDistillationSampling(**arguments(particles=200_000)).double()
    t = 0.4
    given_times(monkeypatch, t)
    theta = torch.tensor([[2.0, -1.0]], dtype=torch.float64).expand(200_000, 2)
    alpha, sigma = (part(torch.tensor(t, dtype=torch.float64)) for part in (method.path.alpha, method.path.sigma))
    variance = alpha**2 * STD**2 + sigma**2
    expected = sigma**3 * alpha * (theta[0] - torch.tensor(MEAN)) / variance
    direction = method.direction(theta)
    error = direction.std(0) / len(theta) ** 0.5
    assert ((direction.mean(0) - expected).abs() < 5 * error).all()


def test_particles_collapse_to_the_mode():
    torch.manual_seed(0)
    method = ScoreDistillationSampling(**arguments(particles=100)).double()
    optimizer = torch.optim.Adam(method.particles, lr=0.05)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
        optimizer.zero_grad()
        method.play("particles", Unlabelled(torch.empty(0, 2)))["particles"].backward()
        optimizer.step()
    theta = method.particles[0].detach()
    torch.testing.assert_close(theta.mean(0), torch.tensor(MEAN).double(), rtol=0, atol=0.05)
    assert (theta.std(0) < 0.2 * STD).all()


def test_draws_are_particles_and_repeat_only_when_there_are_too_few():
    method = ScoreDistillationSampling(**arguments(particles=10))
    assert len(method.sample(10).unique(dim=0)) == 10
    assert method.sample(25).unique(dim=0, return_counts=True)[1].min() >= 2
    assert method.function_evaluations() == 1


def test_a_method_without_a_teacher_or_particles_is_refused():
    with pytest.raises(UserError, match="nobody to learn from"):
        ScoreDistillationSampling(**arguments(source=None))
    with pytest.raises(UserError, match="particles=0"):
        ScoreDistillationSampling(**arguments(particles=0))
