"""The process against scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.gaussian_process import GaussianProcess

SPEC = DataSpec("d", "vector", (1,), target="real", sizes={"train": 40})


def test_moments_are_scikit_learns():
    torch.manual_seed(0)
    x = torch.rand(40, 1) * 4
    y = 3 + 2 * torch.sin(3 * x[:, 0]) + 0.1 * torch.randn(40)
    method = GaussianProcess(SPEC)
    method.accumulate(Labelled(x[:25], y[:25]))
    method.accumulate(Labelled(x[25:], y[25:]))
    method.solve()
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    peer = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
    peer.fit(x.double().numpy(), y.double().numpy())
    new = torch.linspace(-1, 5, 30)[:, None]
    mean, deviation = peer.predict(new.double().numpy(), return_std=True)
    law = method.predict_distribution(new)
    torch.testing.assert_close(law.mean, torch.from_numpy(mean), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(law.stddev, torch.from_numpy(deviation), atol=1e-3, rtol=1e-3)
    noise = method.units[1] ** 2 * method.kernel[2]
    torch.testing.assert_close(method.uncertainty(new) + noise, law.variance)
    assert float(noise) == pytest.approx(0.01, rel=0.6)


def test_bad_input():
    with pytest.raises(UserError, match="cubic time"):
        GaussianProcess(SPEC.but(sizes={"train": 10_000}))
    with pytest.raises(UserError, match="GaussianProcess"):
        GaussianProcess(SPEC.but(target="class", classes=("a", "b")))
