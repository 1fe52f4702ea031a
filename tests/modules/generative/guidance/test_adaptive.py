"""Adaptive guidance."""

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


def test_records_that_never_agree_are_guided_as_ever(model):
    field = configured("guidance", "adaptive", scale=3.0, agreement=1.0).field(model, Y)
    expected = configured("guidance", "classifier_free", scale=3.0).field(model, Y)
    for time in (0.8, 0.4, 0.1):
        t = torch.tensor(time, dtype=torch.float64)
        torch.testing.assert_close(field.data(X, t), expected.data(X, t))
    assert field.calls == 6


@pytest.mark.parametrize("of", ["noise", "data"])
def test_a_record_that_agrees_follows_its_class_from_the_next_step_on(model, of):
    def cosines(t):
        one, other = (getattr(model.field(y), of)(X, t) for y in (Y, None))
        return torch.cosine_similarity(one, other)

    agreement = float(cosines(T).sort().values[1:3].mean())
    agrees = cosines(T) >= agreement
    assert 0 < agrees.sum() < 4
    field = configured("guidance", "adaptive", scale=3.0, agreement=agreement, of=of).field(model, Y)
    field.disagreed[:] = True  # in a step before
    field.data(X, T)
    assert field.calls == 2
    found = field.data(X, T)
    assert field.calls == 2 + 1 + float((~agrees).double().mean())
    guided = configured("guidance", "classifier_free", scale=3.0).field(model, Y).data(X, T)
    torch.testing.assert_close(found, torch.where(agrees[:, None], model.field(Y).data(X, T), guided))


def test_an_agreement_before_any_disagreement_stops_nothing(model):
    """At pure noise both predictions are the input; 1 is then above every agreement."""
    field = configured("guidance", "adaptive", scale=3.0, agreement=0.5).field(model, Y)
    expected = configured("guidance", "classifier_free", scale=3.0).field(model, Y)
    end = torch.tensor(1.0, dtype=torch.float64)
    one, other = (model.field(y).noise(X, end) for y in (Y, None))
    assert torch.cosine_similarity(one, other).min() > 0.999
    for _ in range(2):
        torch.testing.assert_close(field.data(X, end), expected.data(X, end))


def test_a_cosine_out_of_range_is_refused():
    with pytest.raises(UserError, match="agreement"):
        configured("guidance", "adaptive", agreement=1.5)
    with pytest.raises(UserError, match="of=score"):
        configured("guidance", "adaptive", of="score")
