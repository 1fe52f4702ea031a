"""Figures of a segmenter against torchmetrics, by hand, and over unequal batches."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError
from torchmetrics.segmentation import DiceScore

from callbacks.evaluation.segmentation import Segmentation
from callbacks.metrics.calibration import binned_ece
from callbacks.metrics.segmentation import hausdorff
from compendium.errors import UserError
from datamodules.presentations.segmented import SegmentedData
from datamodules.sources.shapes import Shapes
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Guess(Fake):
    """Probabilities that follow the brightness of a pixel."""

    def predict_log_proba_map(self, x):
        return torch.cat([-8 * (x - level).abs() for level in (0.2, 0.4, 0.6, 0.8)], 1).log_softmax(1)


class Lost(Fake):
    def predict_log_proba_map(self, x):
        return torch.full((len(x), 4, *x.shape[2:]), math.nan)


def data(size):
    return SegmentedData(Shapes(train=2, validation=2, test=20, noise=0.1), scale="none", eval_batch_size=size)


def test_against_torchmetrics(tmp_path):
    got = evaluate(Guess(), data(7), Segmentation(), folder=tmp_path)
    batch = data(7).records("test")
    log_p = Guess().predict_log_proba_map(batch.x)
    p, truth = log_p.exp().movedim(1, 3).flatten(0, 2), batch.segments.flatten()
    assert got["nll"] == pytest.approx(torch.nn.functional.nll_loss(log_p, batch.segments).item(), rel=1e-5)
    for name, there in (("", truth >= 0), ("foreground_", truth > 0)):
        theirs = MulticlassCalibrationError(4, n_bins=15)(p[there], truth[there])
        # In float32 a pixel at the edge of a bin may lie on the other side: one of 20480.
        assert got[f"{name}ece"] == pytest.approx(theirs.item(), abs=1e-4)
        each = [binned_ece(p[there][:, k], (truth[there] == k).double()) for k in range(4)]
        assert got[f"{name}classwise_ece"] == pytest.approx(sum(each) / 4, abs=1e-6)
    said = log_p.argmax(1)
    for k, kind in enumerate(("disc", "square", "triangle"), 1):
        pairs = [(said[i] == k, batch.segments[i] == k) for i in range(20)]
        seen = [pair for pair in pairs if pair[0].any() or pair[1].any()]
        both = [torch.stack([pair[side] for pair in seen])[:, None] for side in (0, 1)]
        score = DiceScore(1, average="macro", aggregation_level="samplewise")(*(part.long() for part in both))
        assert got[f"dice_{kind}"] == pytest.approx(score.item(), rel=1e-5)
    assert got["dice"] == pytest.approx(sum(got[f"dice_{kind}"] for kind in ("disc", "square", "triangle")) / 3)
    gaps = torch.cat([hausdorff(said == k, batch.segments == k) for k in (1, 2, 3)])
    assert got["hd95"] == pytest.approx(gaps.nanmean().item())


def test_figures_do_not_depend_on_batches_and_perfect_ones_are_perfect(tmp_path):
    one, other = (evaluate(Guess(), data(size), Segmentation(), folder=tmp_path) for size in (3, 20))
    assert one == pytest.approx(other)

    class Right(Fake):
        def predict_log_proba_map(self, x):
            hot = torch.nn.functional.one_hot(data(20).records("test").segments, 4).movedim(3, 1)
            return (hot * 60.0).log_softmax(1)

    best = evaluate(Right(), data(20), Segmentation(), folder=tmp_path)
    assert (best["dice"], best["iou"], best["hd95"]) == (1, 1, 0)
    assert best["ece"] == pytest.approx(0, abs=1e-9)


def test_a_method_that_diverged_has_no_figures(tmp_path):
    assert all(math.isnan(value) for value in evaluate(Lost(), data(20), Segmentation(), folder=tmp_path).values())


def test_a_number_of_bins_below_one_is_refused():
    with pytest.raises(UserError, match="bins"):
        Segmentation(bins=0)
