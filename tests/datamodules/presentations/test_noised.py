"""Noise of pictures: its moments against the laws that the docstring names."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.presentations.noised import NoisedData
from datamodules.source import Records
from datamodules.sources.digits import Digits
from datamodules.spec import DataSpec
from tests.datamodules.fakes import Given


def grey(level, count=200):
    """Pictures of one brightness."""
    spec = DataSpec("grey", "image", (1, 8, 8), bounds=(0.0, 1.0))
    return Given(Records(spec, {"x": torch.full((count, 1, 8, 8), level)}))


@pytest.mark.parametrize(
    ("level", "sigma", "photons", "variance"),
    [(0.5, 0.1, None, 0.01), (0.5, 0.0, 100.0, 0.005), (0.25, 0.05, 200.0, 0.0025 + 0.25 / 200)],
)
def test_variance_is_that_of_sigma_and_of_photons(level, sigma, photons, variance):
    # The brightness lies at least five standard deviations from where the noise is cut off.
    batch = NoisedData(grey(level), sigma=sigma, photons=photons, validation=0.0, test=0.9).records("test")
    assert batch.x.shape == batch.high.shape
    noise = (batch.x - batch.high) / 2
    count = noise.numel()
    assert noise.mean().item() == pytest.approx(0.0, abs=5 * (variance / count) ** 0.5)
    assert noise.var().item() == pytest.approx(variance, rel=5 * (2 / count) ** 0.5)
    psnr = peak_signal_noise_ratio(batch.high.numpy(), batch.x.numpy(), data_range=2.0)
    assert psnr == pytest.approx(-10 * torch.tensor(variance).log10().item(), abs=0.3)


def test_noise_is_cut_off_at_the_bounds_and_comes_after_the_mean_over_squares():
    data = NoisedData(Digits(), factor=2, sigma=0.3)
    assert data.spec.shape == (1, 4, 4)
    batch = data.records("test")
    assert (batch.x.min(), batch.x.max()) == (-1.0, 1.0)
    still = NoisedData(Digits(), factor=2, sigma=0.0).records("test")
    torch.testing.assert_close(still.x, F.avg_pool2d(still.high, 2))


def test_training_noise_is_drawn_anew_and_test_noise_stays():
    data = NoisedData(Digits(), eval_batch_size=64)
    data.setup()
    first, second = (torch.cat([batch.x for batch in data.test_dataloader()]) for _ in range(2))
    assert torch.equal(first, second)
    rows = data.rows["train"][:8]
    torch.manual_seed(0)
    draws = [data.present({"x": data.columns["x"][rows]}, "train") for _ in range(2)]
    assert torch.equal(draws[0].high, draws[1].high)
    assert not torch.equal(draws[0].x, draws[1].x)


@pytest.mark.parametrize("arguments", [{"sigma": -0.1}, {"photons": 0.0}, {"factor": 0}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        NoisedData(Digits(), **arguments)
