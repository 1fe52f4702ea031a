"""Maps from scores to IoU against scikit-learn and SciPy, and what they leave as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Boxed
from datamodules.presentations.boxed import BoxedData
from datamodules.sources.shapes import Shapes
from datamodules.spec import DataSpec
from modules.capabilities import Detections, Detector
from modules.uncertainty.recalibrated_detector import RecalibratedDetector

N, M = 200, 3
SPEC = DataSpec("boxes", "image", (6, 8, 8), target="mask", classes=("background", "left", "right"), sizes={"train": N})


class Told(nn.Module):
    """A detector whose detections are told: box i of a picture is overlapped by detection i alone, by its IoU."""

    detections = M

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.scores = torch.rand(N, M, generator=draw, dtype=torch.float64).sort(1, descending=True).values
        right = torch.rand(N, M, generator=draw) < 0.3 + 0.6 * self.scores
        self.iou = torch.where(right, 0.5 + 0.5 * torch.rand(N, M, generator=draw), 0.0).double()
        self.kinds = torch.randint(2, (N, M), generator=draw)
        left = 20.0 * torch.arange(M, dtype=torch.float64).expand(N, M)
        zeros = torch.zeros_like(left)
        self.truth = torch.stack([left, zeros, left + 10, zeros + 1], 2)
        self.boxes = torch.stack([left, zeros, left + 10 * self.iou, zeros + 1], 2)

    def detect(self, x):
        row = x[:, 0, 0, 0].long()
        return Detections(self.boxes[row], self.scores[row], self.kinds[row], self.scores[row] > 0.5)


def solved(mapping, all_kept=True):
    method = RecalibratedDetector(SPEC, mapping=mapping, net=nn.Identity())
    method.predictor = Told()
    method.kept = torch.zeros(N, 3 * M + 2, dtype=torch.float64)
    method.knots = torch.linspace(0, 1, 2 + N * M, dtype=torch.float64).expand(2, 2, -1).clone()
    x = torch.arange(N).view(N, 1, 1, 1).float()
    with torch.no_grad():
        for part in x.split(64):
            row = part[:, 0, 0, 0].long()
            method.accumulate(Boxed(part, method.predictor.truth[row], method.predictor.kinds[row]))
        method.solve()
    return method, x


def left(method, k, raw):
    """Scores and IoU of kind k above the first threshold, which the identity keeps as its second one."""
    of = (method.predictor.kinds == k) & (method.predictor.scores >= raw.thresholds[k])
    return method.predictor.scores[of].numpy(), method.predictor.iou[of].numpy()


def test_isotonic_is_scikit_learns():
    (method, x), (raw, _) = solved("isotonic"), solved("identity")
    found = method.detect(x)
    for k in range(2):
        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(*left(method, k, raw))
        of = found.kinds == k
        p, low = method.predictor.scores[of].numpy(), curve.X_thresholds_[0]
        expected = np.where(p < low, p / low * curve.y_thresholds_[0], curve.predict(p))
        np.testing.assert_allclose(found.scores[of].numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mapping", ["platt", "temperature"])
def test_sigmoids_are_those_of_least_cross_entropy(mapping):
    (method, x), (raw, _) = solved(mapping), solved("identity")
    found = method.detect(x)
    for k in range(2):
        p, iou = left(method, k, raw)
        z = np.log(p / (1 - p))

        def loss(free, z=z, iou=iou):
            a, b = free if mapping == "platt" else (free[0], 0.0)
            return np.mean(np.logaddexp(0, a * z + b) - iou * (a * z + b))

        best = minimize(loss, np.array([1.0, 0.0][: 2 if mapping == "platt" else 1]), tol=1e-12).x
        of = found.kinds == k
        p = method.predictor.scores[of].numpy()
        expected = expit(best[0] * np.log(p / (1 - p)) + (best[1] if mapping == "platt" else 0))
        np.testing.assert_allclose(found.scores[of].numpy(), expected, rtol=0, atol=1e-3)


def test_the_identity_keeps_scores_and_every_map_keeps_boxes_and_order():
    raw, x = solved("identity")
    assert torch.equal(raw.detect(x).scores, raw.predictor.scores)
    for mapping in ("temperature", "platt", "isotonic"):
        found = solved(mapping)[0].detect(x)
        assert torch.equal(found.boxes, raw.predictor.boxes)
        for k in range(2):
            of = found.kinds == k
            order = raw.predictor.scores[of].argsort()
            assert (found.scores[of][order].diff() >= 0).all()


def test_a_second_pass_changes_nothing():
    method, x = solved("isotonic")
    before = {name: value.clone() for name, value in method.named_buffers()}
    with torch.no_grad():
        row = torch.arange(N)
        method.accumulate(Boxed(x, method.predictor.truth[row], method.predictor.kinds[row]))
        method.solve()
    assert all(torch.equal(value, before[name]) for name, value in method.named_buffers() if name != "seen")


def test_held_out_pictures_come_as_training_records_in_the_scale_of_the_training_split():
    plain, held = (BoxedData(Shapes(train=30, validation=20, test=5), learn=learn) for learn in ("train", "validation"))
    assert torch.equal(held.records("train").x, plain.records("validation").x)
    assert held.spec.sizes["train"] == 20
    assert torch.equal(held.records("test").x, plain.records("test").x)
    with pytest.raises(UserError, match="learn=test"):
        BoxedData(Shapes(), learn="test")


def test_without_a_model_it_has_a_detector_and_other_maps_are_refused():
    assert isinstance(RecalibratedDetector(SPEC, net=nn.Identity()), Detector)
    with pytest.raises(UserError, match="histogram"):
        RecalibratedDetector(SPEC, mapping="histogram", net=nn.Identity())
