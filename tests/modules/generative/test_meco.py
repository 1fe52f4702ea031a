"""The gradient of the likelihood, where it is known."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.meco import MECO

LINE = DataSpec(name="line", kind="vector", shape=(1,))


def location(start: float, **arguments) -> MECO:
    net = {"_target_": "modules.networks.location.Location", "start": start}
    return MECO(LINE, noise_std=1.5, tilted=False, net=net, **arguments).double().train()


def terms(method: MECO, x: torch.Tensor) -> tuple[float, float]:
    """The loss, and its derivative by the mean w."""
    loss = torch.stack(tuple(method.loss(Unlabelled(x)).values())).sum()
    (gradient,) = torch.autograd.grad(loss, method.net.mean)
    return float(loss.detach()), float(gradient)


def test_value_and_gradient_are_the_likelihoods():
    """-E log N(x; w, 1) = (1 + (m - w)^2 + log 2 pi) / 2 for data N(m, 1), with derivative w - m."""
    torch.manual_seed(0)
    w, m = -0.5, 0.8
    x = (m + torch.randn(400_000, 1)).double()
    loss, gradient = terms(location(w), x)
    assert loss == pytest.approx(0.5 * (1 + (m - w) ** 2 + math.log(2 * math.pi)), abs=0.01)
    assert gradient == pytest.approx(w - m, abs=0.01)


def test_the_moving_average_removes_the_bias_of_small_batches():
    """Of four draws, E log of the mean is below log of the mean; u over many steps comes near to it."""
    torch.manual_seed(0)
    log_z = 0.5 * math.log(2 * math.pi)
    alone, followed = location(1.0, decay=1.0), location(1.0, decay=0.01)
    with torch.no_grad():
        z = torch.randn(3000, 4, 1).double() * 1.5
        r = [alone.log_ratio(rows) for rows in z]
    separate = torch.stack([alone.follow(rows) for rows in r]).mean()
    together = torch.stack([followed.follow(rows) for rows in r])[1000:].mean()
    assert float(separate) < log_z - 0.05
    assert float(together) == pytest.approx(log_z, abs=0.02)


def test_u_is_the_weighted_mean_of_what_came():
    method = location(0.0, decay=0.25)
    for mean in (2.0, 6.0, 1.0):
        log_u = method.follow(torch.full((5,), mean, dtype=torch.float64).log())
    assert float(log_u.exp()) == pytest.approx(0.75 * (0.75 * 2 + 0.25 * 6) + 0.25 * 1, rel=1e-12)
    method.eval()
    method.follow(torch.full((5,), 50.0).log())
    assert torch.equal(method.log_u, log_u)


def test_far_ratios_stay_finite_in_float32():
    method = location(0.0).float()
    for level in (-400.0, 400.0, -400.0):
        assert method.follow(torch.full((5,), level)).isfinite()


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_a_decay_outside_is_refused(decay):
    with pytest.raises(UserError, match=f"model.decay={decay}"):
        location(0.0, decay=decay)
