"""Curves and surfaces: that records lie on them, and an isometry moves nothing."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.manifolds import Manifold


def records(**arguments) -> torch.Tensor:
    return Manifold(train=400, validation=1, test=1, **arguments).load().columns["x"].double()


def test_records_satisfy_the_equations():
    ring, roll, torus = (records(shape=shape) for shape in ("circle", "swiss_roll", "torus"))
    torch.testing.assert_close(ring.norm(dim=1), torch.ones(402).double(), atol=1e-6, rtol=0)
    radius = 10 * roll[:, [0, 2]].norm(dim=1)  # of an Archimedean spiral: its angle
    torch.testing.assert_close(radius.cos() * radius, 10 * roll[:, 0], atol=1e-4, rtol=0)
    assert 1.5 * math.pi <= float(radius.min()) <= float(radius.max()) <= 4.5 * math.pi
    around = (torus[:, :2].norm(dim=1) - 1).square() + torus[:, 2].square()
    torch.testing.assert_close(around, torch.full((402,), 0.16).double(), atol=1e-5, rtol=0)


def test_the_embedding_keeps_distances():
    flat, embedded = records(shape="spiral"), records(shape="spiral", dimensions=7)
    assert embedded.shape == (402, 7)
    torch.testing.assert_close(torch.pdist(embedded), torch.pdist(flat), atol=1e-5, rtol=0)
    assert int(torch.linalg.matrix_rank(embedded, rtol=1e-4)) == 2


def test_noise_leaves_the_set_by_its_standard_deviation():
    noisy = records(shape="circle", dimensions=50, noise=0.1)
    assert float((noisy.square().sum(1) - 1).mean()) == pytest.approx(50 * 0.01, rel=0.05)


def test_there_is_no_density_and_splits_do_not_depend_on_each_other():
    few, many = Manifold(train=5).load(), Manifold(train=50).load()
    assert few.truth is None
    tests = [found.columns["x"][found.splits["test"]] for found in (few, many)]
    assert torch.equal(*tests)


@pytest.mark.parametrize("wrong", [{"shape": "knot"}, {"dimensions": 2}, {"test": 0}, {"noise": -1.0}])
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(UserError, match=rf"data\.{next(iter(wrong))}"):
        Manifold(**wrong)
