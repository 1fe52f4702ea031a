"""Where optimization of a score leads from a reference, exactly, where all answers can be listed: the best policy under
a price for divergence, and the best of n draws. Laws and scores are (P, A): prompts, and the answers to each; float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compendium.errors import UserError


def tilted(log_reference: Tensor, scores: Tensor, beta: float) -> Tensor:
    """ln of pi* = pi_ref exp(s / beta) / Z (P, A): the policy with the largest E s - beta KL(pi | pi_ref).

    Args:
        log_reference: ln pi_ref (P, A); -inf for what it never says.
        scores: s (P, A), finite.
        beta: above 0, in units of the scores.

    Raises:
        UserError: a beta that is not above 0.
    """
    if not beta > 0:
        raise UserError(f"beta={beta}: it is above 0.")
    return (log_reference.double() + scores.double() / beta).log_softmax(1)


def best_of(log_reference: Tensor, scores: Tensor, n: float) -> Tensor:
    """ln of the law (P, A) of the draw with the highest score, of n independent ones from pi_ref.

        P(a) = pi_ref(a) / p(a) (F(a)^n - (F(a) - p(a))^n)

    with F(a) the probability under pi_ref of a score up to that of a, and p(a) that of a score equal to it: between
    draws of the same score the reference decides. A real n is that formula's. For n = 1 it is the reference.

    Args:
        log_reference: ln pi_ref (P, A); -inf for what it never says.
        scores: (P, A), finite.
        n: number of draws, at least 1.

    Raises:
        UserError: an n below 1.
    """
    if not n >= 1:
        raise UserError(f"n={n}: at least one answer is drawn.")
    log_reference = log_reference.double().log_softmax(1)
    reference = log_reference.exp()
    ordered, order = scores.double().sort(1)
    upto = reference.gather(1, order).cumsum(1)
    upto = upto / upto[:, -1:]
    # Of equal scores: what lies up to the last of them, and below the first.
    last = torch.searchsorted(ordered, ordered, right=True)
    first = torch.searchsorted(ordered, ordered)
    padded = torch.cat([torch.zeros_like(upto[:, :1]), upto], 1)
    highest = padded.gather(1, last).clamp(min=torch.finfo(torch.float64).tiny)
    equal = ((highest - padded.gather(1, first)) / highest).clamp(0, 1)
    gain = gain_of_best(highest, equal, n)
    return (log_reference + torch.zeros_like(gain).scatter(1, order, gain)).log_softmax(1)


def gain_of_best(upto: Tensor, share: Tensor, n: float) -> Tensor:
    """ln of (F^n - (F - p)^n) / p: by how much more often than the reference the best of n draws is a certain one.

    Args:
        upto: F, the probability of a score up to its own, in (0, 1], float64.
        share: p / F, with p the probability of a score equal to its own, in [0, 1], of the same shape.
        n: number of draws.
    """
    # Without the cancellation of a small p; n F^(n - 1) where p is lost beside F.
    gain = torch.log(-torch.expm1(n * torch.log1p(-share)) / share)
    return (n - 1) * upto.log() + torch.where(share > 0, gain, math.log(n))


def divergence(log_law: Tensor, log_reference: Tensor) -> Tensor:
    """KL(law | reference) = sum_a law (ln law - ln reference), in nats, of each prompt (P,)."""
    log_law, log_reference = log_law.double().log_softmax(1), log_reference.double().log_softmax(1)
    law = log_law.exp()
    return torch.where(law > 0, law * (log_law - log_reference), 0.0).sum(1)
