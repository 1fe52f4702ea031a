"""Analytical teleportation."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from tests.modules.generative.exact import configured
from tests.modules.generative.samplers.checkpoints import fitted

X = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 0.5, 0.1]) + 1


def test_for_gaussian_data_the_jump_is_the_flow(tmp_path):
    """A third of the way in one step, and many small steps of Heun's method, end at the same points."""
    model, path = fitted(X, tmp_path)
    times = configured("timesteps", "log_snr", steps=301).times(model.path)
    start = torch.randn(6, 3, dtype=torch.float64)
    exact = configured("sampler", "heun").sample(model.field(), start, times)
    for skip in (0.0, 0.3, 0.9):
        field = model.field()
        sampler = configured("sampler", "teleportation", gaussian=path, skip=skip)
        torch.testing.assert_close(sampler.sample(field, start, times), exact, atol=1e-3, rtol=0)
        assert field.calls == 2 * (300 - round(300 * skip)) + 1


def test_what_is_no_gaussian_is_refused(tmp_path):
    _, path = fitted(X, tmp_path, law="records")
    sampler = configured("sampler", "teleportation", gaussian=path)
    model, _ = fitted(X, tmp_path, "other")
    with pytest.raises(UserError, match="law=gaussian"):
        sampler.sample(model.field(), torch.zeros(1, 3), torch.tensor([1.0, 0.5, 0.1]).double())
    with pytest.raises(UserError, match="skip"):
        configured("sampler", "teleportation", gaussian=path, skip=1.0)
