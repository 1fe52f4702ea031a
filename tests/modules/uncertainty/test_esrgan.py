"""ESRGAN: its relativistic loss written out, its terms with networks that are known, and what makes its spread."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Magnified
from datamodules.spec import DataSpec
from modules.capabilities import SuperResolver
from modules.uncertainty.esrgan import UncertainESRGAN, relativistic

SPEC = DataSpec("pictures", "image", (1, 4, 4), bounds=(-1.0, 1.0))
JUDGE = {"_target_": "modules.networks.cnn.CNN", "channels": [8]}
NET = {"_target_": "modules.networks.rrdb.RRDBNet", "channels": 8, "growth": 4, "blocks": 1, "dense": 1, "layers": 2}


def resolver(dropout=0.0, **arguments):
    return UncertainESRGAN(SPEC, discriminator=JUDGE, net={**NET, "dropout": dropout}, **arguments)


def batch(n=6):
    high = torch.rand(n, 1, 8, 8) * 2 - 1
    return Magnified(F.avg_pool2d(high, 2), high)


def test_scores_are_relative_to_the_mean_of_the_other_side():
    real, fake = torch.randn(2, 5, 1, dtype=torch.float64)
    higher, lower = (real - fake.mean()).sigmoid(), (fake - real.mean()).sigmoid()
    expected = -higher.log().mean() - (1 - lower).log().mean()
    torch.testing.assert_close(relativistic(real, fake), expected)
    torch.testing.assert_close(relativistic(real + 100, fake + 100), expected)


def test_terms_of_a_generator_that_interpolates():
    given, method = batch(), resolver(content=2.0, perceptual=0.5, adversarial=0.1)
    fake = F.interpolate(given.x, scale_factor=2, mode="bilinear")  # its last layer is zero at first
    judge = method.discriminators[0]
    terms = method.loss(given)
    torch.testing.assert_close(terms["content"], 2 * (given.high - fake).abs().mean())
    apart = (judge.body(given.high) - judge.body(fake)).abs().mean()
    torch.testing.assert_close(terms["perceptual"], 0.5 * apart)
    torch.testing.assert_close(terms["adversarial"], 0.1 * relativistic(judge(fake), judge(given.high)))
    torch.testing.assert_close(terms["discriminator"], relativistic(judge(given.high), judge(fake)))


def test_members_are_games_of_their_own():
    given, method = batch(), resolver(members=3)
    each = [
        method.improved(g, d, given)["adversarial"]
        for g, d in zip(method.generators, method.discriminators, strict=True)
    ]
    torch.testing.assert_close(method.loss(given)["adversarial"], torch.stack(each).sum())
    content = method.loss(given)["content"]
    assert torch.autograd.grad(content, [method.generators[0].last.weight], retain_graph=True)[0].any()
    assert not torch.autograd.grad(content, list(method.discriminators.parameters())[:1], allow_unused=True)[0]


def awake(method):
    """The generators' last layers begin at zero; any other weights do here."""
    for generator in method.generators:
        nn.init.normal_(generator.last.weight, std=0.1)
    return method.eval()


def test_dropout_and_members_spread_and_nothing_else_does():
    x = batch().x
    assert isinstance(resolver(), SuperResolver)
    assert awake(resolver(passes=4)).super_resolve(x).std(0).max() < 1e-6
    assert awake(resolver(dropout=0.3, passes=4)).super_resolve(x).std(0).max() > 1e-3
    members = awake(resolver(members=3)).super_resolve(x)
    assert members.shape == (3, 6, 1, 8, 8)
    assert members.std(0).max() > 1e-3


@pytest.mark.parametrize("arguments", [{"members": 0}, {"passes": 0}, {"content": -1.0}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match="at least 1"):
        resolver(**arguments)
