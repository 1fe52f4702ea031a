"""Particles beside a Gaussian teacher, for the tests of score distillation."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from compendium.compose import compose
from datamodules.spec import DataSpec
from modules.generative import score_distillation_sampling as module

MEAN, STD = [1.0, -0.5], 0.7
SPEC = DataSpec(name="plane", kind="vector", shape=(2,))
SOURCE = {"_target_": "datamodules.sources.densities.Gaussians", "means": [MEAN], "std": STD, "train": 10}


@cache
def values_of(model: str) -> dict[str, Any]:
    """Arguments of a method as its config has them."""
    values = compose([f"model=generative/{model}"]).values["model"]
    return {name: value for name, value in values.items() if name != "_target_"}


def arguments(model: str = "score_distillation_sampling", **changes: Any) -> dict[str, Any]:
    """The same, with N(MEAN, STD^2 I) as the teacher's law."""
    return {**values_of(model), "spec": SPEC, "source": SOURCE, **changes}


def given_times(monkeypatch: pytest.MonkeyPatch, t: float) -> None:
    """Within a test all times of the particles' noise are t."""
    monkeypatch.setattr(module, "times_of", lambda name, path, n, like: torch.full((n,), t).to(like))
