"""The bound by hand, and what a completion may look at."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Masked
from datamodules.spec import DataSpec
from modules.generative.completion_cvae import CompletionCVAE

SPEC = DataSpec("pictures", "image", (1, 4, 4), bounds=(-1.0, 1.0))
NET = {"_target_": "modules.networks.mlp.MLP", "width": 16, "depth": 2}


@pytest.fixture
def batch():
    mask = torch.ones(5, 1, 4, 4)
    mask[:, :, :2] = 0
    return Masked(2 * torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) - 1, mask)


def test_the_terms_by_hand(batch, monkeypatch):
    """A decoder that draws grey is off by the mean of |x|; KL(N(1, 1/4) | N(0, 1)) = ln 2 + 1.25 / 2 - 1 / 2."""
    learner = CompletionCVAE(SPEC, latent=3, features=4, rec=2.0, kl=5.0, net=NET)
    q = torch.distributions.Normal(torch.ones(5, 3), torch.full((5, 3), 0.5))
    p = torch.distributions.Normal(torch.zeros(5, 3), torch.ones(5, 3))
    monkeypatch.setattr(learner.generator, "posterior", lambda x, mask: q)
    monkeypatch.setattr(learner.generator, "prior", lambda x, mask: (p, torch.zeros(5, 4)))
    torch.nn.init.zeros_(learner.generator.decoder.last.weight)
    torch.nn.init.zeros_(learner.generator.decoder.last.bias)
    terms = learner.loss(batch)
    assert terms["reconstruction"].item() == pytest.approx(2 * batch.x.abs().mean().item(), rel=1e-6)
    assert terms["divergence"].item() == pytest.approx(5 * (math.log(2) + 1.25 / 2 - 0.5), rel=1e-6)


def test_a_completion_keeps_what_is_seen_and_never_looks_at_what_is_not(batch):
    learner = CompletionCVAE(SPEC, latent=3, features=4, net=NET)
    drawn = []
    for x in (batch.x, batch.x * batch.mask):
        torch.manual_seed(2)
        drawn.append(learner.inpaint(x, batch.mask))
    assert torch.equal(*drawn)
    assert torch.equal(drawn[0] * batch.mask, batch.x * batch.mask)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="datamodule=masked_pictures"):
        CompletionCVAE(SPEC.but(bounds=None), net=NET)
    with pytest.raises(UserError, match=r"model\.kl=-1"):
        CompletionCVAE(SPEC, kl=-1, net=NET)
    with pytest.raises(UserError, match=r"model\.features=0"):
        CompletionCVAE(SPEC, features=0, net=NET)
