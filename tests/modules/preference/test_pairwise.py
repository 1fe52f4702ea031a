"""Preferences on a policy: where it begins, what it remembers of its reference, where it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from modules.method import Method
from tests.modules.test_contract import planned, trained


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    parts = trained(planned("preference/fine_tuning", tmp_path_factory.mktemp("tuned"), "optimizer.lr=0.5"))
    return parts.method.eval(), Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt"


def test_the_reference_is_where_it_begins_and_opens_without_that_checkpoint(tuned, tmp_path):
    origin, path = tuned
    copy = tmp_path / "tuned.ckpt"
    copy.write_bytes(path.read_bytes())
    parts = trained(planned("preference/pairwise", tmp_path, f"model.model={copy}", "optimizer.lr=0.5"))
    copy.unlink()
    method = Method.load_from_checkpoint(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    world = parts.data.world
    with torch.no_grad():
        assert torch.equal(
            method.all_reference_log_probs(world.prompts, world.answers),
            origin.all_log_probs(world.prompts, world.answers),
        )
        assert not torch.equal(
            method.all_log_probs(world.prompts, world.answers), origin.all_log_probs(world.prompts, world.answers)
        )
        # What was noted of the training pairs is what the reference says of them.
        batch = parts.data.records("train")
        pairs = method.preference_pairs(batch)
    torch.testing.assert_close(
        parts.method.noted, torch.stack([pairs.reference_chosen, pairs.reference_rejected], 1), rtol=0, atol=0
    )


def test_it_reaches_the_optimum_of_the_divergence_and_the_true_reward(tmp_path):
    """With many pairs DPO ends near pi_ref exp(r / beta), the policy that is best in closed form."""
    run = planned(
        "preference/pairwise", tmp_path, "data.train=40000", "data.prompts=2", "data.answers=4", "data.sharpness=0.3",
        "datamodule.batch_size=4000", "trainer.max_epochs=60", "trainer.limit_train_batches=1.0",
        "model.objective.beta=1.0", "optimizer.lr=0.1",
    )  # fmt: skip
    parts = trained(run)
    world = parts.data.world
    with torch.no_grad():
        found = parts.method.all_log_probs(world.prompts, world.answers).double()
    best = world.reward.log_softmax(1)
    divergence = float((found.exp() * (found - best)).sum(1).mean())
    assert divergence < 2e-3


def test_a_checkpoint_of_another_network_or_of_no_policy_is_refused(tuned, tmp_path):
    _, path = tuned
    more = ("net=transformer", "net.width=8", "net.depth=1", "net.heads=1")
    with pytest.raises(UserError, match="has another network"):
        trained(planned("preference/pairwise", tmp_path / "a", f"model.model={path}", *more))
    other = trained(planned("supervised/classifier", tmp_path / "b", "data=wine", "net=mlp"))
    path = f"{other.trainer.default_root_dir}/checkpoints/last.ckpt"
    with pytest.raises(UserError, match="is a SoftmaxClassifier, no Policy"):
        trained(planned("preference/pairwise", tmp_path / "c", f"model.model={path}"))
