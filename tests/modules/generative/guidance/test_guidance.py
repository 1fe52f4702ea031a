"""Guidance on fields that are known exactly."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from tests.modules.generative.exact import Known, configured

Y = torch.tensor([0, 1, 1, 0])
X = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
T = torch.tensor(0.4, dtype=torch.float64)


@pytest.fixture
def model():
    return Known(configured("path", "vp"))


def test_scale_1_is_the_conditional_model_and_0_the_other(model):
    conditional, any_class = model.field(Y).data(X, T), model.field().data(X, T)
    for scale, expected in ((1.0, conditional), (0.0, any_class), (3.0, 3 * conditional - 2 * any_class)):
        field = configured("guidance", "classifier_free", scale=scale).field(model, Y)
        torch.testing.assert_close(field.data(X, T), expected)
        assert field.calls == 2


def test_its_score_is_that_of_bayes_rule(model):
    """score(x | y) + (scale - 1) grad log p(y | x), with the classifier by autograd on the known densities."""
    x = X.clone().requires_grad_()
    alpha, sigma = (part(T).expand(4) for part in (model.path.alpha, model.path.sigma))
    among = model.labels == Y[:, None]
    log_class = model.denoiser.log_prob(x, alpha, sigma, among) - model.denoiser.log_prob(x, alpha, sigma)
    (slope,) = torch.autograd.grad(log_class.sum(), x)
    field = configured("guidance", "classifier_free", scale=2.5).field(model, Y)
    torch.testing.assert_close(field.score(X, T), model.field(Y).score(X, T) + 1.5 * slope)


def test_outside_its_interval_it_is_the_conditional_model_at_half_the_cost(model):
    ratio = float(model.path.noise_ratio(T))
    outside = configured("guidance", "classifier_free", scale=3.0, low=ratio + 0.1).field(model, Y)
    torch.testing.assert_close(outside.data(X, T), model.field(Y).data(X, T))
    assert outside.calls == 1
    inside = configured("guidance", "classifier_free", scale=3.0, low=ratio - 0.1, high=ratio + 0.1).field(model, Y)
    assert not torch.allclose(inside.data(X, T), model.field(Y).data(X, T))


def test_a_model_without_classes_is_refused(model):
    with pytest.raises(UserError, match="this model has none"):
        configured("guidance", "classifier_free").field(model, None)
    with pytest.raises(UserError, match="an interval"):
        configured("guidance", "classifier_free", low=2.0, high=1.0)
