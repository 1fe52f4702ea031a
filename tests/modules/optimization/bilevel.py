"""Small problems of two levels for the tests of methods."""

from __future__ import annotations

from typing import Any

import torch

from datamodules.batches import Labelled, Sourced
from datamodules.spec import DataSpec

DECAYS = {"_target_": "modules.optimization.problems.Decays", "start": -1.0, "bounds": [-8.0, 0.0], "seen": None}
WEIGHTS = {"_target_": "modules.optimization.problems.Reweighting", "law": "sigmoid", "decay": 0.1}
LINEAR = {"_target_": "modules.networks.linear.Linear"}


def real(n: int, seed: int, d: int = 4) -> Labelled:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    y = x @ torch.linspace(1, -1, d, dtype=torch.float64) + 0.5 + torch.randn(n, generator=draw, dtype=torch.float64)
    return Labelled(x, y)


def classes(n: int, seed: int, sources: int = 5, d: int = 4) -> Sourced:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    y = (x[:, :3] + 0.3 * torch.randn(n, 3, generator=draw, dtype=torch.float64)).argmax(1)
    return Sourced(x, y, torch.arange(n) % sources)


def decays(kind: type, d: int = 4, upper: int = 15, **arguments: Any) -> Any:
    """A method on `Decays`, with the validation records `real(upper, 1)`."""
    torch.manual_seed(0)
    problem = DECAYS | arguments.pop("problem", {})
    method = kind(DataSpec("made up", "vector", (d,), target="real"), problem, net=LINEAR, **arguments)
    method._upper = real(upper, 1, d)
    return method


def weights(kind: type, sources: int = 5, **arguments: Any) -> Any:
    """A method on `Reweighting`, with the validation records `classes(15, 1)`."""
    torch.manual_seed(0)
    problem = WEIGHTS | arguments.pop("problem", {})
    spec = DataSpec("made up", "vector", (4,), target="class", classes=("a", "b", "c"), sources=sources)
    method = kind(spec, problem, net=arguments.pop("net", LINEAR), **arguments)
    method._upper = classes(15, 1)
    return method
