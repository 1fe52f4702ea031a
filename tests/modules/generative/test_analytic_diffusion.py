"""Diffusion without a network."""

from __future__ import annotations

import pytest
import torch

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.analytic_diffusion import AnalyticDiffusion

GAUSSIANS = {"_target_": "datamodules.sources.densities.Gaussians", "means": [[-2.0, 0.0], [2.0, 1.0]], "std": 0.5}


def method(n: int = 0, shape=(2,), choices=(), **changes):
    composed = compose(["model=generative/analytic_diffusion", *choices]).values["model"]
    arguments = {key: value for key, value in composed.items() if key != "_target_"} | changes
    spec = DataSpec(name="records", kind="vector", shape=shape, sizes={"train": n})
    return AnalyticDiffusion(spec, **arguments)


def solved(x, **changes):
    model = method(len(x), (x.shape[1],), **changes)
    for part in x.split(100):
        model.accumulate(Unlabelled(part))
    model.solve()
    return model


def test_a_gaussian_is_fitted_and_its_flow_is_the_closed_form():
    """x(sigma) = mean + sum_k v_k sqrt((l_k + sigma^2) / (l_k + sigma_T^2)) v_k'(x_T - mean): Wang and Vastola 2024."""
    x = torch.randn(2000, 3) @ torch.randn(3, 3) + torch.tensor([1.0, -2.0, 0.0])
    model = solved(x, choices=("sampler=exponential", "timesteps=log_snr", "model.timesteps.steps=400"))
    torch.testing.assert_close(model.mean, x.double().mean(0), rtol=1e-5, atol=1e-5)
    covariance = model.vectors @ model.stds.square().diag() @ model.vectors.T
    torch.testing.assert_close(covariance, x.double().T.cov(correction=0), rtol=1e-4, atol=1e-4)
    noise = 80 * torch.randn(5, 3, dtype=torch.float64)
    field, (start, end) = model.field(), (model.path.start, model.path.end)
    model.sampler.denoise = False
    variances = model.stds.square()
    shrink = ((variances + start**2) / (variances + end**2)).sqrt()
    expected = model.mean + (noise - model.mean) @ model.vectors @ shrink.diag() @ model.vectors.T
    torch.testing.assert_close(model.sampler.sample(field, noise, model.grid), expected, rtol=2e-3, atol=2e-3)


def test_draws_from_the_records_are_the_records():
    x = torch.randn(150, 4)
    model = solved(x, law="records")
    nearest = torch.cdist(model.sample(40), x).min(1).values
    assert nearest.max() < 0.02


def test_the_exact_law_has_classes():
    model = method(law="exact", source=GAUSSIANS | {"labels": [1, 0], "weights": [0.8, 0.2]})
    draws = model.sample_of(torch.tensor([0, 1]).repeat(100))
    assert (draws[::2, 0] > 0).all()
    assert (draws[1::2, 0] < 0).all()
    torch.manual_seed(0)
    assert (model.sample(2000)[:, 0] < 0).float().mean().item() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"law": "poisson"}, "model.law=poisson is unknown"),
        ({"law": "exact"}, "is that of a source"),
        ({"source": GAUSSIANS}, "is that of a source"),
        ({"law": "exact", "source": {"_target_": "datamodules.sources.digits.Digits"}}, "no law that is a mixture"),
    ],
)
def test_laws_that_nobody_knows_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        method(**changes)
