"""The classifier of noisy records."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compendium.compose import compose
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.noisy_classifier import NoisyClassifier

SPEC = DataSpec(name="two", kind="vector", shape=(1,), target="class", classes=("left", "right"))
STD = 0.5


class Logistic(nn.Module):
    """The exact log odds of two Gaussians at -1 and 1, of standard deviation STD, seen through vp noise.

    x_t | y ~ N(+-alpha, v) with v = alpha^2 STD^2 + sigma^2: the log odds are 2 alpha x_t / v.
    """

    def __init__(self, path) -> None:
        super().__init__()
        self.path, self.factor = path, nn.Parameter(torch.ones(()))

    def forward(self, x, t):
        t = t * self.path.end
        alpha, variance = self.path.alpha(t), self.path.alpha(t) ** 2 * STD**2 + self.path.sigma(t) ** 2
        odds = 2 * alpha / variance.sqrt() * x[:, 0]  # the input comes divided by sqrt(v)
        return torch.stack([-self.factor * odds / 2, self.factor * odds / 2], 1)


def method():
    values = compose(["model=generative/noisy_classifier", "path=vp"]).values["model"]
    values = {key: value for key, value in values.items() if key != "_target_"} | {"data_std": STD}
    from compendium.config import instantiate

    return NoisyClassifier(SPEC, net=Logistic(instantiate(values["path"])), **values).double()


def test_its_probabilities_are_those_of_bayes_rule():
    model = method()
    x, t = torch.randn(50, 1, dtype=torch.float64), torch.rand(50, dtype=torch.float64)
    alpha, sigma = model.path.alpha(t), model.path.sigma(t)
    laws = [torch.distributions.Normal(y * alpha, (alpha**2 * STD**2 + sigma**2).sqrt()) for y in (-1, 1)]
    expected = torch.stack([law.log_prob(x[:, 0]) for law in laws], 1).log_softmax(1)
    torch.testing.assert_close(model.log_proba_at(x, t), expected)
    start = torch.full_like(t, model.path.start)
    torch.testing.assert_close(model.predict_log_proba(x), model.log_proba_at(x, start).float())


def test_the_loss_has_its_minimum_at_the_exact_classifier():
    """A proper score: its slope along a factor on the log odds vanishes at 1, up to four standard errors."""
    model = method()
    slopes = []
    for seed in range(40):
        torch.manual_seed(seed)
        y = torch.arange(1000) % 2
        x = (2 * y[:, None] - 1).double() + STD * torch.randn(1000, 1, dtype=torch.float64)
        (slope,) = torch.autograd.grad(model.loss(Labelled(x, y)), model.judge.net.factor)
        slopes.append(slope)
    slopes = torch.stack(slopes)
    assert float(slopes.mean()) == pytest.approx(0, abs=4 * float(slopes.std()) / 40**0.5)
    assert float(slopes.std()) < 0.02
