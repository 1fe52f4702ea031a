"""The plain autoencoder with known networks."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.representation.autoencoder import DeepAutoencoder

SPEC = DataSpec("pictures", "image", (1, 2, 2))
LINEAR = {"_target_": "modules.networks.linear.Linear"}


def test_linear_networks_that_keep_two_pixels():
    method = DeepAutoencoder(SPEC, code=2, net=LINEAR)
    keep = torch.eye(4)[:2]
    with torch.no_grad():
        method.encoder.last.weight.copy_(keep)
        method.decoder.last.weight.copy_(keep.T)
        method.encoder.last.bias.zero_()
        method.decoder.last.bias.zero_()
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[0.5, 0.0], [1.0, 0.0]]]])
    assert method.reconstruct(x).tolist() == [[[[1, 2], [0, 0]]], [[[0.5, 0], [0, 0]]]]
    assert method.embed(x).tolist() == [[1, 2], [0.5, 0]]
    assert method.loss(Unlabelled(x)).item() == pytest.approx(0.5 * (25 + 1) / 2)


def test_a_code_has_numbers():
    with pytest.raises(UserError, match=r"model\.code=0"):
        DeepAutoencoder(SPEC, code=0, net=LINEAR)
