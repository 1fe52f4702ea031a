"""Rewards by hand."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.rewards import Bright, Brightness, Near, Stairs, Token

X = torch.tensor([[1.0, -3.0], [0.5, 0.25]])


def test_values_by_hand():
    torch.testing.assert_close(Near([1.0, 0.0], 2.0)(X), torch.tensor([-9.0, -0.3125]))
    torch.testing.assert_close(Brightness()(X), torch.tensor([-1.0, 0.375]))
    torch.testing.assert_close(Bright(0.25)(X), torch.tensor([0.5, 0.5]))
    stairs = Stairs({"_target_": "modules.generative.rewards.Near", "centre": 0.0, "scale": 1.0}, 0.5)
    torch.testing.assert_close(stairs(X), torch.tensor([-5.0, -0.5]))  # of -5 and -0.15625
    assert Token(2)(torch.tensor([[2, 0, 2, 1]])).tolist() == [0.5]
    with pytest.raises(UserError, match="step"):
        Stairs({"_target_": "modules.generative.rewards.Brightness"}, 0.0)
