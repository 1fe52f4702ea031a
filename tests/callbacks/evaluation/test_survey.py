"""Errors of a survey by hand."""

from __future__ import annotations

import pytest
import torch
from torchmetrics import JaccardIndex

from callbacks.evaluation.survey import Survey
from datamodules.presentations.surveyed import SurveyedData
from datamodules.sources.shapes import Shapes
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Biased(Fake):
    """Two pixels off to the right, and half of the brightness as depth."""

    def __init__(self, data):
        super().__init__()
        self.known = data.records("test")

    def rows(self, x):
        return (self.known.x[:, None] == x).flatten(2).all(2).long().argmax(0)

    def predict_log_proba_map(self, x):
        return torch.cat([-8 * (x - level).abs() for level in (0.2, 0.4, 0.6, 0.8)], 1).log_softmax(1)

    def predict_geometry(self, x):
        return self.known.offset[self.rows(x)] + torch.tensor([0.0, 2.0]).view(2, 1, 1), x[:, 0] / 2


@pytest.mark.parametrize("size", [4, 10])
def test_by_hand(tmp_path, size):
    data = SurveyedData(Shapes(train=2, validation=2, test=10), scale="none", eval_batch_size=size)
    method = Biased(data)
    got = evaluate(method, data, Survey(), folder=tmp_path)
    known = data.records("test")
    assert got["offset_error"] == pytest.approx(1.0, rel=1e-6)  # of the two components one is off
    depth = (known.x[:, 0].double() / 2 - known.depth.double()).abs().mean().item()
    assert got["depth_error"] == pytest.approx(depth, rel=1e-6)
    iou = JaccardIndex("multiclass", num_classes=4)(method.predict_log_proba_map(known.x).argmax(1), known.segments)
    assert got["joint_error"] == pytest.approx(((1 - iou.item()) * depth) ** (1 / 3), rel=1e-5)
