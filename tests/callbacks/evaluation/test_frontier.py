"""Reward against divergence: the frontier by another solver, where policies lie on it and below it, and the picture."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize

from callbacks.evaluation.frontier import Frontier, at, curve, place
from compendium.compose import compose
from compendium.run import Run
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from modules.preference.optimum import best_of, tilted
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.modules.test_contract import trained

DATA = PreferenceData(Bandit())
REFERENCE = torch.randn(8, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log_softmax(1)


class Given(Fake):
    """A law that is told, beside one reference."""

    def __init__(self, law):
        super().__init__()
        self.law = law

    def all_log_probs(self, prompts, answers):
        return self.law

    def all_reference_log_probs(self, prompts, answers):
        return REFERENCE


def share(law, folder):
    return evaluate(Given(law), DATA, Frontier(picture=True), folder=folder)["frontier_share"]


def test_the_frontier_is_what_a_general_solver_finds():
    """The largest mean reward of two prompts with three answers under a bound on the mean divergence."""
    torch.manual_seed(0)
    reference, reward = torch.randn(2, 3, dtype=torch.float64).log_softmax(1), torch.randn(2, 3, dtype=torch.float64)

    def law(flat):
        return torch.tensor(flat).view(2, 3).log_softmax(1)

    for bound in (0.05, 0.3):
        found = minimize(
            lambda flat: -place(law(flat), reference, reward)[1],
            reference.flatten().numpy(),
            constraints={"type": "ineq", "fun": lambda flat, b=bound: b - place(law(flat), reference, reward)[0]},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert at(curve(reference, reward), bound) == pytest.approx(-found.fun, abs=2e-3)


def test_tilted_policies_lie_on_it_and_the_best_of_n_a_little_below(tmp_path):
    reward = DATA.world.reward
    for beta in (0.1, 0.7, 5.0):
        assert share(tilted(REFERENCE, reward, beta), tmp_path) == pytest.approx(1, abs=0.01)
    assert 0.8 < share(best_of(REFERENCE, reward, 4), tmp_path) < 1
    assert share(tilted(REFERENCE, -reward, 1.0), tmp_path) < 0
    assert math.isnan(share(REFERENCE, tmp_path))


def test_the_picture_shows_each_validation_and_comes_when_it_is_asked_for(tmp_path):
    asked = ["callbacks.evaluation.frontier.picture=true", "trainer=cpu", "trainer.max_epochs=3", f"runs={tmp_path}"]
    run = Run.plan(compose(["model=preference/pairwise", "data.train=200", *asked]))
    run.freeze()
    parts = trained(run)
    parts.trainer.test(parts.method, parts.data, verbose=False)
    assert (run.folder / "frontier.png").stat().st_size > 10_000
    found = next(one for one in parts.trainer.callbacks if isinstance(one, Frontier))
    assert len(found.way) == 3 + 1
    again = Frontier(picture=True)
    again.load_state_dict(found.state_dict())
    assert again.way == found.way
    assert Frontier().why_not_on(parts.method, parts.data).endswith("(picture=false)")
