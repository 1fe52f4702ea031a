"""Static thresholding."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from tests.modules.generative.exact import Known, configured


def test_predictions_are_clamped_and_nothing_else_is():
    model = Known(configured("path", "edm"))
    x, t = torch.randn(200, 2, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    plain = model.field().data(x, t)
    found = configured("guidance", "thresholded", low=-0.7, high=0.6).field(model, None).data(x, t)
    inside = (plain > -0.7) & (plain < 0.6)
    assert 0 < inside.sum() < inside.numel()
    torch.testing.assert_close(found[inside], plain[inside])
    assert ((found >= -0.7) & (found <= 0.6)).all()


def test_no_range_is_refused():
    with pytest.raises(UserError, match="range"):
        configured("guidance", "thresholded", low=1.0, high=0.0)
