"""Any classifier is evaluated on shifted records."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.shifted import Shifted
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from datamodules.sources.tables import Table
from tests.callbacks.evaluation.fakes import Fake, FakeEverything, evaluate


class Nearest(Fake):
    """Ten lines: the class whose mean is nearest, as a softmax of distances."""

    def __init__(self, data):
        super().__init__()
        batch = data.records("train")
        classes = range(len(data.spec.classes))
        self.register_buffer("means", torch.stack([batch.x[batch.y == c].mean(0) for c in classes]))

    def predict_log_proba(self, x):
        return (-(x[:, None] - self.means).flatten(2).square().mean(2) * 4).log_softmax(1)


@pytest.mark.parametrize("source", [Digits(), Table("wine")])
def test_a_classifier_from_outside_loses_accuracy_with_severity(source, tmp_path):
    data = LabelledData(source)
    figures = evaluate(Nearest(data), data, Shifted(), folder=tmp_path)
    assert figures["accuracy_noise_1"] >= figures["accuracy_noise_5"]
    by_shift = [name for name in figures if name.startswith("nll_") and name.count("_") == 2]
    assert figures["nll_shifted"] == pytest.approx(sum(figures[name] for name in by_shift) / len(by_shift))
    assert figures["accuracy_noise"] == pytest.approx(
        sum(figures[f"accuracy_noise_{severity}"] for severity in (1, 3, 5)) / 3
    )
    again = evaluate(Nearest(data), data, Shifted(), folder=tmp_path)
    assert again == figures


def test_no_shift_at_all_gives_the_plain_figures(tmp_path, monkeypatch):
    from callbacks.evaluation import shifted

    data = LabelledData(Digits())
    monkeypatch.setattr(shifted, "shift", lambda kind, name: lambda columns, severity, known: columns)
    figures = evaluate(FakeEverything(), data, Shifted(shifts=["noise"], severities=[1]), folder=tmp_path)
    batch = data.records("test")
    log_proba = FakeEverything().predict_log_proba(batch.x)
    assert figures["accuracy_shifted"] == pytest.approx(float((log_proba.argmax(1) == batch.y).double().mean()))
    assert figures["nll_shifted"] == pytest.approx(float(torch.nn.functional.nll_loss(log_proba, batch.y)), rel=1e-5)


@pytest.mark.parametrize("arguments", [{"shifts": ["fog"]}, {"severities": [0]}, {"severities": []}, {"limit": 0}])
def test_what_there_is_not_is_refused(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        Shifted(**arguments)
