"""Bayesian optimisation by a Gaussian process: the acquired point by scikit-learn and SciPy, and a run to its end."""

from __future__ import annotations

import warnings

import pytest
import torch
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from compendium.errors import UserError
from datamodules.batches import Candidates
from modules.uncertainty.ei_process import EIProcess
from tests.modules.test_contract import planned, trained
from tests.modules.uncertainty.test_sequential import SPEC, steps


def test_it_acquires_the_point_of_the_largest_expected_improvement():
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 4
    y = torch.sin(2 * x[:, 0]) + torch.cos(3 * x[:, 1]) + 0.2 * x[:, 0]
    batch = Candidates(x, y, torch.arange(200))
    search = EIProcess(SPEC, acquisitions=14, initial=10, restarts=1)
    rows = steps(search, batch, 0, 5)
    for number in range(10, 14):
        known = rows[:number]
        start = ConstantKernel() * RBF(0.3, (1e-3, 1e3)) + WhiteKernel(0.1, (1e-8, 1e2))
        peer = GaussianProcessRegressor(start, normalize_y=True, n_restarts_optimizer=1, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer.fit(x[known].double().numpy(), y[known].double().numpy())
        mean, deviation = peer.predict(x.double().numpy(), return_std=True)
        best = float(y[known].max())
        z = (mean - best) / deviation
        improvement = torch.from_numpy(deviation * (stats.norm.pdf(z) + z * stats.norm.cdf(z)))
        free = torch.ones(200, dtype=torch.bool)
        free[known] = False
        # scikit-learn's deviation is that of the response: its noise is as good as none here.
        assert float(improvement[rows[number]]) >= 0.98 * float(improvement[free].max())


def test_it_finds_the_optimum_of_a_smooth_function(tmp_path):
    few = ("data.function=forrester", "datamodule.batch_size=4096", "model.acquisitions=16", "trainer.max_epochs=11")
    parts = trained(planned("uncertainty/ei_process", tmp_path, *few, "data.train=256"))
    rows = parts.method.acquired_rows()
    assert len(rows) == len(rows.unique()) == 16
    regret = parts.data.columns["regret"][parts.data.rows["train"]]
    assert float(regret[rows].min()) == float(regret.min())


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match="restarts=-1"):
        EIProcess(SPEC, restarts=-1)
