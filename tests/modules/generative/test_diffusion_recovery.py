"""Recovery of Gaussians, whose energies are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.diffusion_recovery import DiffusionRecovery, signal

PLANE = DataSpec(name="plane", kind="vector", shape=(2,))
MLP = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}
VARIANCE = 0.36


class GaussianField(nn.Module):
    """<y, net(y)> / s^2 is log N(y; 0, a^2 v I), up to a constant; v: variance of x_{t-1} for data N(0, VARIANCE I)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels, self.kept = levels, signal(levels)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, y, t):
        level = (t * self.levels).round().long()
        before, after = self.kept[level - 1], self.kept[level]
        variance = after / before * (before * VARIANCE + 1 - before)
        return -self.scale * y * ((1 - after / before) / (2 * variance))[:, None]


def exact(levels: int, **arguments) -> DiffusionRecovery:
    method = DiffusionRecovery(PLANE, levels, net=MLP, **arguments)
    method.net = GaussianField(levels)
    return method


def test_levels_go_from_data_to_noise_and_steps_make_them():
    method = DiffusionRecovery(PLANE, 6, net=MLP)
    kept = signal(6)
    torch.testing.assert_close(kept[[0, 6]], torch.sigmoid(torch.tensor([9.8, -5.1])), rtol=1e-4, atol=1e-6)
    a, s = method.scale(torch.arange(1, 7))
    torch.testing.assert_close(a.square() + s.square(), torch.ones(6, 1))
    torch.testing.assert_close(kept[0] * a.flatten().square().cumprod(0), kept[1:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_noisy_records_have_the_right_marginals(shared):
    torch.manual_seed(0)
    method = DiffusionRecovery(PLANE, 4, shared_noise=shared, net=MLP)
    level = torch.full((60_000,), 3)
    y, x = method.diffuse(0.6 * torch.randn(60_000, 2), level)
    a, _ = method.scale(level[:1])
    before, after = signal(4)[2], signal(4)[3]
    assert float(y.var()) == pytest.approx(float(a**2 * (before * VARIANCE + 1 - before)), rel=0.02)
    assert float(x.var()) == pytest.approx(float(after * VARIANCE + 1 - after), rel=0.02)


@pytest.mark.parametrize("level", [1, 3, 6])
def test_refined_records_follow_the_posterior(level):
    """For y ~ N(0, v) and x = y + s e: y given x is N(x v / (v + s^2), p), p = v s^2 / (v + s^2), and the variance of
    Langevin's chain with steps e is p / (1 - e^2 / (4 p)).
    """
    torch.manual_seed(0)
    method = exact(6, steps=100, step_size=0.3)
    levels, x = torch.full((20_000,), level), torch.full((20_000, 2), 0.8)
    with torch.no_grad():
        y = method.refine(x, x, levels)
        a, s = (float(part) for part in method.scale(levels[:1]))
    before = float(signal(6)[level - 1])
    v = a**2 * (before * VARIANCE + 1 - before)
    assert float(y.mean()) == pytest.approx(0.8 * v / (v + s**2), abs=0.03 * s)
    p = v * s**2 / (v + s**2)
    assert float(y.var()) == pytest.approx(p / (1 - (0.3 * a * s) ** 2 / (4 * p)), rel=0.03)


def test_draws_have_the_variance_of_the_data():
    torch.manual_seed(0)
    x = exact(8, steps=60, step_size=0.3).sample(5_000)
    assert float(x.mean()) == pytest.approx(0, abs=0.05)
    assert float(x.var()) == pytest.approx(VARIANCE, rel=0.1)


def test_at_the_truth_the_expected_gradient_vanishes_and_elsewhere_it_does_not():
    torch.manual_seed(0)
    method = exact(6, steps=100, step_size=0.2)
    level = torch.full((10_000,), 3)
    y, x = method.diffuse(0.6 * torch.randn(10_000, 2), level)

    def gradient(scale: float) -> float:
        method.net.scale.data.fill_(scale)
        (term,) = method.contrast(y, x, level).values()
        return float(torch.autograd.grad(term, method.net.scale)[0])

    assert abs(gradient(1.0)) < 0.05
    assert gradient(2.0) > 0.1
    assert gradient(0.3) < -0.1


@pytest.mark.parametrize("wrong", ["levels", "steps", "step_size"])
def test_nothing_to_do_is_refused(wrong):
    with pytest.raises(UserError, match=f"model.{wrong}=0"):
        DiffusionRecovery(PLANE, net=MLP, **{wrong: 0})
