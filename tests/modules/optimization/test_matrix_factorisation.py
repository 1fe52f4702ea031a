"""The linear autoencoder against principal components."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.optimization.matrix_factorisation import MatrixFactorisation

SPEC = DataSpec("numbers", "vector", (6,), target="real")


def records():
    torch.manual_seed(0)
    return torch.randn(50, 6, dtype=torch.float64) * torch.tensor([3.0, 2, 1, 0.5, 0.3, 0.1], dtype=torch.float64)


def test_singular_vectors_are_the_optimum():
    """Eckart and Young: the truncated decomposition of the records themselves."""
    x = records()
    method = MatrixFactorisation(SPEC, rank=2).double()
    values, right = torch.linalg.svd(x)[1:]
    turn = torch.tensor([[2.0, 1.0], [0.5, 3.0]], dtype=torch.float64)  # any basis of the code will do
    with torch.no_grad():
        method.encoder.copy_(right[:2].T @ turn)
        method.decoder.copy_(torch.linalg.inv(turn) @ right[:2])
    y = torch.zeros(50)
    assert method.loss(Labelled(x, y)).item() == pytest.approx(float(0.5 * values[2:].square().sum() / 50))
    figures = method.optimality(x, y)
    assert figures["suboptimality"] == pytest.approx(0, abs=1e-12)
    assert figures["distance"] == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(method.reconstruct(x), x @ right[:2].T @ right[:2])


def test_the_gap_is_that_of_the_loss():
    x, y = records(), torch.zeros(50)
    method = MatrixFactorisation(SPEC, rank=3).double()
    least = 0.5 * torch.linalg.svdvals(x)[3:].square().sum() / 50
    assert method.optimality(x, y)["suboptimality"] == pytest.approx((method.loss(Labelled(x, y)) - least).item())


def test_a_rank_lies_below_the_size():
    for rank in (0, 6):
        with pytest.raises(UserError, match="from 1 to 5"):
            MatrixFactorisation(SPEC, rank=rank)
