"""One change of variables between all that a network may predict."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import NoiseLevel, VariancePreserving
from modules.generative.gaussian.targets import TARGETS, data_of, target_of, value_of
from tests.modules.generative.exact import LAW, PATHS, Known, configured


@pytest.mark.parametrize(("name", "target"), list(product(PATHS, TARGETS)))
def test_there_and_back(name, target):
    path = configured("path", name)
    t = torch.linspace(path.start, path.end, 9, dtype=torch.float64)[1:-1]
    data, noise = torch.randn(2, 7, 3, dtype=torch.float64)
    x = path.alpha(t)[:, None] * data + path.sigma(t)[:, None] * noise
    combination = target_of(target, path, t, 0.5)
    torch.testing.assert_close(
        data_of(combination.of(data, noise), x, t, combination, path), data, rtol=1e-6, atol=1e-6
    )
    value = value_of(data, x, t, combination, path)
    torch.testing.assert_close(value, combination.of(data, noise), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_all_parametrisations_give_the_same_draws(name):
    """The issue's one test: whatever is predicted, a sampler on an analytic mixture ends at the same points."""
    model = Known(configured("path", name))
    sampler, path = configured("sampler", "heun"), model.path
    times = configured("timesteps", "log_snr", steps=12).times(path)
    start = path.prior_std * torch.randn(16, 2, dtype=torch.float64)

    def through(target: str) -> Field:
        def denoise(x, t):
            combination = target_of(target, path, t, 0.5)
            predicted = value_of(model.denoise(x, t), x, t, combination, path)
            return data_of(predicted, x, t, combination, path)

        return Field(path, denoise)

    expected = sampler.sample(model.field(), start, times)
    for target in TARGETS:
        torch.testing.assert_close(sampler.sample(through(target), start, times), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_the_score_is_the_gradient_of_the_log_density(name):
    model = Known(configured("path", name))
    x = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    t = torch.tensor((model.path.start + model.path.end) / 3, dtype=torch.float64)
    times = t.expand(9)
    log_prob = model.denoiser.log_prob(x, model.path.alpha(times), model.path.sigma(times))
    (expected,) = torch.autograd.grad(log_prob.sum(), x)
    torch.testing.assert_close(model.field().score(x.detach(), t), expected)


def test_edm_is_its_preconditioned_output():
    """c_skip, c_out of Table 1 of Karras et al. 2022, at sigma 1.5 and sigma_data 0.5."""
    path, s, sigma = NoiseLevel(), 0.5, 1.5
    t = torch.tensor([sigma], dtype=torch.float64)
    x, output = torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([[0.7]], dtype=torch.float64)
    c_skip, c_out = s**2 / (sigma**2 + s**2), sigma * s / (sigma**2 + s**2) ** 0.5
    found = data_of(output, x, t, target_of("edm", path, t, s), path)
    torch.testing.assert_close(found, c_skip * x + c_out * output)


def test_the_exact_score_at_no_noise_is_that_of_the_law():
    model = Known(NoiseLevel(low=1e-5))
    x = LAW.sample(50).double()
    score = model.field().score(x, torch.tensor(1e-5, dtype=torch.float64))
    torch.testing.assert_close(score, LAW.score(x), rtol=1e-3, atol=1e-3)


def test_an_unknown_target_is_refused():
    with pytest.raises(UserError, match="sorce is unknown"):
        target_of("sorce", VariancePreserving(), torch.tensor([0.5]))
