"""Overlap and matching of boxes by hand and by brute force, and the threshold by trying all of them."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.metrics.detections import lrp
from modules.supervised.boxes import best_threshold, matched, overlaps


def test_overlap_by_counting_pixels():
    grid = torch.randint(0, 8, (20, 2, 5, 2)).sort(1).values.float()
    boxes = torch.cat([grid[:, 0], grid[:, 1]], -1)  # (20, 5, 4), some of them empty
    place = torch.arange(8) + 0.5
    across = (place >= boxes[..., 0:1]) & (place < boxes[..., 2:3])
    down = (place >= boxes[..., 1:2]) & (place < boxes[..., 3:4])
    filled = down[..., :, None] & across[..., None, :]
    shared = (filled[:, :, None] & filled[:, None]).sum((3, 4)).double()
    union = (filled[:, :, None] | filled[:, None]).sum((3, 4)).double()
    expected = torch.where(union > 0, shared / union.clamp(min=1), 0.0)
    torch.testing.assert_close(overlaps(boxes.double(), boxes.double()), expected)


def test_each_detection_takes_the_best_free_box_of_its_kind():
    # Two boxes of kind 0 and one of kind 1; the second detection would like the first one's box.
    iou = torch.tensor([[[0.8, 0.3, 0.0], [0.7, 0.2, 0.0], [0.6, 0.1, 0.0], [0.0, 0.0, 0.9], [0.5, 0.5, 0.5]]])
    kinds, truth = torch.tensor([[0, 0, 0, 1, 2]]), torch.tensor([[0, 0, 1]])
    assert matched(iou, kinds, truth, 0.0).tolist() == [pytest.approx([0.8, 0.2, 0, 0.9, 0])]
    assert matched(iou, kinds, truth, 0.5).tolist() == [pytest.approx([0.8, 0, 0, 0.9, 0])]


def test_boxes_that_do_not_touch_or_are_none_are_not_found():
    kinds, truth = torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[0, -1]])
    assert not matched(torch.tensor([[[0.0, 0.9], [0.0, 0.9]]]), kinds, truth, 0.0).any()


def test_the_best_threshold_is_the_best_of_all():
    for _ in range(20):
        scores = torch.randint(1, 12, (40,)).double() / 12  # ties
        iou = torch.where(torch.rand(40) < scores, torch.rand(40), 0.0).double()
        truths = int((iou > 0).sum()) + 5
        tried = {float(least): lrp(iou[scores >= least], truths) for least in scores.unique()}
        assert lrp(iou[scores >= best_threshold(scores, iou, truths)], truths) == pytest.approx(min(tried.values()))


def test_where_every_detection_is_false_none_is_kept():
    assert best_threshold(torch.tensor([0.5, 0.9]), torch.zeros(2), 3) == math.inf
    assert best_threshold(torch.empty(0), torch.empty(0), 3) == math.inf
