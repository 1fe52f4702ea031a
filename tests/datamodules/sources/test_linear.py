"""The quadratic that the records make, against the eigenvalues that they are drawn for."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.linear import LinearRegression


def test_each_split_has_the_eigenvalues_asked_for():
    records = LinearRegression(dimensions=5, condition=1e4, train=40, validation=20, test=10).load()
    wanted = torch.tensor([1e-4, 1e-3, 1e-2, 1e-1, 1.0]).double()
    for name, size in {"train": 40, "validation": 20, "test": 10}.items():
        x = records.columns["x"][records.splits[name]].double()
        assert len(x) == size
        torch.testing.assert_close(x.mean(0), torch.zeros(5).double(), atol=1e-7, rtol=0)
        torch.testing.assert_close(torch.linalg.eigvalsh(x.T @ x / size), wanted, rtol=2e-3, atol=0)
    axes = torch.linalg.eigh(x.T @ x)[1]
    assert float(axes.abs().max()) < 0.99  # turned away from the coordinates


def test_without_noise_some_weights_fit_exactly_and_with_noise_the_rest_has_its_size():
    x, y = (LinearRegression().load().columns[name].double() for name in "xy")
    fit = torch.linalg.lstsq(x, y[:, None], driver="gelsd").solution[:, 0]
    assert float((x @ fit - y).abs().max()) < 1e-5
    columns = LinearRegression(train=20_000, noise=0.5).load().columns
    x, y = columns["x"].double(), columns["y"].double()
    fit = torch.linalg.lstsq(x, y[:, None], driver="gelsd").solution[:, 0]
    assert float((x @ fit - y).std()) == pytest.approx(0.5, rel=0.02)


def test_training_records_can_be_a_biased_proxy_of_the_others():
    records = LinearRegression(dimensions=5, condition=100.0, tilt=0.05, bias=0.5, train=400, validation=300).load()
    plain = LinearRegression(dimensions=5, condition=100.0, train=400, validation=300).load()
    moments, fits = {}, {}
    for split in ("train", "validation"):
        rows = records.splits[split]
        x, y = (records.columns[name][rows].double() for name in "xy")
        moments[split], fits[split] = x.T @ x / len(x), torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    assert torch.equal(records.columns["x"][rows], plain.columns["x"][rows])
    difference = torch.linalg.eigvalsh(moments["train"] - moments["validation"])
    torch.testing.assert_close(difference, torch.tensor([-0.05, 0.05, 0.05, 0.05, 0.05]).double(), rtol=1e-4, atol=0)
    assert 0.2 < float((fits["train"] - fits["validation"]).norm()) / 5**0.5 < 1.0


def test_records_are_a_function_of_the_seed():
    one, same, other = (LinearRegression(seed=seed).load().columns["x"] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "arguments", [{"dimensions": 1}, {"condition": 0.5}, {"noise": -1.0}, {"tilt": -1.0}, {"bias": -1.0}, {"test": 20}]
)
def test_what_is_out_of_range_is_named(arguments):
    with pytest.raises(UserError, match=f"data.{next(iter(arguments))}="):
        LinearRegression(**arguments)
