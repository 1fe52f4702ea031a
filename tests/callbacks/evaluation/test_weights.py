"""Norms of weights that are worked out by hand."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.weights import Weights
from compendium.errors import UserError
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate


class Weighing(Fake):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Parameter(torch.tensor([[3.0, 0.0], [0.0, -2.0]]))
        self.second = torch.nn.Parameter(torch.tensor(6.0))
        self.frozen = torch.nn.Parameter(torch.tensor(100.0), requires_grad=False)


def test_all_trained_weights_are_one_vector(tmp_path):
    data = UnlabelledData(GaussianVectors())
    assert evaluate(Weighing(), data, Weights(norms=[1, 2, "inf"]), folder=tmp_path) == {
        "weights_l1": 11.0,
        "weights_l2": 7.0,
        "weights_linf": 6.0,
    }
    assert evaluate(Weighing(), data, Weights(), folder=tmp_path) == {}


@pytest.mark.parametrize("norms", [[0], ["many"], [-1]])
def test_exponents_out_of_range_are_refused(norms):
    with pytest.raises(UserError, match=r"weights\.norms"):
        Weights(norms=norms)
