"""The small detector: its loss at pixels worked out by hand, and what it makes of outputs that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Boxed
from datamodules.spec import DataSpec
from modules.capabilities import Detector
from modules.supervised.detector import RARE, CentreDetector

SPEC = DataSpec("boxes", "image", (6, 8, 8), target="mask", classes=("background", "left", "right"))


def detector(**arguments):
    return CentreDetector(SPEC, net=nn.Identity(), **arguments)


def outputs(*peaks):
    """Network outputs with logits (kind, row, column, logit) and else -20, and boxes of half a side of 2 pixels."""
    x = torch.full((1, 6, 8, 8), -20.0)
    x[:, 2:] = math.log(2.0)  # times an eighth of 8 pixels
    for kind, row, column, logit in peaks:
        x[0, kind, row, column] = logit - RARE
    return x


def batch(x, *boxes):
    kinds = torch.tensor([[box[0] for box in boxes]])
    return Boxed(x, torch.tensor([[box[1] for box in boxes]]), kinds)


def test_detections_are_peaks_with_the_box_around_them():
    found = detector(detections=4).detect(outputs((0, 2, 3, 1.0), (0, 2, 4, 0.5), (1, 5, 6, 2.0)))
    assert isinstance(detector(), Detector)
    assert found.kinds[0, :2].tolist() == [1, 0]  # (2, 4) is no peak beside (2, 3)
    torch.testing.assert_close(found.scores[0, :2], torch.tensor([2.0, 1.0]).sigmoid())
    assert found.boxes[0, 0].tolist() == pytest.approx([4.5, 3.5, 8.5, 7.5])
    assert found.boxes[0, 1].tolist() == pytest.approx([1.5, 0.5, 5.5, 4.5])
    assert found.kept[0].tolist() == [True, True, False, False]


def test_heat_by_hand():
    x = outputs((0, 3, 3, 0.7), (1, 3, 3, -0.4), (0, 3, 4, 0.2))
    loss = detector().loss(batch(x, (0, [1.0, 1.0, 6.0, 6.0]), (-1, [0.0, 0.0, 8.0, 8.0])))
    p = [1 / (1 + math.exp(-z)) for z in (0.7, -0.4, 0.2)]
    warm = math.exp(-1 / (2 * (5 / 6) ** 2))  # one pixel away, a spread of a sixth of 5 pixels
    expected = -((1 - p[0]) ** 2) * math.log(p[0])
    expected -= p[1] ** 2 * math.log(1 - p[1]) + (1 - warm) ** 4 * p[2] ** 2 * math.log(1 - p[2])
    assert loss["heat"].item() == pytest.approx(expected, abs=1e-5)


def test_sizes_are_those_of_the_nearest_middle():
    # The box around (3, 3) is [1.5, 5.5]^2; it is right at its middle and shifted by a pixel beside it.
    loss = detector().loss(batch(outputs(), (0, [1.5, 1.5, 5.5, 5.5])))
    spread = 0.7
    weights, errors = [1.0], [0.0]
    for apart, shared in ((1, 12), (2, 9)):
        warm = math.exp(-apart / (2 * spread**2))
        if warm > 0.3:
            weights += 4 * [warm]
            errors += 4 * [1 - shared / (32 - shared)]
    expected = sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)
    assert loss["sizes"].item() == pytest.approx(expected, rel=1e-5)


def test_alignment_is_the_gap_between_score_and_overlap():
    x = outputs((0, 3, 3, 0.7))
    loss = detector(alignment=2.0).loss(batch(x, (0, [1.5, 1.5, 5.5, 5.5])))
    assert loss["alignment"].item() == pytest.approx(2 * (1 - torch.tensor(0.7).sigmoid().item()), rel=1e-5)


def test_a_batch_without_objects_has_a_loss():
    loss = detector(alignment=1.0).loss(batch(outputs(), (-1, [0.0, 0.0, 0.0, 0.0])))
    assert all(torch.isfinite(term) for term in loss.values())


@pytest.mark.parametrize("arguments", [{"detections": 0}, {"threshold": 1.5}, {"alignment": -1.0}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match="detections="):
        detector(**arguments)
