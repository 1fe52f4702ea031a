"""Powers of densities, against the closed form of Gaussians."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.powered import Powered

TARGET = "datamodules.sources.densities.Gaussians"


def test_a_power_of_a_gaussian_is_a_narrower_one():
    law = Powered({"_target_": TARGET, "means": [[1.0, -0.5]], "std": 1.2}, power=4.0, label=None, cells=400).law()
    x = torch.randn(50, 2, dtype=torch.float64)
    expected = torch.distributions.Normal(torch.tensor([1.0, -0.5]).double(), 0.6)
    torch.testing.assert_close(law.log_prob(x), expected.log_prob(x).sum(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(law.score(x), (expected.mean - x) / 0.36)
    draws = law.sample(100_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), torch.tensor([1.0, -0.5]), atol=0.01, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.tensor([0.6, 0.6]), atol=0.01, rtol=0)


def test_a_class_against_all_in_one_dimension():
    """p(x | c)^g p(x)^(1 - g) by quadrature."""
    source = {"_target_": TARGET, "means": [[0.0], [1.0]], "std": [1.0, 0.7], "labels": [0, 1]}
    law = Powered(source, power=3.0, label=1, cells=4000).law()
    grid = torch.linspace(-8, 8, 20_001, dtype=torch.float64)[:, None]
    normal = torch.distributions.Normal
    one = normal(1.0, torch.tensor(0.7, dtype=torch.float64)).log_prob(grid[:, 0])
    other = normal(0.0, torch.tensor(1.0, dtype=torch.float64)).log_prob(grid[:, 0])
    density = (3 * one - 2 * torch.logaddexp(one, other)).exp()
    density /= density.sum() * (grid[1] - grid[0])
    torch.testing.assert_close(law.log_prob(grid).exp(), density, rtol=1e-4, atol=1e-8)


def test_laws_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="no such class"):
        Powered({"_target_": TARGET, "means": [[0.0]]}, label=1).law()
    with pytest.raises(UserError, match="too large"):
        Powered({"_target_": TARGET, "means": [[0.0, 0.0, 0.0]]}, label=None).law()
    with pytest.raises(UserError, match="no law that is a mixture"):
        Powered({"_target_": "datamodules.sources.densities.Checkerboard"}, label=None).law()


def test_a_product_of_experts():
    source = {"_target_": TARGET, "means": [[0.0], [1.0]], "std": [1.0, 0.5], "labels": [0, 1]}
    law = Powered(source, label=1, other=0, cells=4000).law()
    x = torch.linspace(-2, 3, 30, dtype=torch.float64)[:, None]
    expected = torch.distributions.Normal(torch.tensor(0.8).double(), (1 / 5) ** 0.5)
    torch.testing.assert_close(law.log_prob(x), expected.log_prob(x[:, 0]), rtol=1e-5, atol=1e-5)
