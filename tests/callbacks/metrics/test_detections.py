"""Figures of matched detections by hand, and where they are something known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from callbacks.metrics.calibration import binned_ece
from callbacks.metrics.detections import average_precision, localised_errors, lrp


def test_average_precision_by_hand():
    # Right, wrong, right of three boxes: precision 1 up to recall 1/3, 2/3 up to 2/3, then none.
    scores, found = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([True, True, False])
    assert average_precision(scores, found, 3) == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert average_precision(scores, torch.ones(3, dtype=torch.bool), 3) == 1
    assert average_precision(scores[:0], found[:0], 3) == 0
    assert math.isnan(average_precision(scores, found, 0))


def test_average_precision_by_interpolation_at_each_recall():
    scores, found = torch.rand(200), torch.rand(200) < 0.6
    right = found[scores.argsort(descending=True)].numpy().cumsum()
    truths = int(right[-1]) + 20
    recall, precision = right / truths, right / np.arange(1, 201)
    levels = np.linspace(0, 1, 101)
    expected = np.mean([precision[recall >= level].max(initial=0) for level in levels])
    assert average_precision(scores, found, truths) == pytest.approx(expected, abs=1e-9)


def test_lrp_by_hand():
    # Two found at 0.8 and 0.5, one false, one missed.
    iou = torch.tensor([0.8, 0.0, 0.5])
    assert lrp(iou, 3) == pytest.approx((0.2 + 0.5 + 1 + 1) / 4)
    assert lrp(iou.clamp(min=0), 3, 0.5) == pytest.approx((0.4 + 1 + 1 + 1) / 4)
    assert lrp(iou[:0], 3) == 1
    assert math.isnan(lrp(iou[:0], 0))


def test_localised_errors_with_perfect_boxes_are_those_of_classification():
    scores, right = torch.rand(500).double(), (torch.rand(500) < 0.5).double()
    binned, single = localised_errors(scores, right)
    assert binned == pytest.approx(binned_ece(scores, right, 25), abs=1e-12)
    assert single == pytest.approx((scores - right).abs().mean().item())
    assert localised_errors(right * 0.7, right * 0.7) == (0, 0)
    assert all(math.isnan(value) for value in localised_errors(scores[:0], right[:0]))
