"""Answers as tokens: in their places, and the same in every split."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.preferences import DemonstrationData, PreferenceData, ScoredPairData
from datamodules.sources.bandit import Bandit


def test_pairs_are_prompt_and_answers_and_know_their_row():
    data = PreferenceData(Bandit(train=50, validation=10, test=10), batch_size=16)
    columns, rows = data.source_columns, data.rows["train"]
    batch = data.records("train")
    for place, name in enumerate(("chosen", "rejected")):
        assert torch.equal(batch.pairs[:, place], torch.stack([columns["prompt"], columns[name]], 1)[rows])
    assert batch.answers.tolist() == [[[False, True]] * 2] * 50
    assert batch.row.tolist() == list(range(50))
    assert set(data.records("test").row.tolist()) == {-1}
    for given in data.train_dataloader():
        assert torch.equal(given.pairs, batch.pairs[given.row])


def test_demonstrations_are_recorded_or_chosen_answers():
    source = Bandit(train=4000)
    chosen = DemonstrationData(source, of="chosen").records("train")
    recorded = DemonstrationData(source).records("train")
    pairs = PreferenceData(source).records("train").pairs
    assert torch.equal(chosen.ids, pairs[:, 0])
    is_chosen = (recorded.ids == pairs[:, 0]).all(1)
    assert (is_chosen | (recorded.ids == pairs[:, 1]).all(1)).all()
    assert float(is_chosen.double().mean()) == pytest.approx(0.5, abs=0.04)
    assert recorded.answer.tolist() == [[False, True]] * 4000


def test_scores_are_the_world_s():
    data = ScoredPairData(Bandit())
    batch = data.records("test")
    rows = data.rows["test"]
    columns, reward = data.source_columns, data.world.reward.float()
    for place, name in enumerate(("chosen", "rejected")):
        assert torch.equal(batch.scores[:, place], reward[columns["prompt"][rows], columns[name][rows]])
    assert torch.equal(batch.pairs, PreferenceData(Bandit()).records("test").pairs)


def test_an_unknown_choice_of_answers_is_refused():
    with pytest.raises(UserError, match=r"datamodule\.of=best"):
        DemonstrationData(Bandit(), of="best")
