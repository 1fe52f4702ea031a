"""The value of a noisy record, known for a Gaussian and a linear reward."""

from __future__ import annotations

import torch
from torch import nn

from compendium.compose import compose
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.soft_value import SoftValue
from tests.modules.generative.exact import configured

BRIGHT = {"_target_": "modules.generative.rewards.Brightness"}


class Slope(nn.Module):
    """factor * sqrt(2) alpha mean(x): E[mean of x_0 | x_t] for N(0, I) in two dimensions, in units of its deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.path = configured("path", "vp")

    def forward(self, x, t):
        return self.factor * 2**0.5 * (self.path.alpha(t * self.path.end) * x.mean(1))[:, None]


def method():
    values = compose(["model=generative/soft_value"]).values["model"]
    arguments = {key: value for key, value in values.items() if key != "_target_"}
    spec = DataSpec(name="records", kind="vector", shape=(2,), sizes={"train": 1000})
    return SoftValue(spec, net=Slope(), **arguments | {"reward": BRIGHT, "data_std": 1.0}).double()


def test_the_exact_value_is_where_the_loss_has_no_slope():
    """Of N(0, I) E[x_0 | x_t] = alpha x_t; the reward has a standard deviation of 1 / sqrt(2)."""
    model = method()
    model.prepare(torch.randn(10, 2, dtype=torch.float64))
    model.shift.zero_(), model.scale.fill_(2**-0.5)
    x, t = torch.randn(6, 2, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    torch.testing.assert_close(model.value_at(x, t), model.path.alpha(t) * x.mean(1))
    slopes = []
    for seed in range(40):
        torch.manual_seed(seed)
        loss = model.loss(Unlabelled(torch.randn(1000, 2, dtype=torch.float64)))
        slopes.append(torch.autograd.grad(loss, model.judge.net.factor)[0])
    slopes = torch.stack(slopes)
    assert abs(float(slopes.mean())) < 4 * float(slopes.std()) / 40**0.5
    assert float(slopes.std()) < 0.1


def test_the_units_are_those_of_the_training_records():
    model = method()
    x = torch.randn(1000, 2, dtype=torch.float64) + 3
    model.prepare(x)
    torch.testing.assert_close(model.shift, x.mean(1).mean())
    torch.testing.assert_close(model.scale, x.mean(1).std(correction=0))
