"""One test for all samplers: each has the order that its class declares, measured on an exact field."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from compendium.config import choices
from tests.modules.generative.exact import Known, configured

NEEDS = {
    "best_of": {"reward": {"_target_": "modules.generative.rewards.Brightness"}},
    "reflection": {"weak": "weak.ckpt"},
    "svdd": {"reward": {"_target_": "modules.generative.rewards.Brightness"}},
    "teleportation": {"gaussian": "gaussian.ckpt"},
}
SAMPLERS = {name: configured("sampler", name, **NEEDS.get(name, {})) for name in sorted(choices("sampler"))}
DETERMINISTIC = [name for name, sampler in SAMPLERS.items() if sampler.order is not None]
START = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@cache
def exact(path: str):
    return ends("heun", path, 3201)


def ends(name: str, path: str, steps: int):
    model = Known(configured("path", path))
    times = configured("timesteps", "log_snr", steps=steps).times(model.path)
    start = model.path.prior_std * START
    return configured("sampler", name, denoise=False).sample(model.field(), start, times)


@pytest.mark.parametrize("path", ["vp", "linear"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_errors_fall_with_the_declared_order(name, path):
    """Twice the steps, an error of 2^-order: in the mean over two doublings, to a quarter of an order."""
    errors = [float((ends(name, path, steps) - exact(path)).norm(dim=1).mean()) for steps in (101, 201, 401)]
    measured = math.log2(errors[0] / errors[2]) / 2
    assert measured == pytest.approx(SAMPLERS[name].order, abs=0.25), errors


def test_the_adaptive_sampler_ends_where_many_small_steps_do():
    model = Known(configured("path", "vp"))
    times = configured("timesteps", "log_snr", steps=4).times(model.path)
    sampler = configured("sampler", "adaptive", denoise=False, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(sampler.sample(model.field(), START, times), exact("vp"), atol=1e-4, rtol=0)
