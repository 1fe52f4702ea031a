"""Reasoning about a class and its concepts: exact posteriors, and their bounds from intervals of what models say.

A record has one class y of C and L concepts o in {0, 1}^L. Models say p_y of the class and q_l of concept l, each for
itself; knowledge is a table T (C, L) of which class has which concept, as rules "class y implies o_l = T_yl" that
weigh w each. The law of both together is the Markov logic network

    P(y, o) prop p_y prod_l q_l^o_l (1 - q_l)^(1 - o_l) exp(w sum_r 1[(y, o) satisfies rule r])

Its circuit sums over o within a class in linear time, for the concepts are independent there, and rules of other
classes hold in any case:

    P(y) prop p_y prod_l f_yl,      f_yl = 1 + (e^w - 1) q_yl,      q_yl = q_l where T_yl is true, else 1 - q_l

With w = 0 knowledge says nothing and P(y) = p_y; with w = inf only assignments count that break no rule.
"""

from __future__ import annotations

import torch
from torch import Tensor


def posterior(p: Tensor, q: Tensor, table: Tensor, weight: float) -> Tensor:
    """P(y) of all classes.

    Args:
        p: probabilities of the classes (..., C), which add up to 1.
        q: probabilities of the concepts (..., L).
        table: bool (C, L), which class has which concept.
        weight: w of each rule, at least 0.

    Returns:
        (..., C), which add up to 1.
    """
    return (p.log() + evidence(q, table, weight).sum(-1)).softmax(-1)


def evidence(q: Tensor, table: Tensor, weight: float) -> Tensor:
    """ln f of each class and concept: q (..., L), table (C, L) -> (..., C, L)."""
    own = torch.where(table, q[..., None, :], 1 - q[..., None, :])
    # 1 + (e^w - 1) q = (1 - q) + e^w q
    return torch.logaddexp((1 - own).log(), own.log() + weight)


def posterior_bounds(
    p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor], table: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """The range of P(y), where p and q lie somewhere in intervals: lower and upper bounds (..., C).

    With c_k = prod_l f_kl / f_yl, in which only concepts remain that tell k from y, each falling in q_yl,

        P(y) = p_y / (p_y + sum_{k != y} p_k c_k)

    is smallest with all q_yl and p_y at their lower ends, and what is left of 1 given to the other classes by c_k, the
    largest first, as far as their intervals go; largest the other way round. These corners belong to one point of the
    intervals, so that no tighter bounds follow from them, but for the sum of p where it can't be 1.

    Args:
        p: lower and upper ends (..., C) of the probabilities of the classes.
        q: lower and upper ends (..., L) of those of the concepts.
        table, weight: see `posterior`.
    """
    low, high = p
    return (
        _bound(low, low, high, own(q[0], q[1], table), table, weight, worst=True),
        _bound(high, low, high, own(q[1], q[0], table), table, weight, worst=False),
    )


def own(if_true: Tensor, if_false: Tensor, table: Tensor) -> Tensor:
    """q_yl (..., C, L), from values (..., L) of q for the concepts that a class has, and for those that it lacks."""
    return torch.where(table, if_true[..., None, :], 1 - if_false[..., None, :])


def _bound(
    mine: Tensor, low: Tensor, high: Tensor, agreeing: Tensor, table: Tensor, weight: float, worst: bool
) -> Tensor:
    """P(y) with p_y = `mine` (..., C), q_yl = `agreeing` (..., C, L), and the other classes at their worst or best."""
    gain = torch.logaddexp((1 - agreeing).log(), agreeing.log() + weight)
    loss = torch.logaddexp(agreeing.log(), (1 - agreeing).log() + weight)
    differ = (table[:, None] != table).to(mine.dtype)  # of (y, k)
    log_c = torch.einsum("...yl,ykl->...yk", loss - gain, differ)
    classes = mine.shape[-1]
    rival = ~torch.eye(classes, dtype=torch.bool, device=mine.device)
    floor, ceiling = (torch.where(rival, end[..., None, :], 0.0) for end in (low, high))
    order = log_c.argsort(-1, descending=worst)
    room = (ceiling - floor).gather(-1, order)
    rest = (1 - mine - floor.sum(-1)).clamp(min=0)[..., None]
    filled = (rest - (room.cumsum(-1) - room)).clamp(min=0).minimum(room)
    taken = floor + torch.zeros_like(floor).scatter(-1, order, filled)
    against = (taken.log() + log_c).logsumexp(-1)
    return torch.where(mine > 0, torch.sigmoid(mine.log() - against), 0.0)
