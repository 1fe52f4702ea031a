"""Diffusion with classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.conditional_diffusion import ConditionalDiffusion

SPEC = DataSpec(name="mixture", kind="vector", shape=(2,), target="class", classes=("a", "b", "c"))


class Recorder(nn.Module):
    """A network that keeps the classes it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.asked: list[torch.Tensor] = []

    def forward(self, x, t, y):
        self.asked.append(y)
        return x * self.weight


def method(**changes):
    composed = compose(["model=generative/conditional_diffusion", "guidance=none"]).values["model"]
    arguments = {key: value for key, value in composed.items() if key != "_target_"} | changes
    return ConditionalDiffusion(SPEC, net=Recorder(), **arguments)


def test_the_class_is_hidden_in_the_configured_share():
    model = method(drop=0.25)
    y = torch.arange(30_000) % 3
    model.loss(Labelled(torch.randn(len(y), 2), y))
    (asked,) = model.net.asked
    hidden = asked < 0
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(asked[~hidden], y[~hidden])


def test_draws_of_classes_ask_for_them():
    model = method()
    y = torch.tensor([2, 0, 1])
    assert model.sample_of(y).shape == (3, 2)
    assert all(torch.equal(asked, y) for asked in model.net.asked)
    model.net.asked.clear()
    model.sample(600)
    assert torch.bincount(model.net.asked[0], minlength=3).min() > 150


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_a_share_outside_its_range_is_refused(drop):
    with pytest.raises(UserError, match="drop="):
        method(drop=drop)
