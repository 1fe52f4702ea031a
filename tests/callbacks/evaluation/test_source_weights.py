"""Weight on right labels, on the best source, and the order of sources, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.source_weights import SourceWeights


class Weighing:
    def __init__(self, *weights):
        self.weights = weights

    def source_weights(self):
        return torch.tensor(self.weights)


class Known:
    def __init__(self, *wrong):
        self.wrong = wrong

    def share_of_wrong(self):
        return torch.tensor(self.wrong, dtype=torch.float64)


def test_figures_are_those_by_hand():
    figures = SourceWeights().compute(Weighing(0.1, 0.4, 0.3, 0.2), Known(0.0, 0.2, 0.9, 1.0))
    assert figures["right_weight"] == pytest.approx(0.1 + 0.32 + 0.03)
    assert figures["best_weight"] == pytest.approx(0.1)
    assert figures["order"] == pytest.approx(0.5)  # of the four pairs, 0.4 beats both and 0.1 neither


def test_ties_count_half_and_one_kind_alone_has_no_order():
    equal = SourceWeights().compute(Weighing(0.25, 0.25, 0.25, 0.25), Known(0.0, 0.0, 1.0, 1.0))
    assert equal["order"] == pytest.approx(0.5)
    assert equal["best_weight"] == pytest.approx(0.5)
    assert math.isnan(SourceWeights().compute(Weighing(0.5, 0.5), Known(0.0, 0.1))["order"])


def test_it_is_for_problems_with_sources_that_are_known():
    class Without:
        def source_weights(self):
            return None

    assert "weighs no sources" in SourceWeights().misfit(Without(), None)
    assert "nobody knows" in SourceWeights().misfit_of_records(object())
    assert SourceWeights().misfit_of_records(Known(0.0)) is None
