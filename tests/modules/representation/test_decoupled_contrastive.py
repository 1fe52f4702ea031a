"""DCL and DCLW against the paper's equations, term by term, and against InfoNCE."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import TwoViews
from datamodules.spec import DataSpec
from modules.representation.decoupled_contrastive import DecoupledContrastive
from modules.representation.simclr import SimCLR

SPEC = DataSpec(name="plane", kind="vector", shape=(2,))
TAU = 0.3


def bare(kind=DecoupledContrastive, **arguments):
    """The loss on the records themselves: no network, no projection."""
    return kind(SPEC, net=nn.Identity(), projection=[2], **{"temperature": TAU, **arguments})


def views(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def terms(a, b, sigma=None, keep_positive=False) -> list[float]:
    """The paper's loss of each anchor by plain loops over floats: z^(1) = a, z^(2) = b."""
    unit = [[[v / math.hypot(*row) for v in row] for row in view.tolist()] for view in (a, b)]
    n, losses = len(a), []

    def dot(u, v):
        return sum(p * q for p, q in zip(u, v, strict=True))

    for k in range(2):
        for i in range(n):
            near = dot(unit[k][i], unit[1 - k][i])
            far = sum(math.exp(dot(unit[k][i], unit[m][j]) / TAU) for m in range(2) for j in range(n) if j != i)
            far += math.exp(near / TAU) if keep_positive else 0.0
            weight = 1.0
            if sigma is not None:
                mean = sum(math.exp(dot(unit[0][j], unit[1][j]) / sigma) for j in range(n)) / n
                weight = 2 - math.exp(near / sigma) / mean
            losses.append(-weight * near / TAU + math.log(far))
    return losses


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("sigma", [None, 0.5, 0.1])
def test_the_equations_by_plain_loops(n, sigma):
    a, b = views(n)
    expected = sum(terms(a, b, sigma)) / (2 * n)
    assert bare(sigma=sigma).loss(TwoViews(a, b)).item() == pytest.approx(expected, rel=1e-12)


def test_two_records_by_hand():
    """Records along the axes; the second view of the first one is turned by 60 degrees away from the other record.

    Positives: cos 60 = 1/2 and 1. Negatives of the first record: (0, 0) and (cos 150, cos 150) = -sqrt(3)/2 for its two
    views; of the second: (0, -sqrt(3)/2) for both.
    """
    turned = torch.tensor([0.5, -math.sqrt(3) / 2], dtype=torch.float64)
    a = torch.eye(2, dtype=torch.float64)
    b = torch.stack([turned, a[1]])
    far = math.exp(-math.sqrt(3) / 2 / TAU)
    negatives = (math.log(2) + math.log(2 * far) + 2 * math.log(1 + far)) / 4
    plain = -(0.5 + 1) / 2 / TAU + negatives
    assert bare().agreement(a, b).item() == pytest.approx(plain, rel=1e-12)
    near, nearer = math.exp(0.5 / 0.5), math.exp(1 / 0.5)
    w_near, w_nearer = (2 - 2 * e / (near + nearer) for e in (near, nearer))
    weighted = -(w_near * 0.5 + w_nearer) / 2 / TAU + negatives
    assert bare(sigma=0.5).agreement(a, b).item() == pytest.approx(weighted, rel=1e-12)


def test_gradients_of_infonce_are_those_of_dcl_times_the_coupling():
    """Proposition 1, anchor by anchor, with q from its definition."""
    a, b = (view.requires_grad_() for view in views(6))

    def gradients(kind, anchor):
        positive, log_negatives = bare(kind).contrast(a, b)
        loss = -positive + (torch.logaddexp(positive, log_negatives) if kind is SimCLR else log_negatives)
        return torch.cat(torch.autograd.grad(loss[anchor], [a, b]))

    coupled, plain = terms(a, b, keep_positive=True), terms(a, b)
    for anchor in range(12):
        q = 1 - math.exp(-coupled[anchor])  # the loss is -log of the positive's share
        assert q == pytest.approx(math.exp(plain[anchor] - coupled[anchor]), rel=1e-9)
        torch.testing.assert_close(gradients(SimCLR, anchor), q * gradients(DecoupledContrastive, anchor))


def test_more_negatives_bring_it_nearer_to_infonce():
    """Copies of the negatives: U grows in proportion, and the gap is log(1 + exp(s_ip / tau) / U) by its definition."""
    a, b = views(3)
    for copies in (1, 10, 1000):
        others = (view[1:].repeat(copies, 1) for view in (a, b))
        wide = [torch.cat([view[:1], more]) for view, more in zip((a, b), others, strict=True)]
        positive, log_negatives = bare().contrast(*wide)
        coupled, plain = terms(a, b, keep_positive=True)[0], terms(a, b)[0]
        over = (math.exp(coupled - plain) - 1) / copies
        assert float(torch.logaddexp(positive, log_negatives)[0] - log_negatives[0]) == pytest.approx(math.log1p(over))


def test_wide_weights_are_none():
    a, b = views(6)
    torch.testing.assert_close(bare(sigma=1e9).agreement(a, b), bare().agreement(a, b))


def test_extreme_temperatures_stay_finite():
    a, b = (view.float() for view in views(6))
    for temperature in (1e-4, 1e4):
        assert bare(temperature=temperature, sigma=0.5).agreement(a, b).isfinite()


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"model\.sigma=-1"):
        bare(sigma=-1.0)
