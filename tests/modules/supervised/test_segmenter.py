"""The plain segmenter against torch's own losses, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Segmented
from datamodules.spec import DataSpec
from modules.capabilities import Segmenter
from modules.supervised.segmenter import SoftmaxSegmenter

SPEC = DataSpec("masks", "image", (3, 4, 5), target="mask", classes=("background", "left", "right"))


def batch(n=6):
    return Segmented(2 * torch.randn(n, 3, 4, 5), torch.randint(3, (n, 4, 5)))


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_loss_is_torchs_cross_entropy(share):
    given = batch()
    loss = SoftmaxSegmenter(SPEC, label_smoothing=share, net=nn.Identity()).loss(given)
    torch.testing.assert_close(loss, F.cross_entropy(given.x, given.segments, label_smoothing=share))


def test_focal_loss_by_hand():
    x = torch.tensor([0.2, 0.3, 0.5]).log().view(1, 3, 1, 1)
    loss = SoftmaxSegmenter(SPEC, focus=2.0, net=nn.Identity()).loss(Segmented(x, torch.tensor([[[1]]])))
    assert loss.item() == pytest.approx(-(0.7**2) * math.log(0.3), rel=1e-6)


def test_focal_loss_has_a_gradient_where_nothing_is_left_to_learn():
    x = torch.tensor([100.0, -100.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    SoftmaxSegmenter(SPEC, focus=0.5, net=nn.Identity()).loss(Segmented(x, torch.tensor([[[0]]]))).backward()
    assert torch.isfinite(x.grad).all()


def test_it_is_a_segmenter_with_a_law_at_every_pixel():
    method = SoftmaxSegmenter(SPEC, net=nn.Identity())
    assert isinstance(method, Segmenter)
    log_p = method.predict_log_proba_map(batch().x)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(6, 4, 5))


@pytest.mark.parametrize("arguments", [{"label_smoothing": 1.0}, {"focus": -1.0}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        SoftmaxSegmenter(SPEC, net=nn.Identity(), **arguments)


def test_needs_masks():
    with pytest.raises(UserError, match="shapes"):
        SoftmaxSegmenter(SPEC.but(target="class"), net=nn.Identity())
