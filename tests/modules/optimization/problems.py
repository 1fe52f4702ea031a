"""Equations, and a method's loss as a function of its weights; importable by the tests of problems."""

from __future__ import annotations

import torch

from datamodules.spec import DataSpec

SPEC = DataSpec("equations", "vector", (5,), target="real")


def records():
    torch.manual_seed(0)
    x = torch.randn(30, 5, dtype=torch.float64)
    return x, x @ torch.tensor([1.0, -2, 0.5, 3, 0], dtype=torch.float64)


def as_function(method, batch):
    def loss(weight):
        return torch.func.functional_call(Lossy(method), {"method.weight": weight}, (batch,))

    return loss


class Lossy(torch.nn.Module):
    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, batch):
        return self.method.loss(batch)
