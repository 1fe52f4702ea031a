"""Pictures of the plane: the mass of a known density, and states that a known field passes through."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from callbacks.evaluation.density_map import DensityMap
from callbacks.evaluation.trajectories import Trajectories
from compendium.compose import compose
from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Gaussians
from datamodules.sources.digits import Digits
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, evaluate


@pytest.fixture
def data():
    data = UnlabelledData(Gaussians([[0.0, 0.0]], 1.0, train=50, validation=5, test=500))
    data.setup()
    return data


class Normal(Fake):
    """`factor` times the density of N(0, I), and straight ways from 0 to the corners of a square."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.weight = factor, nn.Parameter(torch.zeros(()))

    def log_prob(self, x):
        return math.log(self.factor) - 0.5 * x.square().sum(1) - math.log(2 * math.pi)

    def trajectories(self, n):
        ends = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])[torch.arange(n) % 4]
        return torch.linspace(0, 1, 5)[:, None, None] * ends


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_mass_of_a_known_density_by_the_midpoint_rule(factor, data, tmp_path):
    """The frame reaches as far as 500 records of N(0, I) and a margin: about 0.99 of the mass lies in it."""
    figures = evaluate(Normal(factor), data, DensityMap(cells=60), folder=tmp_path)
    assert figures["mass"] == pytest.approx(0.99 * factor, rel=0.02)
    assert (tmp_path / "density.png").stat().st_size > 5000


def test_the_picture_of_trajectories_is_written_where_it_is_asked_for(data, tmp_path):
    assert evaluate(Normal(), data, Trajectories(), folder=tmp_path) == {}
    assert not list(tmp_path.rglob("trajectories.png"))
    evaluate(Normal(), data, Trajectories(n=20), folder=tmp_path)
    assert (tmp_path / "trajectories.png").stat().st_size > 5000


def test_records_that_are_no_points_of_the_plane_have_none():
    spec = Digits().load().spec
    assert "plane" in (Trajectories(n=3).misfit(Normal(), spec) or "")
    assert "plane" in (DensityMap(cells=3).misfit(Normal(), spec) or "")
    with pytest.raises(UserError, match="n=0"):
        Trajectories(n=0)
    with pytest.raises(UserError, match="cells=1"):
        DensityMap(cells=1)


def test_states_of_a_field_begin_with_noise_end_with_the_draws_and_have_one_scale():
    values = compose(["model=generative/analytic_diffusion", "path=edm", "data=ring", "model.source=${data}"]).values
    spec = DataSpec("ring", "vector", (2,))
    model = instantiate({**values["model"], "law": "exact"}, spec).double()
    torch.manual_seed(0)
    states = model.trajectories(500)
    torch.manual_seed(0)
    draws = model.sample(500)
    assert torch.equal(states[-1], draws)
    assert len(states) == model.function_evaluations() + 1
    # By the noise of 80 and by the data alike, every state has about the standard deviation of the draws.
    spread = states.flatten(1).std(1) / draws.std()
    torch.testing.assert_close(spread, torch.ones_like(spread), atol=0.1, rtol=0)
