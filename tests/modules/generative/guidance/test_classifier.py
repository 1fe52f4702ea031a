"""Classifier guidance on a mixture whose classifier is known in closed form."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.guidance.classifier import Classified
from tests.modules.generative.exact import PATHS, Known, configured

Y = torch.tensor([0, 1, 1, 0])
X = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Bayes:
    """p(y | x_t) of the mixture: the share of the classes' components in the density of x_t."""

    def __init__(self, model: Known) -> None:
        self.model, self.path = model, model.path
        self.known = 2

    def log_proba_at(self, x, t):
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        one = [self.model.denoiser.log_prob(x, alpha, sigma, self.model.labels[None] == y) for y in (0, 1)]
        return torch.stack(one, 1) - self.model.denoiser.log_prob(x, alpha, sigma)[:, None]


@pytest.mark.parametrize("path", PATHS)
def test_at_scale_1_an_exact_classifier_makes_the_exact_conditional_field(path):
    model = Known(configured("path", path))
    t = torch.tensor(0.4, dtype=torch.float64) * model.path.end
    field = Classified(model, Bayes(model), Y, 1.0)
    torch.testing.assert_close(field.data(X, t), model.field(Y).data(X, t))
    assert field.calls == 2
    torch.testing.assert_close(Classified(model, Bayes(model), Y, 0.0).data(X, t), model.field().data(X, t))


def test_it_is_classifier_free_guidance_of_the_same_scale():
    model = Known(configured("path", "vp"))
    t = torch.tensor(0.3, dtype=torch.float64)
    free = configured("guidance", "classifier_free", scale=3.0).field(model, Y)
    torch.testing.assert_close(Classified(model, Bayes(model), Y, 3.0).data(X, t), free.data(X, t))
    told = Classified(model, Bayes(model), Y, 2.0, told=Y)
    torch.testing.assert_close(told.data(X, t), free.data(X, t))


def test_labels_and_checkpoints(monkeypatch):
    model = Known(configured("path", "vp"))
    monkeypatch.setattr("modules.generative.guidance.classifier.opened", lambda path: Bayes(model))
    t = torch.tensor(0.3, dtype=torch.float64)
    last = configured("guidance", "classifier", classifier="c", label=-1).field(model, None)
    torch.testing.assert_close(last.data(X, t), model.field(torch.ones(4, dtype=torch.long)).data(X, t))
    with pytest.raises(UserError, match="no class probabilities"):
        configured("guidance", "classifier").field(model, Y)
    with pytest.raises(UserError, match="this model has none"):
        configured("guidance", "classifier", classifier="c").field(model, None)
    with pytest.raises(UserError, match="knows 2 classes"):
        configured("guidance", "classifier", classifier="c", label=2).field(model, None)
    with pytest.raises(UserError, match="another path"):
        configured("guidance", "classifier", classifier="c", label=0).field(Known(configured("path", "ve")), None)
