"""The loss of exact noise and of none, and draws of a known mixture."""

from __future__ import annotations

import pytest
import torch

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.phase_space_diffusion import PhaseSpaceDiffusion

SPEC = DataSpec(name="plane", kind="vector", shape=(2,))
SOURCE = {"_target_": "datamodules.sources.densities.Gaussians", "means": [[1.0, -0.5]], "std": 0.4, "train": 10}


def made(spec=SPEC, **changes):
    values = compose(["model=generative/phase_space_diffusion"]).values
    arguments = values["model"] | {"net": values["net"], **changes}
    return PhaseSpaceDiffusion(spec, **{key: value for key, value in arguments.items() if key != "_target_"})


def test_the_loss_of_a_network_that_knows_nothing_is_the_noises_variance():
    torch.manual_seed(0)
    model = made()
    model.predict = lambda z, t: torch.zeros_like(z)
    assert float(model.loss(Unlabelled(torch.randn(20_000, 2)))) == pytest.approx(1, abs=0.02)


def test_the_loss_of_the_true_noise_is_zero():
    """Where a record is always the same, its noise is L^-1 (z - e^(F t) (x, 0))."""
    model, x = made().double(), torch.tensor([0.7, -1.2]).double()

    def known(z, t):
        mean = model.space.transition(t)[:, :, :1] * x
        return torch.linalg.solve(model.space.factor(t), z - mean)

    model.predict = known
    assert float(model.loss(Unlabelled(x.expand(50, 2)))) < 1e-12


def test_pictures_have_twice_the_channels():
    model = made(DataSpec(name="pictures", kind="image", shape=(1, 8, 8), bounds=(-1, 1)))
    z = torch.randn(3, 2, 1, 8, 8)
    assert model.predict(z, torch.full((3,), 0.5)).shape == z.shape
    assert model.sample(2).shape == (2, 1, 8, 8)


def test_draws_of_an_exact_field_are_the_laws():
    torch.manual_seed(0)
    model = made(source=SOURCE, net=None)
    draws = model.sample(4000)
    torch.testing.assert_close(draws.mean(0), torch.tensor([1.0, -0.5]), rtol=0, atol=0.05)
    torch.testing.assert_close(draws.T.cov(), 0.16 * torch.eye(2), rtol=0, atol=0.03)
    assert model.function_evaluations() == 2 * 31 + 1
    assert model.configure_optimizers() is None


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="noise ratio"):
        made(timesteps={"_target_": "modules.generative.timesteps.grids.LogSNR", "steps": 8})
    with pytest.raises(UserError, match="nothing to train"):
        made(source=SOURCE, net=None).loss(Unlabelled(torch.zeros(2, 2)))
