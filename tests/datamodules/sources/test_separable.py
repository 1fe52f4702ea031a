"""The margin and radius that the records are drawn for."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.separable import Separable
from modules.optimization.linear_separator import separating_margin


def signed(source):
    columns = source.load().columns
    return (2 * columns["y"][:, None] - 1) * columns["x"].double(), columns["y"]


def test_a_ball_has_the_margin_and_the_share_that_were_asked_for():
    z, y = signed(Separable(dimensions=3, margin=0.1, common=0.0, rare=0.2, train=4000, validation=50, test=50))
    assert float(z.norm(dim=1).max()) <= 1 + 1e-6
    assert int(y[:4000].sum()) == 800
    found = separating_margin(z[:4000])  # at least what the plane of the draw gives, and hardly more with many records
    assert 0.1 - 1e-6 <= found < 0.11


def test_what_records_share_is_orthogonal_to_the_plane_s_normal():
    z, y = signed(Separable(common=1.0))
    x = (2 * y[:, None] - 1) * z
    assert int(torch.linalg.matrix_rank(x, tol=1e-4)) == 2
    torch.testing.assert_close(x.norm(dim=1), torch.ones(len(x)).double())


def test_lopsided_records_are_those_of_the_theorem():
    z, y = signed(Separable(law="lopsided", train=10, validation=2, test=2))
    assert y[:10].tolist() == [1] + [0] * 9
    assert z[:10].tolist() == [[0.5, -1.0]] + [[0.5, 1.0]] * 9
    assert separating_margin(z[:10]) == pytest.approx(0.5, abs=1e-12)


def test_records_are_a_function_of_the_seed():
    one, same, other = (Separable(seed=seed).load().columns["x"] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "arguments", [{"dimensions": 1}, {"margin": 0.0}, {"common": 1.1}, {"rare": 1.0}, {"train": 1}, {"law": "square"}]
)
def test_what_is_out_of_range_is_named(arguments):
    with pytest.raises(UserError, match=rf"data\.{next(iter(arguments))}="):
        Separable(**arguments)
