"""Dequantization and the law of scaled records."""

from __future__ import annotations

import math

import pytest
import torch

from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.source import Records
from datamodules.sources.densities import Moons
from datamodules.spec import DataSpec
from tests.datamodules.fakes import Given, attach, source_of


def every_level(levels: int) -> Given:
    x = (torch.arange(levels).float() / (levels - 1)).repeat(40)[:, None, None, None]
    return Given(Records(DataSpec("levels", "image", (1, 1, 1), levels=levels, bounds=(0.0, 1.0)), {"x": x}))


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("scale", "low", "width"), [("symmetric", -1, 2), ("none", 0, 1)])
def test_dequantized_values_floor_back_to_their_level(levels, scale, low, width):
    data = UnlabelledData(every_level(levels), scale=scale, validation=0, test=0.5)
    x = data.records("test").x.flatten().double()
    level = ((x - low) / width * levels).floor()
    original = (data.columns["x"][data.rows["test"]].flatten() * (levels - 1)).round()
    assert torch.equal(level, original.double())
    assert data.spec.bounds == ((-1, 1) if scale == "symmetric" else (0, 1))
    assert data.spec.levels == levels
    within = (x - low) / width * levels - level
    assert within.min() >= 0
    assert within.max() < 1
    assert float(within.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * len(within)))


def test_noise_is_new_for_each_epoch_and_the_same_for_each_evaluation():
    first, again = (attach(UnlabelledData(source_of("digits"))) for _ in range(2))
    later = attach(UnlabelledData(source_of("digits")), epoch=1)
    order = [next(iter(data.train_dataloader())).x for data in (first, again, later)]
    assert torch.equal(order[0], order[1])
    assert not torch.equal(order[0], order[2])
    assert torch.equal(next(iter(first.test_dataloader())).x, next(iter(later.test_dataloader())).x)


def test_without_dequantization_the_values_are_the_levels():
    data = UnlabelledData(source_of("digits"), dequantize=False)
    assert data.draws == ()
    x = data.records("test").x
    assert torch.equal(x, data.columns["x"][data.rows["test"]] * 2 - 1)
    assert len(x.unique()) == 17


def test_standard_scaling_leaves_no_levels_and_vectors_are_left_alone():
    assert UnlabelledData(source_of("digits"), scale="standard").spec.levels is None
    data = UnlabelledData(source_of("wine"))
    assert torch.equal(data.records("test").x, data.columns["x"][data.rows["test"]])


def test_the_law_of_scaled_records_is_that_of_what_the_method_receives():
    plain = UnlabelledData(Moons(train=5000))
    assert torch.equal(plain.truth.log_prob(plain.records("test").x), Moons().law().log_prob(plain.records("test").x))
    scaled = UnlabelledData(Moons(train=5000), scale="standard")
    law, x = scaled.truth, scaled.records("test").x.double().requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    torch.testing.assert_close(law.score(x.detach()), gradient)
    ticks = torch.arange(-4, 4, 0.05, dtype=torch.float64)
    assert float(law.log_prob(torch.cartesian_prod(ticks, ticks)).exp().sum()) * 0.05**2 == pytest.approx(1, abs=1e-3)
    samples = law.sample(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples.mean(0), torch.zeros(2), rtol=0, atol=0.05)
    torch.testing.assert_close(samples.std(0), torch.ones(2), rtol=0, atol=0.03)


def test_labelled_records_are_scaled_by_the_training_split_alone():
    data = LabelledData(source_of("wine"))
    x = data.records("train").x
    torch.testing.assert_close(x.mean(0), torch.zeros(13), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(13), rtol=0, atol=1e-5)
    assert data.records("test").x.mean(0).abs().max() > 0.01
    assert torch.equal(data.records("test").y, data.columns["y"][data.rows["test"]])
