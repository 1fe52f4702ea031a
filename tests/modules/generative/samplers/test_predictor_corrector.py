"""Predictor-corrector guidance, against the closed forms of the paper's Gaussian example."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from tests.modules.generative.exact import configured


class Example:
    """x | c ~ N(0, 1) and x ~ N(0, 2): the class c = 0 of x = c + N(0, 1), c ~ N(0, 1)."""

    def __init__(self) -> None:
        self.path = configured("path", "ve", low=0.002, high=200.0)

    def denoise(self, x, t, y):
        sigma = self.path.sigma(t)[:, None].square()
        variance = torch.where(y < 0, 2.0, 1.0)[:, None].to(x)
        return variance / (variance + sigma) * x


def variance(sampler: str, scale: float, steps: int = 500, n: int = 10_000, **changes) -> float:
    torch.manual_seed(0)
    model = Example()
    field = configured("guidance", "classifier_free", scale=scale).field(model, torch.zeros(n, dtype=torch.long))
    times = configured("timesteps", "log_snr", steps=steps).times(model.path)
    start = field.prior(n, (1,), torch.empty(0).double())
    return float(configured("sampler", sampler, **changes).sample(field, start, times).var())


G = 3.0
DDIM = 2 ** (1 - G)
DDPM = (2 - 2 ** (2 - 2 * G)) / (2 * G - 1)
POWERED = 2 / (G + 1)


def test_guided_ddim_and_ddpm_have_the_papers_variances_and_not_the_powered_laws():
    """2^(1 - g) for DDIM, (2 - 2^(2 - 2 g)) / (2 g - 1) for DDPM, 2 / (g + 1) for p(x | c)^g p(x)^(1 - g)."""
    assert variance("ddim", G) == pytest.approx(DDIM, rel=0.06)
    assert variance("ddpm", G) == pytest.approx(DDPM, rel=0.06)
    assert min(abs(DDIM - POWERED), abs(DDPM - POWERED)) > 0.1


def test_one_correction_a_step_is_guided_ddpm():
    """DDPM with guidance g is PCG with 2 g - 1, in the limit of small steps."""
    assert variance("predictor_corrector", 2 * G - 1) == pytest.approx(DDPM, rel=0.06)


def test_many_corrections_a_step_sample_the_powered_law():
    assert variance("predictor_corrector", G, steps=150, n=5000, corrections=20) == pytest.approx(POWERED, rel=0.08)


def test_without_corrections_it_is_the_class():
    assert variance("predictor_corrector", G, steps=300, n=5000, corrections=0) == pytest.approx(1.0, rel=0.06)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UserError, match="there is no guidance"):
        configured("sampler", "predictor_corrector").sample(
            configured("guidance", "none").field(Example(), torch.zeros(2, dtype=torch.long)),
            torch.zeros(2, 1),
            torch.tensor([1.0, 0.5]),
        )
    with pytest.raises(UserError, match="corrections"):
        configured("sampler", "predictor_corrector", corrections=-1)
