"""Means over all episodes, whatever the batches."""

from __future__ import annotations

import pytest

from callbacks.evaluation.imitation import Imitation
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate


class Swinging(Fake):
    def imitation(self, x):
        return {"disagreement": x[:, 0], "height": x[:, 1].square()}


def test_they_are_means_over_the_split(tmp_path):
    data = UnlabelledData(GaussianVectors(), validation=0.1, test=0.2, eval_batch_size=64, scale="none")
    x = data.records("test").x.double()
    figures = evaluate(Swinging(), data, Imitation(), folder=tmp_path)
    assert figures["disagreement"] == pytest.approx(float(x[:, 0].mean()), abs=1e-6)
    assert figures["height"] == pytest.approx(float(x[:, 1].square().mean()), abs=1e-6)
