"""SVDD on a Gaussian and a quadratic reward, where the law that it aims at and the soft value are known."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.densities import GaussianMixture
from modules.generative.samplers.svdd import chosen
from tests.modules.generative.exact import Known, configured

MEAN, STD, CENTRE, ALPHA = 0.5, 0.8, 2.0, 0.7
LAW = GaussianMixture(torch.tensor([[MEAN]]), STD)
NEAR = {"_target_": "modules.generative.rewards.Near", "centre": CENTRE, "scale": 1.0}
PRECISION = 1 / STD**2 + 1 / ALPHA
AIM = (MEAN / STD**2 + CENTRE / ALPHA) / PRECISION


def model():
    return Known(configured("path", "vp"), LAW)


def soft_value(field, x, t):
    """alpha ln E[exp(r / alpha) | x_t]: x_0 | x_t is a Gaussian of variance tau^2 around the denoised record."""
    alpha, sigma = field.path.alpha(t), field.path.sigma(t)
    variance = 1 / (1 / STD**2 + (alpha / sigma) ** 2)
    spread = 1 + variance / ALPHA
    return -ALPHA / 2 * spread.log() - 0.5 * (field.data(x, t)[:, 0] - CENTRE) ** 2 / spread


def drawn(name, n=2000, steps=100, **changes):
    torch.manual_seed(0)
    field = model().field()
    sampler = configured("sampler", name, reward=NEAR, **changes)
    times = configured("timesteps", "log_snr", steps=steps).times(field.path)
    start = field.prior(n, (1,), torch.empty(0, dtype=torch.float64))
    return sampler, field, lambda: sampler.sample(field, start, times)


def test_with_the_exact_value_draws_have_the_tilted_law():
    """N(AIM, 1 / PRECISION): p(x) exp(-(x - c)^2 / 2 alpha) / Z. Of DDPM's variances the larger suits wide data."""
    sampler, _, sample = drawn("svdd", proposals=64, temperature=ALPHA, variance="forward", steps=60)
    sampler.value = lambda field, x, t: (soft_value(field, x, t), None)
    x = sample()
    assert float(x.mean()) == pytest.approx(AIM, abs=0.06)
    assert float(x.std()) == pytest.approx(PRECISION**-0.5, rel=0.07)


def test_one_proposal_is_ddpm():
    _, _, sample = drawn("svdd", n=20, steps=10, proposals=1)
    ours = sample()
    torch.manual_seed(0)
    field = model().field()
    start = field.prior(20, (1,), torch.empty(0, dtype=torch.float64))
    times = configured("timesteps", "log_snr", steps=10).times(field.path)
    torch.testing.assert_close(ours, configured("sampler", "ddpm").sample(field, start, times))


def test_proposals_and_their_cost():
    """The posterior mean of what was kept serves the next step: 1 + 5 steps of 8, and the last denoising."""
    _, field, sample = drawn("svdd", n=400, steps=6, proposals=8)
    x = sample()
    assert field.calls == 1 + 5 * 8 + 1
    assert ((x - CENTRE) ** 2).mean() < 0.5 * (STD**2 + (MEAN - CENTRE) ** 2)


def test_places_are_drawn_by_the_softmax_of_the_values():
    torch.manual_seed(0)
    value = torch.tensor([[0.0, 1.0, 2.0]]).repeat(20_000, 1)
    place = chosen(value, 0.5)
    assert torch.equal(place // 3, torch.arange(20_000))
    share = (place % 3).bincount().double() / 20_000
    torch.testing.assert_close(share, torch.tensor([0.0, 2.0, 4.0]).double().softmax(0), atol=0.012, rtol=0)
    assert torch.equal(chosen(value, 0.0) % 3, torch.full((20_000,), 2))


def test_best_of_two_has_the_mean_of_a_maximum():
    """Of two draws the one nearer to a centre far away is the larger: the mean plus std / sqrt(pi)."""
    far = {**NEAR, "centre": 1000.0}
    sampler, field, sample = drawn("best_of", n=4000, candidates=2)
    sampler.reward.centre = torch.tensor(far["centre"], dtype=torch.float64)
    assert float(sample().mean()) == pytest.approx(MEAN + STD / torch.pi**0.5, abs=0.05)
    assert field.calls == 2 * 100


def test_guidance_by_the_slope_of_the_posterior_mean():
    """d r(D(x)) / dx = -(D - c) D' with D' = alpha STD^2 / (alpha^2 STD^2 + sigma^2)."""
    known = model()
    t = torch.tensor(0.4, dtype=torch.float64)
    x = torch.randn(5, 1, dtype=torch.float64)
    alpha, sigma = known.path.alpha(t), known.path.sigma(t)
    field = configured("guidance", "reward", reward=NEAR, scale=3.0).field(known, None)
    slope = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    data = known.field().data(x, t)
    torch.testing.assert_close(field.score(x, t), known.field().score(x, t) - 3 * (data - CENTRE) * slope)
    stairs = {"_target_": "modules.generative.rewards.Bright"}
    with pytest.raises(UserError, match="no slope"):
        configured("guidance", "reward", reward=stairs).field(known, None).data(x, t)


def test_a_reward_has_to_be_named():
    for group, name in (("sampler", "svdd"), ("sampler", "best_of"), ("guidance", "reward"), ("unmasking", "svdd")):
        with pytest.raises(UserError, match="names no reward"):
            configured(group, name)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("svdd", {"proposals": 0}), ("svdd", {"temperature": -1.0}), ("best_of", {"candidates": 0})],
)
def test_values_out_of_range_are_refused(name, changes):
    with pytest.raises(UserError, match=f"sampler.{next(iter(changes))}"):
        configured("sampler", name, reward=NEAR, **changes)
