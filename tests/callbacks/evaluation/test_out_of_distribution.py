"""Records of another law: the matched one, and another source's."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.out_of_distribution import OutOfDistribution
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import FakeEverything, evaluate

PICTURES = {"_target_": "datamodules.sources.pictures.PicturePatches", "patch": 16, "channels": 1}


class Bright(FakeEverything):
    """Is certain of records with dark corners, as all digits have."""

    def predict_log_proba(self, x):
        certain = 10.0 * (x[:, 0, 0, 0] < -0.2).float() * (x[:, 0, -1, 0] < 0)
        return torch.stack([certain, *[torch.zeros_like(certain)] * 9], 1).log_softmax(1)


def test_components_of_the_matched_law_are_those_of_the_records():
    x = torch.rand(50, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    other = OutOfDistribution.records(x)
    assert torch.equal(other.flatten(1).sort(0).values, x.flatten(1).sort(0).values)
    assert not torch.equal(other, x)


def test_figures_of_another_source(tmp_path):
    data = LabelledData(Digits(), scale="symmetric")
    figures = evaluate(Bright(), data, OutOfDistribution(source=PICTURES), folder=tmp_path)
    assert figures["ood_auroc"] > 0.8
    assert figures == evaluate(Bright(), data, OutOfDistribution(source=PICTURES), folder=tmp_path)


def test_a_blind_classifier_is_at_one_half(tmp_path):
    class Blind(FakeEverything):
        def predict_log_proba(self, x):
            return torch.zeros(len(x), 10).log_softmax(1)

    figures = evaluate(Blind(), LabelledData(Digits()), OutOfDistribution(), folder=tmp_path)
    assert figures["ood_auroc"] == pytest.approx(0.5)


def test_records_of_another_shape_are_refused(tmp_path):
    with pytest.raises(UserError, match="has records of shape"):
        evaluate(
            FakeEverything(), LabelledData(Digits()), OutOfDistribution(source=PICTURES | {"channels": 3}),
            folder=tmp_path,
        )  # fmt: skip
