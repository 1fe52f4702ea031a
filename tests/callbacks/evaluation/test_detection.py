"""Figures of detectors that know the truth, in part."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.detection import Detection
from compendium.errors import UserError
from datamodules.presentations.boxed import BoxedData
from datamodules.sources.shapes import Shapes
from modules.capabilities import Detections
from tests.callbacks.evaluation.fakes import Fake, evaluate


def pictures(size):
    return BoxedData(Shapes(train=2, validation=2, test=20, noise=0.05), scale="none", eval_batch_size=size)


class Knowing(Fake):
    """Every box with a score of its own, and as many false ones of half the score; the latter are not kept."""

    def __init__(self, score=0.8, shift=0.0):
        super().__init__()
        self.known, self.score, self.shift = pictures(20).records("test"), score, shift

    def detect(self, x):
        row = (self.known.x[:, None] == x).flatten(2).all(2).long().argmax(0)
        boxes, kinds = self.known.boxes[row], self.known.kinds[row]
        there = kinds >= 0
        return Detections(
            torch.cat([boxes + self.shift, boxes + 100], 1),
            torch.cat([self.score * there, self.score / 2 * there], 1),
            torch.cat([kinds, kinds], 1).clamp(min=0),
            torch.cat([there, torch.zeros_like(there)], 1),
        )


@pytest.mark.parametrize("size", [7, 20])
def test_who_knows_the_boxes_errs_by_the_score_alone(tmp_path, size):
    got = evaluate(Knowing(), pictures(size), Detection(), folder=tmp_path)
    assert (got["ap"], got["ap50"], got["lrp"]) == (1, 1, 0)
    assert got["laece"] == got["laace"] == got["dece"] == pytest.approx(0.2)
    assert got["kept"] == pytest.approx((pictures(20).records("test").kinds >= 0).sum().item() / 20)


def test_a_shifted_box_is_worth_its_overlap(tmp_path):
    known = pictures(20).records("test")
    there = known.kinds >= 0
    sides = (known.boxes[..., 2:] - known.boxes[..., :2])[there]
    shared = (sides - 1).prod(1)
    iou = shared / (2 * sides.prod(1) - shared)
    got = evaluate(Knowing(1.0, 1.0), pictures(20), Detection(), folder=tmp_path)
    each = [(1 - iou[known.kinds[there] == k]).mean().item() for k in range(3)]
    # Neighbours of one kind may overlap it more: then the match is another, which is rare.
    for name in ("lrp", "laece", "laace"):
        assert got[name] == pytest.approx(sum(each) / 3, abs=0.01)


def test_no_detection_at_all(tmp_path):
    got = evaluate(Knowing(0.0), pictures(20), Detection(), folder=tmp_path)
    assert (got["ap"], got["lrp"]) == (0, 1)
    assert math.isnan(got["laece"])


def test_a_number_of_bins_below_one_is_refused():
    with pytest.raises(UserError, match="bins"):
        Detection(bins=0)
