"""What the decoders of a VAE are laws of. Its bounds are tested with their base, in `test_latent`."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.vae import VAE

BITS = DataSpec(name="bits", kind="image", shape=(1, 2, 2), levels=2, bounds=(0.0, 1.0))
GREYS = DataSpec(name="greys", kind="image", shape=(1, 2, 2), levels=17, bounds=(-1.0, 1.0))
MLP = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


@torch.no_grad()
def test_bernoulli_probabilities_add_up_and_draws_have_them():
    torch.manual_seed(0)
    method = VAE(BITS, latent=3, net=MLP).double()
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4).view(16, 1, 2, 2)
    z = torch.randn(1, 1, 3).double()
    p = method.decoder.log_prob(x, z.expand(1, 16, 3)).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    draws = method.decoder.sample(z[0].expand(20_000, 3)).flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0]).double()
    torch.testing.assert_close(draws.long().bincount(minlength=16) / 20_000, p.float(), atol=0.02, rtol=0)


def test_the_gaussian_decoder_is_a_normal_law():
    torch.manual_seed(0)
    method = VAE(GREYS, likelihood="gaussian", std=0.3, latent=2, net=MLP).double()
    x, z = torch.randn(5, 1, 2, 2).double(), torch.randn(4, 5, 2).double()
    law = torch.distributions.Normal(method.decoder.net(z.view(20, 2)).view(4, 5, 1, 2, 2), 0.3)
    expected = law.log_prob(x).flatten(2).sum(2).flatten()
    torch.testing.assert_close(method.decoder.log_prob(x, z), expected, rtol=1e-6, atol=1e-6)


def test_grey_records_are_no_bits():
    with pytest.raises(UserError, match="0 or 1"):
        VAE(GREYS, net=MLP)


@pytest.mark.parametrize("wrong", [{"likelihood": "poisson"}, {"std": 0.0}])
def test_unknown_laws_are_refused(wrong):
    with pytest.raises(UserError, match=f"model.{next(iter(wrong))}"):
        VAE(BITS, net=MLP, **wrong)
