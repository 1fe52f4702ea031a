"""Evaluations of the network per draw."""

from __future__ import annotations

import torch

from callbacks.evaluation.cost import Cost
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Ring
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Iterated(Fake):
    """Seven evaluations a draw."""

    def sample(self, n):
        self.seen = 7
        return torch.zeros(n, 2)

    def function_evaluations(self):
        return self.seen


def test_what_the_sampler_says_is_reported(tmp_path):
    data = UnlabelledData(Ring(train=20, validation=5, test=20))
    data.setup()
    assert evaluate(Iterated(), data, Cost(n=30), folder=tmp_path) == {"function_evaluations": 7.0}
