"""Figures of super-resolution against torchmetrics, NumPy and laws that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
from skimage.metrics import structural_similarity
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio

from callbacks.evaluation.super_resolution import SuperResolution
from datamodules.presentations.magnified import MagnifiedData
from datamodules.presentations.noised import NoisedData
from datamodules.sources.digits import Digits
from datamodules.sources.pictures import PicturePatches
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Spread(Fake):
    """The truth with an error drawn from N(0, s^2), and members with a spread of `width` s."""

    def __init__(self, width, passes=2):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.high = MagnifiedData(Digits()).records("test").high
        self.s = 0.05 + 0.3 * torch.rand(self.high.shape, generator=draw)
        self.mean = self.high + self.s * torch.randn(self.high.shape, generator=draw)
        self.width, self.passes, self.seen = width, passes, 0

    def super_resolve(self, x):
        rows = slice(self.seen, self.seen + len(x))
        self.seen += len(x)
        signs = torch.tensor([-1.0, 1.0] if self.passes == 2 else [0.0]).view(-1, 1, 1, 1, 1)
        return self.mean[rows] + signs * self.width * self.s[rows]


def figures(method, tmp_path, size=1024):
    return evaluate(method, MagnifiedData(Digits(), eval_batch_size=size), SuperResolution(), folder=tmp_path)


def test_an_honest_spread_covers_what_it_promises(tmp_path):
    method = Spread(1.0)
    got = figures(method, tmp_path)
    assert got["coverage_error"] < 0.01
    expected = np.corrcoef(method.s.flatten(), (method.mean - method.high).abs().flatten())[0, 1]
    assert got["error_correlation"] == pytest.approx(expected, abs=1e-5)
    psnr = peak_signal_noise_ratio(method.mean, method.high, data_range=2.0)
    assert got["psnr"] == pytest.approx(psnr.item(), rel=1e-5)
    assert figures(Spread(1.0), tmp_path, 100) == pytest.approx(got, rel=1e-5)


def test_a_spread_that_is_too_narrow_covers_too_little(tmp_path):
    # With a tenth of the spread a level covers 2 Phi(z / 10) - 1.
    levels = torch.linspace(0.05, 0.95, 19)
    reach = 2**0.5 * torch.erfinv(levels)
    expected = (levels - torch.erf(reach / 10 / 2**0.5)).abs().mean()
    assert figures(Spread(0.1), tmp_path)["coverage_error"] == pytest.approx(expected.item(), abs=0.005)


def test_one_pass_has_no_spread(tmp_path):
    assert set(figures(Spread(1.0, passes=1), tmp_path)) == {"psnr", "ssim"}


def test_coarse_pictures_are_means_of_fine_ones():
    data = MagnifiedData(Digits(), factor=4)
    assert data.spec.shape == (1, 2, 2)
    batch = data.records("test")
    torch.testing.assert_close(batch.x, F.avg_pool2d(batch.high, 4))


class Noisy(Fake):
    """Pictures as they come."""

    def super_resolve(self, x):
        return x[None]


@pytest.mark.parametrize("channels", [1, 3])
def test_denoising_has_the_figures_of_skimage(tmp_path, channels):
    source = PicturePatches(patch=32, channels=channels, pictures=["camera", "coins", "astronaut"])
    data = NoisedData(source, sigma=0.1, photons=50.0, eval_batch_size=4096)
    got = evaluate(Noisy(), data, SuperResolution(), folder=tmp_path)
    data.setup()
    ((x, high),) = data.test_dataloader()
    x, high = x.double().numpy(), high.double().numpy()
    # The Gaussian window of Wang et al. 2004, of 11 pixels. skimage averages over places where it lies inside.
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    wide = [np.pad(part, ((0, 0), (0, 0), (5, 5), (5, 5)), mode="reflect") for part in (x, high)]
    ssim = [structural_similarity(*pair, data_range=2.0, **window) for pair in zip(*wide, strict=True)]
    assert got["psnr"] == pytest.approx(skimage_psnr(high, x, data_range=2.0), abs=1e-5)
    assert got["ssim"] == pytest.approx(np.mean(ssim), abs=1e-6)
