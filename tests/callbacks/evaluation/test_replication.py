"""Draws beside those of a reference, where both are known."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.replication import Replication, replication_error
from compendium.compose import compose
from compendium.config import locate
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Gaussians
from tests.callbacks.evaluation.fakes import Fake, evaluate

DDIM = {"_target_": "modules.generative.samplers.ddim.DDIM", "eta": 0.0, "denoise": True}
DDPM = {"_target_": "modules.generative.samplers.ddim.DDIM", "eta": 1.0, "denoise": True}
STEPS = {"_target_": "modules.generative.timesteps.grids.LogSNR", "steps": 5}


def fitted(data, *choices):
    values = compose(["model=generative/analytic_diffusion", "sampler=ddim", "timesteps=log_snr", *choices])
    arguments = {key: value for key, value in values.values["model"].items() if key != "_target_"}
    model = locate(values.values["model"]["_target_"])(data.spec, **arguments)
    data.setup()
    model.accumulate(data.records("train", 500))
    model.solve()
    return model


@pytest.fixture
def data():
    return UnlabelledData(Gaussians(means=[[-2.0, 0.0], [2.0, 1.0]], train=500, test=200), scale="none")


def test_the_same_parts_replicate_and_others_do_not(data, tmp_path):
    model = fitted(data, "model.timesteps.steps=5")
    same = evaluate(model, data, Replication(sampler=DDIM, timesteps=STEPS, n=100), folder=tmp_path)
    assert same == {"replication_error": 0.0}
    grid = model.grid
    fewer = evaluate(model, data, Replication(timesteps={**STEPS, "steps": 3}, n=100), folder=tmp_path)
    more = evaluate(model, data, Replication(timesteps={**STEPS, "steps": 4}, n=100), folder=tmp_path)
    assert fewer["replication_error"] > more["replication_error"] > 0.01
    assert torch.equal(model.grid, grid)  # its own parts are back
    noisy = evaluate(model, data, Replication(sampler=DDPM, n=100), folder=tmp_path)
    assert noisy["replication_error"] > 0.3


def test_the_error_is_in_standard_deviations_of_the_records():
    """Records at -3 and 3 have a standard deviation of 3; the draws differ by 0 and by 6 sqrt(2)."""
    own, other = torch.tensor([[0.0], [0.0]]), torch.tensor([[0.0], [6 * 2**0.5]])
    assert replication_error(own, other, torch.tensor([[-3.0], [3.0]])) == pytest.approx(2.0)


def test_without_a_reference_or_a_sampler_that_can_be_steered_it_does_not_apply(data, tmp_path):
    assert Replication().misfit(Fake(), data.spec)
    assert evaluate(Fake(), data, Replication(sampler=DDIM), folder=tmp_path) == {}
