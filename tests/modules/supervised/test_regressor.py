"""The plain regressor against SciPy's normal law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.supervised.regressor import GaussianRegressor

SPEC = DataSpec(name="line", kind="vector", shape=(2,), target="real")


def test_loss_is_the_negative_log_likelihood_in_the_targets_units():
    method = GaussianRegressor(SPEC, floor=1e-3, net=nn.Identity())
    method.shift.fill_(100.0)
    method.scale.fill_(20.0)
    x, y = torch.tensor([[0.5, 0.0], [-1.0, 2.0]]), torch.tensor([111.0, 60.0])
    mean = 100 + 20 * np.array([0.5, -1.0])
    std = 20 * (np.log1p(np.exp([0.0, 2.0])) + 1e-3)
    assert method.loss(Labelled(x, y)).item() == pytest.approx(-norm.logpdf(y.numpy(), mean, std).mean(), rel=1e-5)


def test_spread_stays_positive_at_the_extremes():
    law = GaussianRegressor(SPEC, net=nn.Identity()).predict_distribution(torch.tensor([[0.0, -1e4], [0.0, 1e4]]))
    assert (law.stddev > 0).all()
    assert torch.isfinite(law.log_prob(torch.zeros(2))).all()


def test_needs_a_real_target():
    with pytest.raises(UserError, match="supervised/classifier"):
        GaussianRegressor(SPEC.but(target="class", classes=("a", "b")), net=nn.Identity())
