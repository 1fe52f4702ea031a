"""Figures of acquired labels, by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from callbacks.evaluation.acquired import AcquiredFigures
from datamodules.presentations.featured_pairs import FeaturedPairData
from datamodules.sources.clustered_preferences import ClusteredPreferences
from tests.callbacks.evaluation.fakes import Fake, evaluate


class ByOneFeature(Fake):
    """Prefers answers whose last feature is large; has asked for both pairs of five prompts, and one of another."""

    def preference_logit(self, pairs):
        return pairs[:, 0, -1] - pairs[:, 1, -1]

    def acquired_rows(self):
        return self.rows


def test_figures_are_means_over_pairs_and_shares_of_what_was_asked(tmp_path):
    data = FeaturedPairData(ClusteredPreferences(train=40, pairs=2, validation=5, test=90), eval_batch_size=40)
    data.setup()
    place = {int(row): number for number, row in enumerate(data.rows["train"])}
    method = ByOneFeature()
    method.rows = torch.tensor([place[row] for row in [*range(10), 20]])
    got = evaluate(method, data, AcquiredFigures(), folder=tmp_path)
    pairs = data.records("test").pairs
    logit = (pairs[:, 0, -1] - pairs[:, 1, -1]).double()
    assert got["nll"] == pytest.approx(float(F.softplus(-logit).mean()), rel=1e-6)
    assert got["pair_accuracy"] == pytest.approx(float((logit > 0).double().mean()))
    assert got["labels"] == 11
    assert got["distinct_prompts"] == pytest.approx(6 / 11)
