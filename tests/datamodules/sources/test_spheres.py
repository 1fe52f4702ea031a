"""Densities that integrate to one, draws that follow them, scores that are their gradients, and a file of places."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import vonmises_fisher

from compendium.errors import UserError
from datamodules.sources.spheres import Earth, Sphere, Torus, VonMisesFisherMixture, WrappedMixture

FISHER = VonMisesFisherMixture(
    torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.8, 0.0]]), torch.tensor([5.0, 60.0]), torch.tensor([0.25, 0.75])
)
WRAPPED = WrappedMixture(torch.tensor([[0.1, 3.0], [-2.0, 1.0]]), torch.tensor([0.5, 1.2]), torch.tensor([0.4, 0.6]))


def test_the_density_on_the_sphere_is_scipys():
    x = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double())
    parts = [
        float(weight) * vonmises_fisher(mean.numpy(), float(c)).pdf(x.numpy())
        for mean, c, weight in zip(FISHER.means, FISHER.concentration, FISHER.weights, strict=True)
    ]
    torch.testing.assert_close(FISHER.log_prob(x).exp(), torch.tensor(sum(parts)))


def test_the_density_on_the_torus_integrates_to_one():
    ticks = torch.arange(200).double() / 200 * 2 * math.pi
    a, b = torch.cartesian_prod(ticks, ticks).unbind(1)
    x = torch.stack([a.cos(), a.sin(), b.cos(), b.sin()], 1)
    assert float(WRAPPED.log_prob(x).exp().mean() * (2 * math.pi) ** 2) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(("law", "size"), [(FISHER, 3), (WRAPPED, 2)])
def test_draws_follow_the_density_and_lie_on_the_manifold(law, size):
    """Means are the known ones, and E of the gradient of log p along any Killing field is zero."""
    x = law.sample(200_000, torch.Generator().manual_seed(0)).double()
    assert float((x.unflatten(1, (-1, size)).norm(dim=-1) - 1).abs().max()) < 1e-6
    turned = torch.stack([-x[:, 1], x[:, 0], *[torch.zeros_like(x[:, 0])] * (x.shape[1] - 2)], 1)
    slope = (law.score(x) * turned).sum(1)
    assert abs(float(slope.mean())) < 4 * float(slope.std()) / math.sqrt(len(x))
    means = (law.weights[:, None] * expected(law)).sum(0)
    torch.testing.assert_close(x.mean(0), means, rtol=0, atol=0.01)


def expected(law):
    """E[x] of each component: mean (coth c - 1 / c), and e^(-std^2 / 2) (cos, sin)."""
    if law is FISHER:
        c = law.concentration[:, None]
        return law.means * (1 / c.tanh() - 1 / c)
    shrunk = (-0.5 * law.std.square()).exp()[:, None, None]
    return (shrunk * torch.stack([law.means.cos(), law.means.sin()], -1)).flatten(1)


@pytest.mark.parametrize(("law", "size"), [(FISHER, 3), (WRAPPED, 2)])
def test_the_score_is_the_gradient_along_the_manifold(law, size):
    x = law.sample(10, torch.Generator().manual_seed(1)).double().requires_grad_()
    onto = (x.unflatten(1, (-1, size)) / x.unflatten(1, (-1, size)).norm(dim=-1, keepdim=True)).flatten(1)
    (gradient,) = torch.autograd.grad(law.log_prob(onto).sum(), x)
    torch.testing.assert_close(law.score(x.detach()), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("source", [Sphere(train=50, validation=10, test=20), Torus(train=50, validation=10, test=20)])
def test_a_source_gives_records_and_their_law(source):
    records = source.load()
    assert records.columns["x"].shape == (80, *records.spec.shape)
    assert records.truth.log_prob(records.columns["x"][:]).isfinite().all()


def test_places_on_earth(tmp_path):
    file = tmp_path / "quakes.csv"
    file.write_text("# a heading\nLatitude,Longitude\n90,0\n0,0\n0,90\n-45,180,7.1\n", encoding="utf-8")
    records = Earth(str(file)).load()
    root = math.sqrt(0.5)
    expected = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0], [-root, 0, -root]])
    torch.testing.assert_close(records.columns["x"][:], expected, rtol=0, atol=1e-6)
    assert records.spec.name == "quakes"


@pytest.mark.parametrize(("text", "message"), [("a,b\n", "no line begins"), ("91,0\n", "latitudes go from")])
def test_a_file_of_no_places_is_refused(tmp_path, text, message):
    file = tmp_path / "file.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        Earth(str(file)).load()


def test_what_makes_no_law_is_refused():
    with pytest.raises(UserError, match="concentration=0"):
        Sphere(concentration=0.0)
    with pytest.raises(UserError, match="std=3"):
        Torus(std=3.0)
    with pytest.raises(UserError, match="no such file"):
        Earth("nowhere.csv").load()
