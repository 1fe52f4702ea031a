"""Weak-to-strong diffusion."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.samplers.ddim import moved
from tests.modules.generative.exact import configured
from tests.modules.generative.samplers.checkpoints import fitted

X = torch.randn(800, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pair(tmp_path):
    """A strong Gaussian around (1, 0), and a weaker one that lies off in the same direction."""
    strong, _ = fitted(X + torch.tensor([1.0, 0.0]), tmp_path, "strong")
    return strong, fitted(X + torch.tensor([0.4, 0.0]), tmp_path, "weak")[1]


def test_reflection_by_the_same_model_changes_next_to_nothing(pair, tmp_path):
    strong, _ = pair
    _, same = fitted(X + torch.tensor([1.0, 0.0]), tmp_path, "same")
    times = configured("timesteps", "log_snr", steps=401).times(strong.path)
    start = torch.randn(5, 2, dtype=torch.float64)
    plain = configured("sampler", "ddim").sample(strong.field(), start, times)
    reflected = configured("sampler", "reflection", weak=same).sample(strong.field(), start, times)
    torch.testing.assert_close(reflected, plain, atol=0.05, rtol=0)


def test_one_reflection_moves_along_the_difference_of_the_scores(pair):
    """x_s moves by alpha sigma (score_strong - score_weak) times the step in sigma / alpha, to first order in it."""
    strong, weak = pair
    sampler, path = configured("sampler", "reflection", weak=weak), strong.path
    s, t = (torch.tensor(time, dtype=torch.float64) for time in (0.5, 0.499))
    x = torch.randn(4, 2, dtype=torch.float64)
    sampler.last = t
    field = strong.field()
    end = sampler.step(field, x, s, t, {})
    assert field.calls == 3
    back = moved(field, field.data(end, t), end, t, s)
    from modules.generative.gaussian.checkpoints import opened

    apart = field.score(x, s) - opened(weak).field().score(x, s)
    step = path.noise_ratio(s) - path.noise_ratio(t)
    torch.testing.assert_close(back - x, path.alpha(s) * step * path.sigma(s) * apart, rtol=0.02, atol=1e-5)


def test_draws_move_beyond_the_strong_model(pair):
    strong, weak = pair
    torch.manual_seed(0)
    times = configured("timesteps", "log_snr", steps=30).times(strong.path)
    start = torch.randn(2000, 2, dtype=torch.float64)
    plain, reflected = (
        configured("sampler", name, **changes).sample(strong.field(), start, times)
        for name, changes in (("ddim", {}), ("reflection", {"weak": weak}))
    )
    assert float(plain[:, 0].mean()) == pytest.approx(1.0, abs=0.1)
    assert reflected[:, 0].mean() > plain[:, 0].mean() + 0.2
    none = configured("sampler", "reflection", weak=weak, until=0.0).sample(strong.field(), start, times)
    torch.testing.assert_close(none, plain)


def test_a_share_out_of_range_is_refused():
    with pytest.raises(UserError, match="until"):
        configured("sampler", "reflection", weak="none", until=2.0)
