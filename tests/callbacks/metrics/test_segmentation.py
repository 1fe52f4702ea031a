"""Figures of masks against torchmetrics and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist, directed_hausdorff
from torchmetrics.classification import BinaryCalibrationError
from torchmetrics.segmentation import DiceScore, MeanIoU

from callbacks.metrics.segmentation import bin_gaps, confusion, dice, hausdorff, jaccard, outlines


def masks(n=5, classes=3, side=12):
    return torch.randint(classes, (n, side, side)), torch.randint(classes, (n, side, side))


def test_overlaps_against_torchmetrics():
    predicted, truth = masks()
    counts = confusion(predicted, truth, 3)
    assert counts.sum() == truth.numel()
    hot = [torch.nn.functional.one_hot(mask, 3).movedim(3, 1) for mask in (predicted, truth)]
    theirs = DiceScore(3, average="none", aggregation_level="global")
    torch.testing.assert_close(dice(counts.sum(0)).float(), theirs(*hot))
    union = MeanIoU(3, per_class=True)
    torch.testing.assert_close(jaccard(counts).mean(0).float(), union(*hot))


def test_a_class_that_is_nowhere_has_no_overlap():
    counts = confusion(torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([[[0, 0], [0, 1]]]), 3)
    overlap = dice(counts)[0]
    assert overlap[:2].tolist() == [6 / 7, 0]
    assert overlap[2].isnan()
    assert jaccard(counts)[0, 0] == 0.75


def test_outlines_are_what_erosion_takes_away():
    inside = torch.rand(4, 9, 9) < 0.8
    expected = [mask & ~binary_erosion(mask) for mask in inside.numpy()]
    assert torch.equal(outlines(inside), torch.from_numpy(np.stack(expected)))


def test_distances_of_outlines_against_all_pairs_of_pixels():
    one, other = torch.zeros(2, 6, 20, 20, dtype=torch.bool)
    for i in range(6):
        one[i, 2 + i : 9 + i, 3:11] = True
        other[i, 4 : 12 + i, 5 : 9 + i] = True
    far = hausdorff(one, other, 100.0)
    near = hausdorff(one, other)
    for i in range(6):
        a, b = (outlines(mask[i : i + 1])[0].nonzero().double().numpy() for mask in (one, other))
        gaps = cdist(a, b)
        both = np.concatenate([gaps.min(0), gaps.min(1)])
        assert far[i].item() == max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
        assert near[i].item() == pytest.approx(np.percentile(both, 95))


def test_an_empty_mask_has_no_distance():
    empty, full = torch.zeros(2, 4, 4, dtype=torch.bool), torch.ones(2, 4, 4, dtype=torch.bool)
    full[1] = False
    assert hausdorff(empty, full).isnan().all()
    assert hausdorff(full, full)[0] == 0


def test_gaps_of_bins_add_up_to_torchmetrics_calibration_error():
    p, y = torch.rand(500), torch.randint(2, (500,))
    halves = [bin_gaps(p[part], y[part].double(), 15) for part in (slice(0, 200), slice(200, 500))]
    theirs = BinaryCalibrationError(n_bins=15)(p, y)
    assert sum(halves).abs().sum().item() / 500 == pytest.approx(theirs.item(), abs=1e-5)
