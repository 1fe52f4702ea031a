"""XPO: its bonus, its limit, and where it leads while it writes its own pairs."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.referenced import DPO
from modules.preference.objectives.xpo import XPO
from tests.modules.test_contract import planned, trained


def pairs(by_reference):
    draw = torch.Generator().manual_seed(0)
    four = torch.randn(4, 6, generator=draw, dtype=torch.float64)
    chosen, rejected = by_reference.unbind(1)
    return Pairs(*four, torch.ones(6), torch.ones(6), chosen_by_reference=chosen, rejected_by_reference=rejected)


def test_the_bonus_is_the_likelihood_of_what_the_reference_wrote():
    by_reference = torch.tensor([[True, False], [False, True]] * 3)
    given = pairs(by_reference)
    found = XPO(alpha=0.3, beta=0.2)(given)
    said = [float((given.chosen, given.rejected)[row % 2][row]) for row in range(6)]
    assert float(found["exploration"]) == pytest.approx(0.3 * sum(said) / 6)
    torch.testing.assert_close(found["preference"], DPO(0.2)(given))


def test_pairs_of_unknown_writers_are_refused():
    with pytest.raises(UserError, match=r"datamodule\.second=reference"):
        XPO()(pairs(torch.ones(6, 2).bool())._replace(chosen_by_reference=None))
    with pytest.raises(UserError, match="alpha"):
        XPO(alpha=-1)


@pytest.mark.parametrize("alpha", [0.0, 0.01])
def test_it_ends_near_the_optimum_of_the_divergence(alpha, tmp_path):
    """Without a bonus the last policy is pi_ref exp(r / beta), and a small bonus moves it a little."""
    run = planned(
        "preference/pairwise", tmp_path, "data.train=6000", "data.prompts=2", "data.answers=4", "objective=xpo",
        "datamodule=online_preferences", "datamodule.second=reference", "datamodule.keep=null",
        "datamodule.batch_size=300", "datamodule.passes=10", "trainer.limit_train_batches=1.0",
        "model.objective.beta=1.0", "optimizer.lr=0.1", f"model.objective.alpha={alpha}",
    )  # fmt: skip
    parts = trained(run)
    world = parts.data.world
    with torch.no_grad():
        found = parts.method.all_log_probs(world.prompts, world.answers).double()
    best = world.reward.log_softmax(1)
    assert float((found.exp() * (found - best)).sum(1).mean()) < 0.03
