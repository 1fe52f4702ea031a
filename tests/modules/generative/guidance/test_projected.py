"""Adaptive projected guidance."""

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


def test_without_its_changes_it_is_classifier_free_guidance(model):
    plain = configured("guidance", "projected", scale=3.0, parallel=1.0, momentum=0.0).field(model, Y)
    expected = configured("guidance", "classifier_free", scale=3.0).field(model, Y)
    torch.testing.assert_close(plain.data(X, T), expected.data(X, T))


def test_the_update_is_orthogonal_to_the_prediction(model):
    conditional = model.field(Y).data(X, T)
    update = configured("guidance", "projected", momentum=0.0).field(model, Y).data(X, T) - conditional
    assert update.norm(dim=1).min() > 1e-3
    torch.testing.assert_close((update * conditional).sum(1), torch.zeros(4).double(), atol=1e-12, rtol=0)


def test_one_step_by_hand():
    """D_c = (2, 0), D_u = (1, -1): d = (1, 1), of length at most 1; half of the parallel part stays; scale 3."""
    field = configured("guidance", "projected", scale=3.0, parallel=0.5, radius=1.0).field(
        Known(configured("path", "vp")), torch.zeros(1, dtype=torch.long)
    )
    conditional, unconditional = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, -1.0]])
    root = 0.5**0.5
    first = field.combine(conditional, unconditional, conditional, torch.ones(1))
    torch.testing.assert_close(first, torch.tensor([[2 + 2 * 0.5 * root, 2 * root]]))
    # The second step adds -0.5 times the update before, which was not yet shortened: d = (1, 1) - (0.5, 0.5).
    second = field.combine(conditional, unconditional, conditional, torch.ones(1))
    torch.testing.assert_close(second, torch.tensor([[2 + 2 * 0.5 * 0.5, 2 * 0.5]]))


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match="radius"):
        configured("guidance", "projected", radius=0.0)
    with pytest.raises(UserError, match="momentum"):
        configured("guidance", "projected", momentum=0.5)
