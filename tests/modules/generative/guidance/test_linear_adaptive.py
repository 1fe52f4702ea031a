"""LinearAG against full guidance where its combinations are exact, and what it costs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from compendium.errors import UserError
from tests.modules.generative.exact import Known, configured

MEANS = torch.tensor([[2.0, 0, -1, 1], [-1.0, 1, 0, 2], [0.3, 0.2, 0.1, 0.5]], dtype=torch.float64)
STDS = torch.tensor([0.3, 0.3, 1.5], dtype=torch.float64)
Y = torch.tensor([0, 1, 1, 0, 1])


class TwoGaussians:
    """A Gaussian for each of two classes, and a wide one for any; posterior means by conditioning."""

    def __init__(self, steps=8):
        self.path = configured("path", "vp")
        self.sampler = configured("sampler", "ddim", denoise=False)
        self.grid = configured("timesteps", "uniform", steps=steps).times(self.path)
        self.spec, self.like = SimpleNamespace(shape=(4,)), torch.zeros(1, dtype=torch.float64)

    def denoise(self, x, t, y=None):
        mean, std = MEANS[y], STDS[y][:, None]  # -1 is the last
        alpha, sigma = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
        return mean + alpha * std**2 * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)


def drawn(model, name, **arguments):
    field = configured("guidance", name, scale=3.0, **arguments).field(model, Y)
    torch.manual_seed(0)
    start = torch.randn(len(Y), 4, dtype=torch.float64)
    return model.sampler.sample(field, start, model.grid), field.calls


def test_for_gaussians_one_full_evaluation_is_enough():
    model = TwoGaussians()
    full, cost = drawn(model, "classifier_free")
    found, cheap = drawn(model, "linear_adaptive", full=0.0)
    torch.testing.assert_close(found, full, rtol=1e-6, atol=1e-6)
    evaluations = len(model.grid) - 1
    assert (cost, cheap) == (2 * evaluations, evaluations + 1)


def test_every_second_one_of_the_first_is_full():
    model = TwoGaussians(steps=9)  # eight evaluations, of which the first four alternate
    _, cost = drawn(model, "linear_adaptive", full=0.5)
    assert cost == 8 + 2


def test_no_draw_changes_with_the_pilots():
    model = TwoGaussians()
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    configured("guidance", "linear_adaptive").field(model, Y)
    assert torch.equal(torch.randn(2), expected)


def test_what_it_cannot_do_is_said():
    with pytest.raises(UserError, match=r"guidance\.full=2"):
        configured("guidance", "linear_adaptive", full=2)
    with pytest.raises(UserError, match="draws nothing"):
        configured("guidance", "linear_adaptive").field(Known(configured("path", "vp")), Y % 2)
    with pytest.raises(UserError, match="towards a class"):
        configured("guidance", "linear_adaptive").field(TwoGaussians(), None)
