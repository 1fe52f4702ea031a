"""DEUP: its folds, its density, and a misspecified predictor whose error is known."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import KernelDensity
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.deup import DEUP
from modules.uncertainty.ensemble import hashed

SPEC = DataSpec("d", "vector", (2,), target="real", sizes={"train": 60})
NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


def method(**options) -> DEUP:
    torch.manual_seed(0)
    made = DEUP(SPEC, net=NET, folds=3, **options)
    made.anchors.copy_(torch.randn(60, 2))
    return made


def test_the_density_is_scikit_learns():
    deup = method()
    width = 60 ** (-1 / 6)
    peer = KernelDensity(bandwidth=width).fit(deup.anchors.numpy())
    x = torch.randn(20, 2)
    want = torch.from_numpy(peer.score_samples(x.numpy())).float()
    torch.testing.assert_close(deup.log_density(x), want, atol=1e-4, rtol=1e-4)


def test_no_predictor_learns_from_its_own_fold_and_the_last_one_learns_from_all():
    deup = method()
    x = torch.randn(64, 2)
    fold = hashed(x) % 3
    assert set(fold.tolist()) == {0, 1, 2}
    for own in range(3):
        part = Labelled(x[fold == own], torch.randn(int((fold == own).sum())))
        deup.zero_grad()
        deup.loss(part)["squares"].backward()
        reached = deup.net.net.first.weight.grad.flatten(1).abs().sum(1) > 0
        assert reached.tolist() == [place != own for place in range(3)] + [True]


def test_errors_train_the_second_predictor_alone():
    deup = method()
    batch = Labelled(torch.randn(32, 2), torch.randn(32))
    deup.loss(batch)["error"].backward()
    reached = {name.split(".")[0] for name, part in deup.named_parameters() if part.grad is not None}
    assert reached == {"error"}


def test_u_is_the_excess_risk_of_a_predictor_that_can_not_fit():
    """f is a constant and y = 2 sign(x_1) + N(0, 0.3^2): the excess risk is 4 everywhere, and no variance tells it."""
    torch.manual_seed(0)
    x = torch.randn(2000, 2)
    y = 2 * torch.sign(x[:, 0]) + 0.3 * torch.randn(2000)
    deup = DEUP(SPEC, net=NET, folds=3, aleatoric=0.09)
    deup.net = type(deup.net)([Constant() for _ in range(4)])
    deup.anchors.copy_(x[:60])
    optimizer = torch.optim.Adam(deup.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        sum(deup.loss(Labelled(x, y)).values()).backward()
        optimizer.step()
    with torch.no_grad():
        inside = x[x.norm(dim=1) < 1.5]
        assert deup.uncertainty(inside).mean().item() == pytest.approx(4.0, rel=0.03)
        assert deup.uncertainty(inside).std().item() < 0.4
        assert deup.predict_distribution(inside).variance.mean().item() == pytest.approx(4.09, rel=0.03)


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.randn(1))

    def forward(self, x):
        return self.value.expand(len(x), 1)


def test_bad_input():
    with pytest.raises(UserError, match="folds=1"):
        DEUP(SPEC, net=NET, folds=1)
    with pytest.raises(UserError, match="DEUP"):
        DEUP(SPEC.but(target="class", classes=("a", "b")), net=NET)
