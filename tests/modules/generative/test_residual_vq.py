"""Tokens beside a search by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.residual_vq import ResidualVQ

SPEC = DataSpec("pictures", "image", (1, 4, 4), bounds=(-1.0, 1.0))


def made(**changes):
    torch.manual_seed(0)
    method = ResidualVQ(SPEC, **{"depth": 3, "codes": 8, "features": 4, "width": 8} | changes)
    method.train()
    method.loss(Unlabelled(torch.randn(64, 1, 4, 4)))  # the vectors begin as means of what they see
    return method.eval()


def test_each_token_is_the_nearest_to_what_the_ones_before_left_over():
    method = made()
    x = torch.randn(5, 1, 4, 4)
    tokens, books, said = method.tokens(x), method.books(), method.features_of(x).detach()
    for b in range(5):
        for i in range(4):
            left = said[b, i]
            for j in range(3):
                nearest = int((left - books[j]).square().sum(1).argmin())
                assert int(tokens[b, i, j]) == nearest
                left = left - books[j][nearest]
    torch.testing.assert_close(method.vectors(tokens)[2, 1, 0], books[0][tokens[2, 1, 0]])


def test_the_loss_is_the_error_of_its_reconstruction_and_the_encoder_learns_through_the_tokens():
    method = made(commitment=0.0)
    x = torch.randn(6, 1, 4, 4)
    terms = method.loss(Unlabelled(x))
    torch.testing.assert_close(terms["reconstruction"], (method.reconstruct(x) - x).square().mean())
    before = method.books().clone()
    method.loss(Unlabelled(3 * x))
    assert torch.equal(method.books(), before)  # nothing is learned in evaluation
    method.train().loss(Unlabelled(x))["reconstruction"].backward()
    assert method.encoder[0].weight.grad.abs().max() > 0
    assert not torch.equal(method.books(), before)


def test_deeper_tokens_leave_less_over():
    method = made(depth=4, codes=32)
    said = method.features_of(torch.randn(64, 1, 4, 4)).detach()
    vectors = method.vectors(method.quantizer(said)[1])
    left = [(said - vectors[:, :, :j].sum(2)).square().mean() for j in range(5)]
    assert all(after < before for before, after in pairwise(left))


def test_odd_pictures_and_single_codes_are_refused():
    with pytest.raises(UserError, match="5 x 4"):
        ResidualVQ(SPEC.but(shape=(1, 5, 4)))
    with pytest.raises(UserError, match=r"model\.codes=1"):
        made(codes=1)
