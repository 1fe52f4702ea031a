"""Disturbances on the way."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from tests.modules.generative.exact import Known, configured


def ends(level: float, n: int, steps: int):
    model = Known(configured("path", "edm"))
    torch.manual_seed(0)
    start = 80 * torch.randn(n, 2, dtype=torch.float64)
    name, changes = ("disturbed", {"level": level}) if level >= 0 else ("heun", {})
    times = configured("timesteps", "edm", steps=steps).times(model.path)
    return configured("sampler", name, **changes).sample(model.field(), start, times)


def test_without_disturbance_it_is_heuns_method():
    torch.testing.assert_close(ends(0.0, 10, 20), ends(-1, 10, 20), rtol=0, atol=0)


def test_one_disturbance_has_its_size():
    """Far from all data the flow keeps directions and shrinks x by t / s: so does what was added to it."""
    model = Known(configured("path", "edm"))
    s, t = torch.tensor([1e5, 5e4], dtype=torch.float64)
    torch.manual_seed(0)
    x = torch.zeros(20_000, 2, dtype=torch.float64)
    x = configured("sampler", "disturbed", level=0.2).step(model.field(), x, s, t, {})
    assert float(x.std()) == pytest.approx(0.2 * 5e4, rel=0.02)


def test_a_negative_level_is_refused():
    with pytest.raises(UserError, match="level"):
        configured("sampler", "disturbed", level=-0.1)
