"""Spatially varying label smoothing: by hand, and where it is the cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Segmented
from datamodules.spec import DataSpec
from modules.uncertainty.neighbours import proportions
from modules.uncertainty.svls import SpatiallyVaryingLabelSmoothing

SPEC = DataSpec("masks", "image", (2, 1, 3), target="mask", classes=("background", "thing"))


def test_by_hand_at_a_boundary():
    # Rows repeat beyond the border: each pixel sees its own column three times and the two columns beside it.
    side, corner = math.exp(-0.5), math.exp(-1)
    beside = (side + 2 * corner) / (8 * (side + corner))
    x = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.0, 0.0]]).view(1, 2, 1, 3)
    loss = SpatiallyVaryingLabelSmoothing(SPEC, net=nn.Identity()).loss(Segmented(x, torch.tensor([[[0, 0, 1]]])))
    thing = torch.tensor([0.0, beside, 1 - beside])
    expected = F.binary_cross_entropy_with_logits(-x[0, 0, 0], thing)
    torch.testing.assert_close(loss, expected)


def test_it_is_a_cross_entropy_and_a_divergence_from_the_soft_labels():
    # sum over pixels of -tau . ln p = KL(tau | p) + H(tau): the implicit constraint of Murugesan et al. 2023.
    segments, x = torch.randint(2, (4, 6, 6)), torch.randn(4, 2, 6, 6)
    method = SpatiallyVaryingLabelSmoothing(SPEC.but(shape=(2, 6, 6)), net=nn.Identity())
    tau = proportions(method.one_hot(segments), "gaussian", 3)
    divergence = F.kl_div(x.log_softmax(1), tau, reduction="none").sum(1).mean()
    entropy = -torch.special.xlogy(tau, tau).sum(1).mean()
    torch.testing.assert_close(method.loss(Segmented(x, segments)), divergence + entropy)


@pytest.mark.parametrize("arguments", [{"size": 4}, {"size": 1}, {"sigma": 0.0}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match=f"model.{next(iter(arguments))}"):
        SpatiallyVaryingLabelSmoothing(SPEC, net=nn.Identity(), **arguments)
