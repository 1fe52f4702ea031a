"""The autoencoder that draws, beside the exact law of what its bottleneck leaves open."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gan_autoencoder import GANAutoencoder
from modules.generative.swycc import SWYCC

SPEC = DataSpec(name="plane", kind="vector", shape=(2,))
NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 2}


@cache
def values():
    node = compose(["model=generative/swycc", "path=vp"]).values["model"]
    return {key: value for key, value in node.items() if key != "_target_"}


def made(**changes):
    torch.manual_seed(0)
    return SWYCC(**{**values(), "spec": SPEC, "net": NET, **changes}).double()


def test_the_loss_is_the_sum_of_the_coarse_and_the_denoising_error_by_hand():
    method, x = made(coarse=3.0, drop=0.0, target="noise", weighting="noise"), torch.randn(6, 2).double()
    torch.manual_seed(1)
    terms = method.loss(Unlabelled(x))
    blurred = method.autoencoder.decoder(method.autoencoder.encoder(x))
    torch.testing.assert_close(terms["coarse"], 3 * ((blurred - x) ** 2).mean())
    torch.manual_seed(1)
    torch.rand(6, 1)
    noisy, t, noise = method.refiner.noised(x)
    scale = (method.refiner.path.alpha(t) ** 2 * method.refiner.data_std**2 + method.refiner.path.sigma(t) ** 2).sqrt()
    seen = torch.cat([noisy / scale[:, None], blurred], 1)
    torch.testing.assert_close(terms["diffusion"], ((method.refiner.net.net(seen, t) - noise) ** 2).mean())
    reached = torch.autograd.grad(terms["diffusion"], list(method.autoencoder.parameters()))
    assert all(part.abs().max() > 0 for part in reached)  # encoder and coarse decoder learn from the denoiser too


def test_without_guidance_a_record_that_was_dropped_is_shown_nothing():
    method, x = made(drop=0.999_999), torch.randn(6, 2).double()
    shown = []
    method.refiner.predict = lambda noisy, t, y: shown.append(y) or noisy
    method.loss(Unlabelled(x))
    assert shown[0].abs().max() == 0


def test_with_the_exact_denoiser_reconstructions_have_the_law_given_the_code():
    """x = (a, b) of independent N(0, 1) and the code a: a comes back, b is drawn anew.

    Shown (a, 0) the exact denoiser is (a, alpha b_t) on a path with alpha^2 + sigma^2 = 1.
    """
    method = made()
    method.autoencoder.encoder.forward = lambda x: x[:, :1]
    method.autoencoder.decoder.forward = lambda z: torch.cat([z, torch.zeros_like(z)], 1)
    alpha = method.refiner.path.alpha
    method.refiner.denoise = lambda x, t, shown: torch.cat([shown[:, :1], alpha(t)[:, None] * x[:, 1:]], 1)
    a = torch.full((20_000, 1), 0.7).double()
    drawn = method.reconstruct(torch.cat([a, torch.full_like(a, 9.0)], 1))
    torch.testing.assert_close(drawn[:, :1], a, atol=1e-6, rtol=0)
    assert float(drawn[:, 1].mean()) == pytest.approx(0.0, abs=0.03)
    assert float(drawn[:, 1].std()) == pytest.approx(1.0, abs=0.03)


def test_guidance_goes_on_from_what_is_shown_nothing():
    method, z = made(strength=3.0), torch.randn(4, 4).double()
    method.autoencoder.decoder.forward = lambda z: z[:, :2]
    method.refiner.denoise = lambda x, t, shown: x + 10 * shown + 1
    method.refiner.draw = lambda field, n: field.data(torch.ones(n, 2).double(), torch.tensor(0.5))
    torch.testing.assert_close(method.decode(z), 2 + 30 * z[:, :2])


def test_two_reconstructions_differ_and_their_codes_do_not():
    method, x = made(), torch.randn(5, 2).double()
    assert (method.reconstruct(x) - method.reconstruct(x)).abs().max() > 1e-3
    torch.testing.assert_close(method.embed(x), method.autoencoder.encoder(x))
    assert method.embed(x).shape == (5, 4)


def test_the_plain_autoencoder_is_its_coarse_part():
    method, x = made(), torch.randn(6, 2).double()
    plain = GANAutoencoder(SPEC, latent=4, adversarial=0.0, net=NET).double()
    plain.autoencoder.load_state_dict(method.autoencoder.state_dict())
    torch.testing.assert_close(method.loss(Unlabelled(x))["coarse"], plain.loss(Unlabelled(x))["reconstruction"])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match=r"model\.latent=0"):
        made(latent=0)
    with pytest.raises(UserError, match=r"model\.drop=1"):
        made(drop=1.0)
    with pytest.raises(UserError, match=r"model\.strength=2\.0 with model\.drop=0"):
        made(drop=0.0, strength=2.0)
