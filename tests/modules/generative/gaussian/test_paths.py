"""Every path of conf/path keeps what a path promises."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.gaussian.paths import NoiseLevel, Path, VariancePreserving
from tests.modules.generative.exact import PATHS, configured


def inside(path: Path, n: int = 41):
    return torch.linspace(path.start, path.end, n, dtype=torch.float64)[1:-1]


@pytest.mark.parametrize("name", PATHS)
def test_rates_are_the_derivatives(name):
    path = configured("path", name)
    t = inside(path)
    step = 1e-6 * t
    for part, rate in zip((path.alpha, path.sigma), path.rates(t), strict=True):
        numeric = (part(t + step) - part(t - step)) / (2 * step)
        torch.testing.assert_close(rate, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_time_of_inverts_the_signal_to_noise_ratio(name):
    path = configured("path", name)
    t = inside(path)
    torch.testing.assert_close(path.time_of(path.log_snr(t)), t, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(Path.time_of_ratio(path, path.noise_ratio(t)), t, rtol=1e-8, atol=1e-8)
    far = path.time_of(torch.tensor([-1e3, 1e3], dtype=torch.float64))
    assert far.tolist() == [path.end, path.start]


@pytest.mark.parametrize("name", PATHS)
def test_the_forward_process_has_the_paths_marginals(name):
    """d var / dt = 2 f var + g^2 and d mean / dt = f mean, for the variance sigma^2 and the mean alpha."""
    path = configured("path", name)
    t = inside(path)
    f, squared = path.diffusion(t)
    d_alpha, d_sigma = path.rates(t)
    torch.testing.assert_close(f * path.alpha(t), d_alpha)
    torch.testing.assert_close(2 * f * path.sigma(t).square() + squared, 2 * path.sigma(t) * d_sigma)
    assert (squared >= 0).all()


@pytest.mark.parametrize("name", ["vp", "cosine", "trigonometric"])
def test_variance_is_preserved(name):
    path = configured("path", name)
    t = inside(path)
    torch.testing.assert_close(path.alpha(t).square() + path.sigma(t).square(), torch.ones_like(t))


def test_vp_has_ddpms_products():
    """alpha^2 is the continuous limit of prod(1 - beta_i), with beta_i of DDPM's 1000 steps from 1e-4 to 0.02."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    product = (1 - beta).cumprod(0)
    t = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    alpha = VariancePreserving().alpha(t).square()
    torch.testing.assert_close(alpha, product[[249, 499, 749, 999]], rtol=0.1, atol=1e-5)


@pytest.mark.parametrize("name", PATHS)
def test_what_networks_are_told_lies_between_0_and_1(name):
    path = configured("path", name)
    told = path.conditioning(torch.tensor([path.start, path.end], dtype=torch.float64))
    assert 0 <= told[0] < told[1] <= 1 + 1e-12


def test_an_own_path_needs_alpha_and_sigma_alone():
    class Own(Path):
        def alpha(self, t):
            return 1 - t**2

        def sigma(self, t):
            return t

    t = torch.tensor([0.3, 0.6], dtype=torch.float64)
    torch.testing.assert_close(Own().rates(t), (-2 * t, torch.ones_like(t)))


@pytest.mark.parametrize("levels", [(0.0, 80.0), (2.0, 1.0)])
def test_noise_that_does_not_grow_is_refused(levels):
    with pytest.raises(UserError, match="noise grows"):
        NoiseLevel(*levels)
