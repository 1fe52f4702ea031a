"""The restorer against torch's normal laws, and the variance of a mixture by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from skimage.restoration import denoise_tv_chambolle
from torch.nn import functional as F

from callbacks.evaluation.super_resolution import SuperResolution
from compendium.errors import UserError
from datamodules.batches import Magnified
from datamodules.presentations.noised import NoisedData
from datamodules.sources.pictures import PicturePatches
from datamodules.spec import DataSpec
from modules.capabilities import SuperResolver
from modules.uncertainty.restorer import Restorer
from tests.callbacks.evaluation.fakes import Fake, evaluate

SPEC = DataSpec("pictures", "image", (2, 4, 4), bounds=(-1.0, 1.0))
NET = {"_target_": "modules.networks.unet.UNet", "channels": [8, 8]}


def batch(n=6, factor=1):
    high = torch.rand(n, 2, 4 * factor, 4 * factor) * 2 - 1
    return Magnified(F.avg_pool2d(high, factor), high)


def moved(method):
    """The method with a last layer that is not zero."""
    with torch.no_grad():
        for weight in method.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return method


@pytest.mark.parametrize("factor", [1, 2])
def test_it_begins_as_enlargement_with_one_deviation(factor):
    given, method = batch(factor=factor), Restorer(SPEC, factor=factor, members=3, net=NET)
    assert isinstance(method, SuperResolver)
    enlarged = F.interpolate(given.x, scale_factor=factor, mode="bilinear") if factor > 1 else given.x
    sigma = np.log(2) + 1e-3  # softplus(0) and the floor
    passes = method.super_resolve(given.x)
    torch.testing.assert_close(passes, torch.stack([enlarged - sigma] * 3 + [enlarged + sigma] * 3))
    expected = -3 * norm.logpdf(given.high.double(), enlarged.double(), sigma).mean()
    assert method.loss(given).item() == pytest.approx(expected, rel=1e-6)


def test_passes_have_the_mean_and_variance_of_the_mixture():
    method = moved(Restorer(SPEC, members=3, net=NET)).double()
    x = batch().x.double()
    law, passes = method.predict_members(x), method.super_resolve(x)
    assert len(passes) == 6
    torch.testing.assert_close(passes.mean(0), law.loc.mean(0))
    total = law.variance.mean(0) + law.loc.var(0, correction=0)
    torch.testing.assert_close(passes.var(0, correction=0), total)


def test_each_member_has_the_gradient_of_a_run_of_its_own():
    given, method = batch(), moved(Restorer(SPEC, members=2, net=NET))
    method.loss(given).backward()
    alone = Restorer(SPEC, members=1, net=NET)
    alone.load_state_dict({name: value[1:] for name, value in method.state_dict().items()})
    alone.loss(given).backward()
    for one, both in zip(alone.parameters(), method.parameters(), strict=True):
        torch.testing.assert_close(one.grad[0], both.grad[1], rtol=1e-4, atol=1e-6)


class TotalVariation(Fake):
    """scikit-image's denoiser, which is no network."""

    def super_resolve(self, x):
        restored = [denoise_tv_chambolle((picture.numpy() + 1) / 2, weight=0.1) for picture in x[:, 0]]
        return torch.from_numpy(np.stack(restored))[None, :, None].float() * 2 - 1


def test_any_denoiser_is_evaluated_and_gains_on_the_noisy_picture(tmp_path):
    data = NoisedData(PicturePatches(patch=32, pictures=["camera", "coins"]), sigma=0.2)
    noisy = evaluate(Identity(), data, SuperResolution(), folder=tmp_path)
    restored = evaluate(TotalVariation(), data, SuperResolution(), folder=tmp_path)
    assert restored["psnr"] > noisy["psnr"] + 1
    assert set(noisy) == {"psnr", "ssim"}


class Identity(Fake):
    """The noisy picture itself."""

    def super_resolve(self, x):
        return x[None]


@pytest.mark.parametrize("arguments", [{"factor": 0}, {"floor": 0.0}, {"members": 0}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        Restorer(SPEC, net=NET, **arguments)
