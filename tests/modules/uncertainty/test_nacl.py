"""The neighbour-aware penalty: in float64 written out, its gradient, and where it becomes something known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Segmented
from datamodules.spec import DataSpec
from modules.uncertainty.nacl import NeighbourAwareSegmenter

SPEC = DataSpec("masks", "image", (3, 6, 5), target="mask", classes=("background", "left", "right"))


def batch():
    return Segmented(2 * torch.randn(4, 3, 6, 5), torch.randint(3, (4, 6, 5)))


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_terms_written_out(power):
    given = batch()
    terms = NeighbourAwareSegmenter(SPEC, weight=0.3, power=power, net=nn.Identity()).loss(given)
    hot = np.eye(3)[given.segments.numpy()].transpose(0, 3, 1, 2)
    tau = ndimage.uniform_filter(hot, size=(0, 0, 3, 3), mode="nearest")
    expected = 0.3 * (np.abs(tau - given.x.double().numpy()) ** power).mean()
    assert terms["penalty"].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(given.x, given.segments))


def test_without_weight_it_is_the_cross_entropy():
    given = batch()
    loss = sum(NeighbourAwareSegmenter(SPEC, weight=0.0, net=nn.Identity()).loss(given).values())
    torch.testing.assert_close(loss, F.cross_entropy(given.x, given.segments))


@pytest.mark.parametrize(("power", "slope"), [(1.0, 1.0), (2.0, 20.0)])
def test_the_penalty_pulls_a_logit_by_its_distance_to_the_power(power, slope):
    # One class everywhere, so that tau is 1 there and 0 elsewhere; at logits 10 away the pull is p 10^(p - 1).
    tau = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(2, 3, 6, 5)
    x = (tau + 10.0).requires_grad_()
    method = NeighbourAwareSegmenter(SPEC, weight=1.0, power=power, net=nn.Identity())
    method.loss(Segmented(x, torch.zeros(2, 6, 5, dtype=torch.int64)))["penalty"].backward()
    torch.testing.assert_close(x.grad * x.numel(), torch.full_like(x, slope), rtol=1e-4, atol=0)


def test_a_heavy_penalty_bounds_the_confidence():
    # The optimum of the penalty are logits tau in [0, 1]: no probability above e / (e + 2).
    segments = torch.randint(3, (4, 6, 5))
    x = torch.zeros(4, 3, 6, 5, requires_grad=True)
    method = NeighbourAwareSegmenter(SPEC, weight=1e4, power=2.0, net=nn.Identity())
    optimizer = torch.optim.SGD([x], lr=x.numel() / 4e4)
    for _ in range(30):
        optimizer.zero_grad()
        sum(method.loss(Segmented(x, segments)).values()).backward()
        optimizer.step()
    assert x.softmax(1).amax() <= np.e / (np.e + 2) + 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "model.weight"),
        ({"power": 0.5}, "model.power"),
        ({"prior": "average"}, "mean, gaussian"),
        ({"size": 2}, "model.size"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(UserError) as error:
        NeighbourAwareSegmenter(SPEC, net=nn.Identity(), **arguments)
    assert message in f"{error.value} {error.value.mend}"
