"""The plain classifier against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.supervised.classifier import SoftmaxClassifier

SPEC = DataSpec(name="two", kind="vector", shape=(2,), target="class", classes=("no", "yes"))


def test_loss_is_the_smoothed_cross_entropy():
    method = SoftmaxClassifier(SPEC, label_smoothing=0.2, net=nn.Identity())
    batch = Labelled(torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(9.0)]]), torch.tensor([0, 1]))
    # Probabilities are (3/4, 1/4) and (1/10, 9/10); the smoothed target puts 0.9 on the label and 0.1 on the other.
    first = -(0.9 * math.log(0.75) + 0.1 * math.log(0.25))
    second = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert method.loss(batch).item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_probabilities_survive_extreme_logits():
    method = SoftmaxClassifier(SPEC, net=nn.Identity())
    log_proba = method.predict_log_proba(torch.tensor([[1e4, -1e4], [0.0, 0.0]]))
    assert torch.isfinite(log_proba).all()
    torch.testing.assert_close(log_proba[1].exp(), torch.tensor([0.5, 0.5]))


def test_needs_classes():
    with pytest.raises(UserError, match="supervised/regressor"):
        SoftmaxClassifier(SPEC.but(target="real", classes=()), net=nn.Identity())
    with pytest.raises(UserError, match="label_smoothing"):
        SoftmaxClassifier(SPEC, label_smoothing=1.0, net=nn.Identity())
