"""Feynman-Kac correctors, against laws that are known in closed form."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.densities import GaussianMixture
from datamodules.sources.powered import Powered
from modules.generative.samplers.feynman_kac import effective, systematic
from tests.modules.generative.exact import Known, configured

MIXTURE = GaussianMixture(
    torch.tensor([[-1.5], [1.5], [0.5]]),
    torch.tensor([0.3, 0.8, 1.0]),
    torch.tensor([0.5, 0.2, 0.3]),
    torch.tensor([0, 0, 1]),
)
SOURCE = {
    "_target_": "datamodules.sources.densities.Gaussians",
    "means": [[-1.5], [1.5], [0.5]],
    "std": [0.3, 0.8, 1.0],
    "weights": [0.5, 0.2, 0.3],
    "labels": [0, 0, 1],
}


def drawn(sampler: str, guidance: str, y: int | None = None, n: int = 6000, steps: int = 300, **changes):
    torch.manual_seed(0)
    model = Known(configured("path", "vp"), MIXTURE)
    times = configured("timesteps", "log_snr", steps=steps).times(model.path)
    classes = None if y is None else torch.full((n,), y)
    field = configured("guidance", guidance, **changes).field(model, classes)
    return configured("sampler", sampler).sample(field, field.prior(n, (1,), torch.empty(0).double()), times)[:, 0]


def moments(law):
    x = law.sample(400_000, torch.Generator().manual_seed(1)).double()[:, 0]
    return x.mean(), x.std(), (x > 0).double().mean()


def test_the_annealed_law_is_sampled_and_without_weights_it_is_not():
    mean, std, right = moments(Powered(SOURCE, power=3.0, label=None).law())
    weighted, plain = drawn("feynman_kac", "annealed", power=3.0), drawn("sde", "annealed", power=3.0)
    for found, expected in ((weighted.mean(), mean), (weighted.std(), std), ((weighted > 0).double().mean(), right)):
        torch.testing.assert_close(found, expected, atol=0.06, rtol=0)
    assert ((plain > 0).double().mean() - right).abs() > 0.1


def test_the_guided_law_is_sampled():
    mean, std, _ = moments(Powered(SOURCE, power=2.0, label=1).law())
    weighted = drawn("feynman_kac", "classifier_free", y=1, scale=2.0)
    torch.testing.assert_close(weighted.mean(), mean, atol=0.08, rtol=0)
    torch.testing.assert_close(weighted.std(), std, atol=0.08, rtol=0)


def test_the_product_of_two_gaussians_is_the_closed_form():
    """N(a, s^2) N(b, u^2) is N((a u^2 + b s^2) / (s^2 + u^2), s^2 u^2 / (s^2 + u^2)) up to a constant."""
    torch.manual_seed(0)
    law = GaussianMixture(torch.tensor([[-1.0], [2.0]]), torch.tensor([1.0, 0.5]), labels=torch.tensor([0, 1]))
    model = Known(configured("path", "vp"), law)
    times = configured("timesteps", "log_snr", steps=300).times(model.path)
    field = configured("guidance", "product", label=0).field(model, torch.ones(6000, dtype=torch.long))
    x = configured("sampler", "feynman_kac").sample(field, field.prior(6000, (1,), torch.empty(0).double()), times)
    assert float(x.mean()) == pytest.approx((-1 * 0.25 + 2 * 1) / 1.25, abs=0.05)
    assert float(x.std()) == pytest.approx((0.25 / 1.25) ** 0.5, abs=0.04)


def test_systematic_resampling_is_unbiased_and_has_floor_or_ceiling_copies():
    log_weight = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log() + 7
    counts = torch.stack([torch.bincount(systematic(log_weight), minlength=4) for _ in range(4000)]).double()
    torch.testing.assert_close(counts.mean(0), torch.tensor([0.4, 0.8, 1.2, 1.6]).double(), atol=0.03, rtol=0)
    assert (counts.max(0).values - counts.min(0).values <= 1).all()


def test_the_effective_sample_size():
    assert float(effective(torch.zeros(10))) == pytest.approx(10)
    assert float(effective(torch.tensor([0.0, -1e3]))) == pytest.approx(1)
    assert float(effective(torch.tensor([3.0, 1.0]).log())) == pytest.approx(16 / 10)


def test_a_guidance_that_stands_for_no_law_is_refused():
    with pytest.raises(UserError, match="stands for none"):
        drawn("feynman_kac", "none", n=3)
