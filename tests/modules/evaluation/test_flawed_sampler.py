"""Flaws of known size, by hand and by the law of a Gaussian's length."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.evaluation.flawed_sampler import FlawedSampler

CLASSES = ("a", "b", "c")


def fitted(x, y, **flaws) -> FlawedSampler:
    spec = DataSpec("points", "vector", tuple(x.shape[1:]), target="class", classes=CLASSES, sizes={"train": len(x)})
    method = FlawedSampler(spec, **flaws)
    for rows in torch.arange(len(x)).split(7 if len(x) < 100 else len(x)):
        method.accumulate(Labelled(x[rows], y[rows]))
    method.solve()
    return method


def test_without_a_flaw_it_draws_every_record():
    x = torch.arange(20.0)[:, None]
    draws = fitted(x, torch.arange(20) % 3).sample(4000)
    counts = draws.squeeze(1).long().bincount(minlength=20)
    assert (counts > 140).all()  # 200 expected, standard deviation 14
    assert (draws == draws.round()).all()


def test_the_nearest_to_the_mean_of_each_class_are_kept_by_hand():
    """Class a: 0, 1, 2, 9 with mean 3; class b: 10, 20, 60 with mean 30. Half of each, rounded up, is 2."""
    x, y = torch.tensor([9.0, 10.0, 0.0, 60.0, 1.0, 2.0, 20.0]), torch.tensor([0, 1, 0, 1, 0, 0, 1])
    assert fitted(x[:, None], y, truncation=0.5).sample(200).unique().tolist() == [1, 2, 10, 20]
    assert fitted(x[:, None], y, classes=1).sample(200).unique().tolist() == [0, 1, 2, 9]
    assert fitted(x[:, None], y, classes=1, truncation=0.2).sample(50).unique().tolist() == [2]


def test_a_truncated_gaussian_has_the_radius_of_its_quantile():
    """Of N(0, I) in the plane the share p lies within sqrt(-2 ln(1 - p)) of the mean."""
    x = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    method = fitted(x, torch.zeros(20_000, dtype=torch.long), truncation=0.5)
    assert method.sample(20_000).norm(dim=1).max().item() == pytest.approx(math.sqrt(2 * math.log(2)), abs=0.02)


def test_noise_has_its_standard_deviation():
    draws = fitted(torch.zeros(4, 1), torch.zeros(4, dtype=torch.long), noise=0.3).sample(20_000)
    assert draws.std().item() == pytest.approx(0.3, rel=0.02)


def test_a_second_pass_changes_nothing():
    x, y = torch.arange(20.0)[:, None], torch.arange(20) % 3
    method = fitted(x, y, truncation=0.4)
    once = set(method.sample(500).flatten().tolist())
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    for rows in order.split(7):
        method.accumulate(Labelled(x[rows], y[rows]))
    method.solve()
    assert set(method.sample(500).flatten().tolist()) == once


@pytest.mark.parametrize("flaws", [{"noise": -1}, {"classes": 0}, {"classes": 4}, {"truncation": 0}, {"truncation": 2}])
def test_impossible_flaws_are_refused(flaws):
    with pytest.raises(UserError, match=f"model.{next(iter(flaws))}="):
        fitted(torch.zeros(3, 1), torch.arange(3), **flaws)
