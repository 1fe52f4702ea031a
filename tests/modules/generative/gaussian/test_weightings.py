"""Weightings of the loss against their papers' formulas."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.gaussian.paths import NoiseLevel, VariancePreserving
from modules.generative.gaussian.targets import TARGETS, target_of
from modules.generative.gaussian.weightings import times_of, weight_of
from tests.modules.generative.exact import PATHS, configured

T = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)


@pytest.mark.parametrize("target", TARGETS)
def test_a_targets_weight_turns_the_error_of_the_data_into_its_own(target):
    path = VariancePreserving()
    data, guess, noise = torch.randn(3, 9, 1, dtype=torch.float64)
    x = path.alpha(T)[:, None] * data + path.sigma(T)[:, None] * noise
    combination = target_of(target, path, T, 0.5)
    guessed = combination.of(guess, (x - path.alpha(T)[:, None] * guess) / path.sigma(T)[:, None])
    own = (guessed - combination.of(data, noise)).square()[:, 0]
    torch.testing.assert_close(weight_of(target, path, T, 0.5) * (guess - data).square()[:, 0], own)


def test_signal_to_noise_ratios():
    path = VariancePreserving()
    snr = path.log_snr(T).exp()
    torch.testing.assert_close(weight_of("noise", path, T), snr)
    torch.testing.assert_close(weight_of("v", path, T), snr + 1)
    torch.testing.assert_close(weight_of("min_snr", path, T), snr.clamp_max(5))


def test_edms_weight():
    """lambda(sigma) = (sigma^2 + s^2) / (sigma s)^2, Table 1 of Karras et al. 2022."""
    sigma = torch.tensor([0.01, 0.5, 10.0], dtype=torch.float64)
    expected = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    torch.testing.assert_close(weight_of("edm", NoiseLevel(), sigma, 0.5), expected)


@pytest.mark.parametrize("name", PATHS)
def test_the_likelihood_weighting_is_the_rate_of_the_snr(name):
    path = configured("path", name)
    t = torch.linspace(path.start, path.end, 11, dtype=torch.float64)[1:-1].requires_grad_()
    (rate,) = torch.autograd.grad(path.log_snr(t).exp().sum(), t)
    torch.testing.assert_close(weight_of("likelihood", path, t), -0.5 * rate)


def test_lognormal_times_are_lognormal():
    times = times_of("lognormal", NoiseLevel(), 20_000, torch.empty(0, dtype=torch.float64)).log()
    assert times.mean() == pytest.approx(-1.2, abs=0.01)
    assert times.std() == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize("law", ["uniform", "log_snr", "lognormal"])
@pytest.mark.parametrize("name", PATHS)
def test_times_lie_on_the_path(name, law):
    path = configured("path", name)
    times = times_of(law, path, 500, torch.empty(0, dtype=torch.float64))
    assert times.min() >= path.start - 1e-12
    assert times.max() <= path.end + 1e-12


def test_log_snr_times_are_uniform_in_it():
    path = VariancePreserving()
    place = path.log_snr(times_of("log_snr", path, 10_000, torch.empty(0, dtype=torch.float64)))
    low, high = path.log_snr(torch.tensor([1.0, path.start], dtype=torch.float64))
    torch.testing.assert_close(
        place.sort().values, torch.linspace(low, high, 10_000, dtype=torch.float64), atol=4e-3, rtol=0
    )


def test_an_unknown_one_is_refused():
    with pytest.raises(UserError, match="weighting=nothing is unknown"):
        weight_of("nothing", VariancePreserving(), T)
    with pytest.raises(UserError, match="times=nothing is unknown"):
        times_of("nothing", VariancePreserving(), 3, T)
