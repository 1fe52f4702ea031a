"""KTO: trl's loss on the same log probabilities, and answers after other prompts."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.kto import KTO
from modules.preference.pairwise import after_other_prompts
from tests.modules.preference.objectives.test_objectives import pairs
from tests.modules.test_contract import planned, trained


def of_kto_trainer(given: Pairs, mismatched, reference_mismatched, **settings) -> float:
    """trl's KTO trainer on these log probabilities: chosen answers first, then the rejected."""
    from trl.trainer.kto_trainer import KTOTrainer

    log_pi = torch.cat([given.chosen, given.rejected])
    rows = log_pi[:, None]
    outputs = SimpleNamespace(log_probs=rows, entropy=rows, mean_logits=rows, aux_loss=None)
    trainer = MagicMock()
    for name, value in {
        "accelerator": SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x),
        "aux_loss_enabled": False,
        "precompute_ref_logps": True, "calculate_KL": True, "loss_type": "kto", "beta": settings["beta"],
        "desirable_weight": settings["good_weight"], "undesirable_weight": settings["bad_weight"],
        "_compute_kl_logps": lambda *_: mismatched, "_total_train_tokens": 0, "_tp_size": 1,
    }.items():  # fmt: skip
        setattr(trainer, name, value)
    two = torch.zeros(len(log_pi), 2, dtype=torch.long)
    inputs = {
        "label": torch.tensor([True] * len(given.chosen) + [False] * len(given.chosen)),
        "input_ids": two, "attention_mask": two + 1, "completion_mask": two,
        "ref_logps": torch.cat([given.reference_chosen, given.reference_rejected]),
        "ref_KL_logps": reference_mismatched,
    }  # fmt: skip
    return float(KTOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False))


@pytest.mark.parametrize("scale", [0.5, 5.0, 300.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_its_loss_is_that_of_trl(scale, sign):
    given = pairs(scale)
    draw = torch.Generator().manual_seed(3)
    mismatched, reference = -scale * torch.rand(2, 12, generator=draw)
    mismatched = reference + sign * (mismatched - reference).abs()  # above and below the reference, where z is 0
    settings = {"beta": 0.3, "good_weight": 1.5, "bad_weight": 0.7}
    ours = KTO(**settings)(given._replace(mismatched=mismatched - reference))
    assert float(ours) == pytest.approx(of_kto_trainer(given, mismatched, reference, **settings), abs=1e-6)


def test_answers_stand_after_the_prompt_of_the_row_before():
    ids = torch.tensor([[[1, 2, 7, 0, 0], [1, 2, 8, 8, 0]], [[3, 9, 9, 9, 9], [3, 6, 0, 0, 0]]])
    answers = torch.tensor([[[0, 0, 1, 0, 0], [0, 0, 1, 1, 0]], [[0, 1, 1, 1, 1], [0, 1, 0, 0, 0]]]).bool()
    texts, own = after_other_prompts(ids, answers)
    assert texts.tolist() == [[[3, 7, 0, 0, 0, 0], [3, 8, 8, 0, 0, 0]], [[1, 2, 9, 9, 9, 9], [1, 2, 6, 0, 0, 0]]]
    assert own.sum(2).tolist() == answers.sum(2).tolist()
    assert torch.equal(texts[own], ids[answers])


def test_it_learns_what_is_preferred(tmp_path):
    run = planned(
        "preference/pairwise", tmp_path, "objective=kto", "data.train=4000", "data.prompts=2", "data.answers=4",
        "datamodule.batch_size=400", "trainer.max_epochs=20", "trainer.limit_train_batches=1.0", "optimizer.lr=0.1",
    )  # fmt: skip
    parts = trained(run)
    world = parts.data.world
    with torch.no_grad():
        found = parts.method.all_log_probs(world.prompts, world.answers)
    assert found.argmax(1).tolist() == world.reward.argmax(1).tolist()


def test_one_pair_and_wrong_values_are_refused():
    given = pairs(1.0)
    one = Pairs(*(part[:1] for part in given[:6]), mismatched=torch.zeros(2))
    with pytest.raises(UserError, match="other prompts"):
        KTO()(one)
    with pytest.raises(UserError, match="beta=0"):
        KTO(beta=0)
    with pytest.raises(UserError, match="bad_weight"):
        KTO(bad_weight=-1)
