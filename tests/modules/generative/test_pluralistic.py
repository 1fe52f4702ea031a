"""The losses by hand, who learns from what, and what a completion may look at."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Masked
from datamodules.spec import DataSpec
from modules.generative.pluralistic import Pluralistic

SPEC = DataSpec("pictures", "image", (1, 4, 4), bounds=(-1.0, 1.0))
NET = {"_target_": "modules.networks.mlp.MLP", "width": 16, "depth": 2}


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    mask = torch.ones(5, 1, 4, 4)
    mask[:, :, :2] = 0
    return Masked(2 * torch.rand(5, 1, 4, 4, generator=draw) - 1, mask)


def method(**parts) -> Pluralistic:
    torch.manual_seed(0)
    return Pluralistic(SPEC, latent=3, features=4, net=NET, **parts)


def test_the_spread_of_the_prior_falls_with_what_is_seen():
    """Nothing seen: 1 / (1 + exp(-6.4)); four fifths: 1 / 2; all: 1 / (1 + exp(1.6))."""
    mask = torch.zeros(3, 1, 1, 5)
    mask[1, ..., :4] = 1
    mask[2] = 1
    want = [1 / (1 + math.exp(-6.4)), 0.5, 1 / (1 + math.exp(1.6))]
    assert Pluralistic.spread(mask).squeeze(1).tolist() == pytest.approx(want, rel=1e-6)


def test_divergences_by_hand(batch, monkeypatch):
    """q = N(1, 1/4), p = N(0, 1), s of half seen: ln(s1 / s0) + (s0^2 + m^2) / (2 s1^2) - 1 / 2 per component."""
    learner = method(kl=1.0)
    q = torch.distributions.Normal(torch.ones(5, 3), torch.full((5, 3), 0.5))
    p = torch.distributions.Normal(torch.zeros(5, 3), torch.ones(5, 3))
    _, features = learner.generator.prior(*batch)
    monkeypatch.setattr(learner.generator, "posterior", lambda x, mask: q)
    monkeypatch.setattr(learner.generator, "prior", lambda x, mask: (p, features))
    terms = learner.generate(batch)
    s = 1 / (1 + math.exp(8 * (0.5 - 0.8)))
    assert terms["divergence"].item() == pytest.approx(math.log(s / 0.5) + 1.25 / (2 * s**2) - 0.5, rel=1e-5)
    assert terms["coupling"].item() == pytest.approx(math.log(2) + 1.25 / 2 - 0.5, rel=1e-5)


def test_the_generative_path_is_asked_for_what_is_seen_alone(batch):
    learner = method(adversarial=0.0)
    hidden = Masked(torch.where(batch.mask == 1, batch.x, -batch.x), batch.mask)
    values = []
    for one in (batch, hidden):
        torch.manual_seed(1)
        values.append(learner.generate(one))
    assert values[0]["seen"].item() == pytest.approx(values[1]["seen"].item(), rel=1e-6)
    assert values[0]["reconstruction"].item() != pytest.approx(values[1]["reconstruction"].item(), rel=1e-3)


def test_the_coupling_moves_the_prior_and_not_the_posterior(batch):
    learner = method()
    coupling = learner.generate(batch)["coupling"]
    hidden, seen = list(learner.generator.hidden.parameters()), list(learner.generator.seen.parameters())
    found = torch.autograd.grad(coupling, hidden + seen, allow_unused=True)
    assert all(gradient is None for gradient in found[: len(hidden)])
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in found[len(hidden) :])


def test_least_squares_of_perfect_and_of_blind_discriminators(batch):
    """A blind judge that says 1/2 pays 1/4; one that says 1 pays 1/2."""
    for level, want in ((0.5, 0.25), (1.0, 0.5)):
        learner = method()
        for judge in learner.discriminators.values():
            torch.nn.init.zeros_(judge.last.weight)
            torch.nn.init.constant_(judge.last.bias, level)
        terms = learner.discriminate(batch)
        assert [term.item() for term in terms.values()] == pytest.approx([want, want])


def test_a_completion_keeps_what_is_seen_and_never_looks_at_what_is_not(batch):
    learner = method()
    other = torch.where(batch.mask == 1, batch.x, torch.zeros(()))
    drawn = []
    for x in (batch.x, other):
        torch.manual_seed(2)
        drawn.append(learner.inpaint(x, batch.mask))
    assert torch.equal(*drawn)
    assert torch.equal(drawn[0] * batch.mask, batch.x * batch.mask)
    assert not torch.equal(learner.inpaint(batch.x, batch.mask), drawn[0])  # another draw


@pytest.mark.parametrize("wrong", [{"kl": -1.0}, {"rec": -1.0}, {"adversarial": -1.0}])
def test_negative_weights_are_refused(wrong):
    with pytest.raises(UserError, match=f"model.{next(iter(wrong))}="):
        method(**wrong)


def test_pictures_of_another_range_are_refused():
    with pytest.raises(UserError, match="datamodule=masked_pictures"):
        Pluralistic(SPEC.but(bounds=(0.0, 1.0)), net=NET)
    with pytest.raises(UserError, match=r"model\.latent=0"):
        Pluralistic(SPEC, latent=0, net=NET)
