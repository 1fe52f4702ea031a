"""The terms of both players by hand, and the best linear code where there is no discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gan_autoencoder import GANAutoencoder

SPEC = DataSpec(name="space", kind="vector", shape=(3,))
NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 2}


def test_the_terms_of_both_players_by_hand():
    method = GANAutoencoder(SPEC, latent=2, adversarial=0.5, net=NET)
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    method.autoencoder.forward = lambda x: x - torch.tensor([0.0, 0.0, 3.0])
    method.discriminator.forward = lambda x: x.sum(1, keepdim=True)
    player = method.play("autoencoder", Unlabelled(x))
    assert float(player["reconstruction"]) == pytest.approx(3.0)  # 9 in one of three components
    assert float(player["adversarial"]) == pytest.approx(0.5 * 1.5)  # judged -2 and -1
    judge = method.play("discriminator", Unlabelled(x))
    assert float(judge["discriminator"]) == pytest.approx(0.0)  # data above 1, the others at -1 or below
    method.discriminator.forward = lambda x: torch.zeros(len(x), 1)
    assert float(method.play("discriminator", Unlabelled(x))["discriminator"]) == pytest.approx(2.0)


def test_alone_and_linear_it_finds_the_principal_components():
    """The smallest mean squared error of a linear code of two components is the third variance (Eckart and Young)."""
    torch.manual_seed(0)
    method = GANAutoencoder(SPEC, latent=2, adversarial=0.0, net=NET)
    method.autoencoder.encoder, method.autoencoder.decoder = nn.Linear(3, 2), nn.Linear(2, 3)
    x = torch.randn(500, 3) @ torch.tensor([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.3, 0.2, 0.4]])
    x = x - x.mean(0)
    descent = torch.optim.LBFGS(method.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        descent.zero_grad()
        loss = method.loss(Unlabelled(x))["reconstruction"]
        loss.backward()
        return loss

    descent.step(closure)
    best = torch.linalg.svdvals(x)[2].square() / x.numel()
    with torch.no_grad():
        found = (method.reconstruct(x) - x).square().mean()
    torch.testing.assert_close(found, best, rtol=1e-3, atol=0)
    assert method.turns == ("autoencoder",)
    assert method.embed(x).shape == (500, 2)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match=r"model\.latent=0"):
        GANAutoencoder(SPEC, latent=0, net=NET)
    with pytest.raises(UserError, match=r"model\.adversarial=-1"):
        GANAutoencoder(SPEC, adversarial=-1.0, net=NET)
