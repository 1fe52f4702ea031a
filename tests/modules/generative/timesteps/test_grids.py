"""Schedules of time steps."""

from __future__ import annotations

import pytest
import torch

from compendium.config import choices
from compendium.errors import UserError
from modules.generative.gaussian.paths import NoiseLevel, VariancePreserving
from tests.modules.generative.exact import PATHS, configured

FORMULAS = [name for name in sorted(choices("timesteps")) if name != "given"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FORMULAS)
def test_times_fall_from_the_paths_end_to_its_start(name, path):
    path = configured("path", path)
    times = configured("timesteps", name, steps=9).times(path)
    assert len(times) == 9
    assert (times[0], times[-1]) == (path.end, path.start)
    assert (times.diff() < 0).all()


def test_edms_levels():
    """Equation 5 of Karras et al. 2022 with 18 steps, rho 7, from 80 to 0.002."""
    i = torch.arange(18, dtype=torch.float64)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(configured("timesteps", "edm", steps=18).times(NoiseLevel()), expected)


def test_equal_steps_in_the_log_signal_to_noise_ratio():
    path = VariancePreserving()
    steps = path.log_snr(configured("timesteps", "log_snr", steps=6).times(path)).diff()
    torch.testing.assert_close(steps, steps[:1].expand(5))


def test_times_by_hand():
    assert configured("timesteps", "given", values=[1.0, 0.3, 0.01]).times(VariancePreserving()).tolist() == [
        1,
        0.3,
        0.01,
    ]
    with pytest.raises(UserError, match="times fall"):
        configured("timesteps", "given", values=[0.1, 0.3])
    with pytest.raises(UserError, match="leaves the path"):
        configured("timesteps", "given", values=[2.0, 0.3]).times(VariancePreserving())
    with pytest.raises(UserError, match="are two"):
        configured("timesteps", "uniform", steps=1)
