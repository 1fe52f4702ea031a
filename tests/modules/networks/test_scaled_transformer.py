"""The scaled transformer: how its weights begin."""

from __future__ import annotations

import pytest
import torch

from modules.networks.scaled_transformer import ScaledTransformer
from modules.networks.transformer import Transformer


@pytest.mark.parametrize("width", [48, 192])
def test_weights_begin_as_wide_as_in_gpt_2_times_the_root_of_its_width_over_this_one(width):
    torch.manual_seed(0)
    net = ScaledTransformer((32,), (500,), width=width, depth=2)
    expected = 0.02 * (768 / width) ** 0.5
    for name, weight in net.named_parameters():
        if weight.dim() < 2:
            continue
        into_stream = name.endswith(("outward.weight", "narrow.weight"))
        assert float(weight.detach().std()) == pytest.approx(expected / 2 if into_stream else expected, rel=0.06), name


def test_at_the_width_of_gpt_2_it_is_the_same():
    nets = []
    for kind in (Transformer, ScaledTransformer):
        torch.manual_seed(0)
        nets.append(kind((4,), (6,), width=768, depth=1, heads=2))
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one, other)
