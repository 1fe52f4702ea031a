"""A small network that optimizers watch, and its gradients worked out by hand; importable by the tests of each."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

WIDTHS = (5, 4, 4, 3)


def network(dtype=torch.float64, bias=True):
    """Three layers, of which the second has no bias, and a norm."""
    torch.manual_seed(0)
    layers = [nn.Linear(5, 4, bias), nn.Tanh(), nn.Linear(4, 4, False), nn.LayerNorm(4), nn.Linear(4, 3, bias)]
    return nn.Sequential(*layers).to(dtype)


def batches(count, rows=8, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(rows, 5, generator=draw, dtype=torch.float64).to(dtype), torch.randint(3, (rows,), generator=draw))
        for _ in range(count)
    ]


def train(optimizer, net, data, parts=1):
    """A step of cross-entropy per batch, each in as many equal parts."""
    for x, y in data:
        for some_x, some_y in zip(x.chunk(parts), y.chunk(parts), strict=True):
            (F.cross_entropy(net(some_x), some_y) / parts).backward()
        optimizer.step()
        for parameter in net.parameters():
            parameter.grad = None


def what_each_record_sees(net, x, y):
    """Per linear layer: inputs, with a 1 if it has a bias (B, in), and slopes of each record's own loss (B, out)."""
    seen, value = [], x
    for module in net:
        if isinstance(module, nn.Linear):
            given = value.detach()
            value = module(value)
            value.retain_grad()
            seen.append((F.pad(given, (0, 1), value=1.0) if module.bias is not None else given, value))
        else:
            value = module(value)
    grads = torch.autograd.grad(F.cross_entropy(value, y, reduction="sum"), [out for _, out in seen])
    return [(given, grad) for (given, _), grad in zip(seen, grads, strict=True)]
