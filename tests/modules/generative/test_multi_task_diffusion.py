"""The aggregate by hand and by its Markov chain, the terms of the loss, and pairs of networks that know all."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules import capabilities
from modules.generative.multi_task_diffusion import MultiTaskDiffusion

CLASSES = ("a", "b", "c")
PLANE = DataSpec(name="plane", kind="vector", shape=(2,), target="class", classes=CLASSES)
PICTURES = DataSpec(name="pictures", kind="image", shape=(1, 8, 8), target="class", classes=CLASSES, bounds=(-1, 1))


def made(spec=PLANE, **changes):
    values = compose(["model=generative/multi_task_diffusion"]).values
    arguments = values["model"] | {"net": values["net"], **changes}
    return MultiTaskDiffusion(spec, **{key: value for key, value in arguments.items() if key != "_target_"})


def test_the_aggregate_by_hand():
    model = made(strength=2.0, data_std=0.5)
    model.patterns.weight.data = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, -2.0]])
    # The first pattern has the mean square 12.5: at 0.5 it is (3, 4) / sqrt(50).
    found = model.encode(torch.tensor([[1.0, -1.0]]), torch.tensor([0]))
    expected = (torch.tensor([[1.0, -1.0]]) + 2 * torch.tensor([[3.0, 4.0]]) / math.sqrt(50)) / math.sqrt(5)
    torch.testing.assert_close(found, expected)


def test_the_chain_of_the_paper_has_the_marginals_of_a_path():
    """z_t = sqrt(a_t) (z_{t-1} + w_t E) + sqrt(1 - a_t) eps: a path for w = (1, 0, ..), else c_t for alpha."""
    torch.manual_seed(0)
    a, aggregate = torch.tensor([0.9, 0.7, 0.8]).double(), 1.7
    for w in ([1.0, 0.0, 0.0], [0.5, 0.3, 0.4]):
        z = torch.zeros(200_000).double()
        for step, weight in zip(a, w, strict=True):
            z = step.sqrt() * (z + weight * aggregate) + (1 - step).sqrt() * torch.randn_like(z)
        c = sum(weight * a[s:].prod().sqrt() for s, weight in enumerate(w))
        assert float(z.mean()) == pytest.approx(float(c) * aggregate, abs=0.01)
        assert float(z.var()) == pytest.approx(1 - float(a.prod()), rel=0.02)


def test_the_terms_of_a_network_that_answers_zero():
    """Mean squares of the target and of x, and log 3 for three classes alike, each with its weight."""
    torch.manual_seed(0)
    model = made(target="data", weighting="data", image_weight=2.0, label_weight=0.5, strength=0.0)
    for weight in model.net.parameters():
        weight.data.zero_()
    x = torch.randn(64, 2)
    terms = model.loss(Labelled(x, torch.arange(64) % 3))
    assert float(terms["shared"].detach()) == pytest.approx(float(x.square().mean()), rel=1e-5)
    assert float(terms["image"].detach()) == pytest.approx(2 * float(x.square().mean()), rel=1e-5)
    assert float(terms["label"].detach()) == pytest.approx(0.5 * math.log(3), rel=1e-5)


def test_logits_of_pictures_are_means_over_their_pixels():
    model = made(PICTURES)
    output = torch.randn(4, 1 + 1 + 3, 8, 8)
    model.net = torch.nn.Module()
    model.net.forward = lambda x, t: output
    target, x, logits = model.heads(torch.randn(4, 1, 8, 8), torch.full((4,), 0.5))
    assert torch.equal(target, output[:, :1])
    assert torch.equal(x, output[:, 1:2])
    torch.testing.assert_close(logits, output[:, 2:].mean((2, 3)))


def test_pairs_of_exact_heads_belong_together():
    """Three points: exact E[E | z_t] by Bayes' rule leads to one of their aggregates, and heads decode it."""
    torch.manual_seed(0)
    model = made()
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]])
    aggregates = model.encode(points, torch.arange(3)).detach()

    def denoise(z, t, y=None):
        alpha, sigma = model.path.alpha(t)[:, None], model.path.sigma(t)[:, None]
        distance = (z[:, None] - alpha[..., None] * aggregates).square().sum(2)
        return (-distance / (2 * sigma.square())).softmax(1) @ aggregates

    def heads(z, t):
        nearest = torch.cdist(z, aggregates).argmin(1)
        return z, points[nearest], 1e3 * torch.nn.functional.one_hot(nearest, 3).float()

    model.denoise, model.heads = denoise, heads
    x, y = model.sample_pairs(300)
    assert torch.equal(x, points[y])
    assert (torch.bincount(y, minlength=3) > 60).all()
    assert torch.equal(model.sample(10).isfinite().all(), torch.tensor(True))


def test_it_has_no_density_of_records():
    model = made()
    assert isinstance(model, capabilities.JointSampler)
    assert not isinstance(model, capabilities.Density | capabilities.Flow | capabilities.Stretching)


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"image_weight": 0.0}, {"label_weight": 0.0}])
def test_weights_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        made(**wrong)
