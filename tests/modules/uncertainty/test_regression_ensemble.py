"""A mixture of normals by hand."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from callbacks.metrics.crps import crps
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.regression_ensemble import RegressionEnsemble

SPEC = DataSpec("d", "vector", (2,), target="real", sizes={"train": 64})
NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


def test_the_law_is_the_mean_of_the_members_and_the_loss_their_sum():
    torch.manual_seed(0)
    method = RegressionEnsemble(SPEC, members=3, net=NET)
    method.shift.fill_(10.0)
    method.scale.fill_(2.0)
    x, y = torch.randn(5, 2), torch.randn(5) + 10
    members = method.predict_members(x)
    law = method.predict_distribution(x)
    density = torch.stack([Normal(members.loc[k], members.scale[k]).log_prob(y).exp() for k in range(3)])
    torch.testing.assert_close(law.log_prob(y), density.mean(0).log())
    torch.testing.assert_close(method.loss(Labelled(x, y)), -density.log().mean(1).sum())
    # Law of total variance.
    total = members.scale.square().mean(0) + method.epistemic_variance(x)
    torch.testing.assert_close(law.variance, total)
    assert crps(law, y, 16).shape == (5,)


def test_bad_input():
    with pytest.raises(UserError, match="members=0"):
        RegressionEnsemble(SPEC, members=0, net=NET)
    with pytest.raises(UserError, match="uncertainty/ensemble"):
        RegressionEnsemble(SPEC.but(target="class", classes=("a", "b")), net=NET)
