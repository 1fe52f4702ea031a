"""The autoregressive decoder: a law, with exactly its window."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.vlae import VLAE

MLP = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


def bits(height: int, width: int) -> DataSpec:
    return DataSpec(name="bits", kind="image", shape=(1, height, width), levels=2, bounds=(0.0, 1.0))


@pytest.mark.parametrize("radius", [1, None])
def test_probabilities_of_all_pictures_add_up_to_one(radius):
    torch.manual_seed(0)
    method = VLAE(bits(2, 3), radius, width=6, depth=2, latent=2, net=MLP).double()
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 6).view(64, 1, 2, 3)
    p = method.decoder.log_prob(x, torch.randn(1, 1, 2).double().expand(1, 64, 2)).exp()
    assert float(p.detach().sum()) == pytest.approx(1, abs=1e-12)
    assert float(p.detach().std()) > 0


def test_draws_have_the_probabilities():
    torch.manual_seed(0)
    method = VLAE(bits(2, 2), width=6, depth=2, latent=2, net=MLP).double()
    with torch.no_grad():
        method.decoder.pixels.window.weight.mul_(6)  # else the pixels barely depend on each other
        x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4).view(16, 1, 2, 2)
        z = torch.randn(1, 2).double()
        p = method.decoder.log_prob(x, z.expand(1, 16, 2)).exp()
        draws = method.decoder.sample(z.expand(20_000, 2)).flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0]).double()
    torch.testing.assert_close(draws.long().bincount(minlength=16) / 20_000, p.float(), atol=0.015, rtol=0)


@pytest.mark.parametrize(("radius", "seen"), [(1, 4), (2, 12), (None, 20)])
def test_a_pixel_sees_its_window_and_nothing_else(radius, seen):
    """Of a 6 x 6 picture, what pixel (3, 2) depends on, by derivatives."""
    torch.manual_seed(0)
    method = VLAE(bits(6, 6), radius, width=16, depth=3, latent=2, net=MLP).double()
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    features = method.decoder.net(torch.randn(1, 2).double())
    (slope,) = torch.autograd.grad(method.decoder.pixels(x, features)[0, 0, 3, 2], x)
    row, column = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    reach = 5 if radius is None else radius
    expected = (6 * row + column < 6 * 3 + 2) & ((row - 3).abs() <= reach) & ((column - 2).abs() <= reach)
    assert torch.equal(slope[0, 0] != 0, expected)
    assert int(expected.sum()) == seen


def test_grey_pictures_and_empty_windows_are_refused():
    grey = DataSpec(name="greys", kind="image", shape=(1, 4, 4), levels=17, bounds=(0.0, 1.0))
    with pytest.raises(UserError, match="0 or 1"):
        VLAE(grey, net=MLP)
    with pytest.raises(UserError, match=r"model\.radius=0"):
        VLAE(bits(4, 4), 0, net=MLP)
