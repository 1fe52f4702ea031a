"""Accuracy by kinds of pairs, counted by hand."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.pair_kinds import PairKinds
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from datamodules.sources.conduct import SHOWN, TRAITS, Conduct
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Scores(Fake):
    """Minus the number of words of an answer that show one trait."""

    def __init__(self, data, trait):
        super().__init__()
        self.words = [int(data.speech.encode(word)) for word, name in SHOWN.items() if name == trait]

    def answer_scores(self, ids, answer):
        return -(torch.isin(ids, torch.tensor(self.words)) & answer).sum(-1).float()


def test_pairs_count_for_each_of_their_kinds_and_ties_half(tmp_path):
    data = PreferenceData(Conduct(train=20, validation=8, test=160), eval_batch_size=50)
    data.setup()
    got = evaluate(Scores(data, "risk"), data, PairKinds(), folder=tmp_path)
    assert set(got) >= {f"accuracy_{name}" for name in (*TRAITS, "seen", "unseen", "fine")}
    assert got["accuracy_risk"] == 1
    expected = {name: [] for name in (*TRAITS, "seen", "unseen", "fine")}
    for row in data.rows["test"].tolist():
        gap = [sum(SHOWN.get(word) == "risk" for word in answer.split()) for answer in data.dialogues.answers[row]]
        for kind in data.dialogues.kinds[row]:
            expected[kind].append(1.0 if gap[0] < gap[1] else 0.5 if gap[0] == gap[1] else 0.0)
    for kind, right in expected.items():
        assert got[f"accuracy_{kind}"] == pytest.approx(sum(right) / len(right)), kind
    assert got["accuracy_unseen"] == pytest.approx((got["accuracy_risk"] + got["accuracy_selfhood"]) / 2)


def test_records_of_no_kinds_are_left_out():
    data = PreferenceData(Bandit())
    data.setup()
    assert PairKinds().misfit_of_records(data) == "records are of no kinds"
