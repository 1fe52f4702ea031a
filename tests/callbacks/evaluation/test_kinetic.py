"""Kinetic energy."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.kinetic import Kinetic
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Ring
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Moving(Fake):
    """Its energy is 3 or 1, by chance."""

    def kinetic_energy(self, x):
        return 2 + torch.randn(len(x)).sign()


def test_it_is_the_mean_over_records_and_draws(tmp_path):
    data = UnlabelledData(Ring(train=20, validation=5, test=400))
    data.setup()
    figures = evaluate(Moving(), data, Kinetic(draws=20), folder=tmp_path)
    assert figures["kinetic_energy"] == pytest.approx(2, abs=0.05)
