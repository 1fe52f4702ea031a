"""One More Step, against the closed form of Gaussian data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.sources.densities import GaussianMixture
from datamodules.spec import DataSpec
from modules.generative.one_more_step import OneMoreStep
from tests.modules.generative.exact import Known, configured
from tests.modules.generative.samplers.checkpoints import fitted

SPEC = DataSpec(name="classes", kind="vector", shape=(1,), target="class", classes=("low", "high"))
MEANS, STD = torch.tensor([-3.0, 3.0]), 0.5
VP = {"_target_": "modules.generative.gaussian.paths.VariancePreserving", "low": 0.1, "high": 20.0}


def method(**changes):
    choices = ["model=generative/one_more_step", "net=mlp", "path=vp", "model.path.high=4.7"]
    composed = compose([*choices, "sampler=heun", "model.timesteps.steps=40"])
    arguments = {key: value for key, value in composed.values["model"].items() if key != "_target_"} | changes
    return OneMoreStep(SPEC, **{"net": nn.Identity(), **arguments})


class Means(nn.Module):
    """The psi that is best for `MEANS`: minus the mean of the class, and of both for -1."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.cat([MEANS, MEANS.mean()[None]]))

    def forward(self, x, y):
        return -self.means[y][:, None]


def exact(**changes):
    """The method with the exact field of two Gaussians, and the best psi."""
    model = method(**changes)
    model.inner = Known(model.path, GaussianMixture(MEANS[:, None], STD, labels=torch.arange(2)))
    model.first = Means()
    return model


def bias(alpha: float, sigma: float, mean: float) -> float:
    """Of the mean of what the exact flow makes of N(0, 1), for data N(mean, STD^2): it maps x to mean +
    STD (x - alpha mean) / std of x_end.
    """
    return -STD * alpha * mean / math.hypot(alpha * STD, sigma)


def test_the_step_removes_the_bias_that_the_closed_form_has():
    model = exact()
    end = torch.tensor(model.path.end)
    alpha, sigma = float(model.path.alpha(end)), float(model.path.sigma(end))
    assert alpha == pytest.approx(0.30, abs=0.01)
    torch.manual_seed(0)
    y = torch.ones(20_000, dtype=torch.long)
    mended = model.sample_of(y)
    plain = model.draw(model.inner.field(y), len(y))
    error = 4 * STD / math.sqrt(len(y))
    assert float(plain.mean()) == pytest.approx(3 + bias(alpha, sigma, 3.0), abs=error)
    assert abs(bias(alpha, sigma, 3.0)) > 20 * error
    assert float(mended.mean()) == pytest.approx(3.0, abs=error)
    # What it starts from lacks the scatter of the data: sigma^2 instead of sigma^2 + alpha^2 STD^2.
    assert float(mended.std()) == pytest.approx(STD * sigma / math.hypot(alpha * STD, sigma), rel=0.02)


def test_its_own_guidance_moves_what_it_starts_from_along_the_difference_of_the_classes():
    y = torch.tensor([0, 1])
    torch.testing.assert_close(exact(scale=2.0).estimate(y)[:, 0], 2 * MEANS)  # the mean of all is 0
    torch.testing.assert_close(exact(scale=1.0).estimate(y)[:, 0], MEANS)


@torch.no_grad()
def test_the_best_psi_is_minus_the_mean_of_the_class():
    """The loss is E|psi + x_0|^2: it exceeds its value at the class means by the squared distance to them."""
    model = exact(drop=0.0)
    torch.manual_seed(0)
    y = torch.arange(2).repeat(50_000)
    batch = Labelled((MEANS[y] + STD * torch.randn(len(y)))[:, None], y)
    assert float(model.loss(batch)["first"]) == pytest.approx(STD**2, rel=0.02)
    model.first.register_forward_hook(lambda module, x, out: out + 0.7)
    assert float(model.loss(batch)["first"]) == pytest.approx(STD**2 + 0.49, rel=0.02)


def test_a_frozen_model_stays_and_one_of_another_path_is_refused(tmp_path):
    x = torch.randn(20, 1)
    _, path = fitted(x, tmp_path, path="vp")
    model = method(model=path, path=VP)
    assert not any(p.requires_grad for p in model.inner.parameters())
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} <= {"first"}
    with pytest.raises(UserError, match="another path"):
        method(model=path)


def test_the_field_without_a_class_starts_from_pure_noise():
    field = exact().field()
    assert field.prior_mean == 0.0
    assert field.prior_std == configured("path", "vp").prior_std
