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


def test_records_are_a_function_of_the_seed():
    one, same, other = (LinearRegression(seed=seed).load().columns["x"] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("arguments", [{"dimensions": 1}, {"condition": 0.5}, {"noise": -1.0}, {"test": 20}])
def test_what_is_out_of_range_is_named(arguments):
    with pytest.raises(UserError, match=f"data.{next(iter(arguments))}="):
        LinearRegression(**arguments)
