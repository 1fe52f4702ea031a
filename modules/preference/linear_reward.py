"""Linear rewards from rankings, and choices that allow for what rankings leave open."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Rankings
from datamodules.spec import DataSpec
from modules.uncertainty.keeping import KeepingMethod


class LinearReward(KeepingMethod):
    """r(a) = <theta, phi(a)> with theta the most likely one in |theta| <= B, sum of theta = 0, of each problem.

    A ranking a_1, ..., a_K, the best first, is made of choices, each of likelihood exp(r) / sum of exp(r) over what was
    chosen from:

    - `plackett_luce`: a_k among a_k, ..., a_K, for k < K.
    - `pairs`: a_j among a_j and a_k, for all j < k, as if pairs were compared one by one (the paper's MLE_2):
      consistent too, and asymptotically less efficient for K > 2 (Theorem 4.3).

    The choice is pessimistic (Algorithm 1, with one state):

        argmax_a <theta, phi(a) - v> - width |phi(a) - v|_(Sigma + ridge / n I)^-1
        width = pessimism sqrt((D + ridge B^2) / n),   Sigma = mean of x x^T over the n rankings and their pairs

    with x = phi(a_j) - phi(a_k) and the norm |u|_A = sqrt(u^T A u); `pessimism` 0 is the greedy choice.

    Zhu, Jordan and Jiao 2023, sections 3 and 4. The theorems' numbers, the construction and the norms are from memory
    and from a public implementation of the experiments; the paper itself could not be read.

    Deviations from the paper:
        1. The width is C sqrt((D + ln(1 / delta)) / (gamma^2 n) + lambda B^2) there with a constant C that is not
           named; here ln(1 / delta) and gamma are left to `pessimism`, and lambda = ridge / n.
        2. There are no states: a problem is one bandit.

    The optimum is found in float64 by damped Newton steps of length ln(1 + R |step|) / R, R the largest distance of two
    answers, which descend from anywhere (Sun and Tran-Dinh 2019, nu = 2), and a bisection on the ball's multiplier.

    Args:
        spec: vectors of rank 2, (K, D), with preferences.
        likelihood: one of these.
        bound: B, above 0.
        pessimism: at least 0.
        ridge: above 0.
        reference: v, `zero`, or `mean`, of all answers that were compared.

    Raises:
        UserError: a value out of range.
    """

    batch_type = Rankings
    kinds = ("vector",)
    targets = ("preference",)
    papers = ("zhu2023principled",)

    weight: Tensor
    moment: Tensor
    centre: Tensor
    count: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        likelihood: str = "plackett_luce",
        bound: float = 2.0,
        pessimism: float = 1.0,
        ridge: float = 1.0,
        reference: str = "zero",
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        for name, value, values in (
            ("likelihood", likelihood, ("plackett_luce", "pairs")),
            ("reference", reference, ("zero", "mean")),
        ):
            if value not in values:
                raise UserError(f"model.{name}={value} is unknown.", f"there are: {', '.join(values)}")
        if not bound > 0 or not pessimism >= 0 or not ridge > 0:
            raise UserError(
                f"model.bound={bound} model.pessimism={pessimism} model.ridge={ridge}: above 0, at least 0, above 0."
            )
        self.likelihood, self.bound, self.pessimism, self.ridge = likelihood, bound, pessimism, ridge
        self.reference = reference
        (ranked, dimensions), sizes = self.spec.shape, self.spec.sizes
        problems = sizes.get("validation", 0) + sizes.get("test", 0)
        self.reserve(1 + ranked * dimensions)
        self.register_buffer("weight", torch.zeros(problems, dimensions, dtype=torch.float64))
        self.register_buffer("moment", torch.zeros(problems, dimensions, dimensions, dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(problems, dimensions, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(problems, dtype=torch.float64))

    def accumulate(self, batch: Rankings) -> None:
        self.keep(torch.cat([batch.problem[:, None].double(), batch.ranked.flatten(1).double()], 1))

    def solve(self) -> None:
        kept, (answers, dimensions) = self.rows_kept(), self.spec.shape
        ranked, problem = kept[:, 1:].view(-1, answers, dimensions), kept[:, 0].long()
        self.count.copy_(torch.bincount(problem, minlength=len(self.count)))
        first, second = torch.tensor(list(combinations(range(answers), 2)), device=kept.device).T
        x = ranked[:, first] - ranked[:, second]
        self.moment.copy_(averaged(torch.einsum("npd,npe->nde", x, x) / x.shape[1], problem, self.count))
        self.centre.copy_(averaged(ranked.mean(1), problem, self.count))
        # Rankings that came more than once count more than once, in one row.
        rows, times = kept.unique(dim=0, return_counts=True)
        plane = torch.linalg.qr(torch.eye(dimensions, dtype=torch.float64) - 1 / dimensions)[0][:, :-1].to(rows)
        features = rows[:, 1:].view(-1, answers, dimensions) @ plane
        sets = choice_sets(answers, self.likelihood == "pairs").to(rows.device)
        found = most_likely(features, rows[:, 0].long(), times.double(), self.count, sets, self.bound)
        self.weight.copy_(found @ plane.T)

    def reward_weights(self, problem: Tensor) -> Tensor:
        return self.weight[problem]

    def choose(self, items: Tensor, problem: Tensor) -> Tensor:
        n, identity = self.count[problem].clamp_min(1)[:, None, None], torch.eye(items.shape[2]).to(self.moment)
        away = items.double()
        if self.reference == "mean":
            away = away - self.centre[problem][:, None]
        inverse = torch.linalg.inv(self.moment[problem] + self.ridge / n * identity)
        norm = torch.einsum("bad,bde,bae->ba", away, inverse, away).clamp_min(0).sqrt()
        width = self.pessimism * ((items.shape[2] + self.ridge * self.bound**2) / n[:, :, 0]).sqrt()
        return (torch.einsum("bad,bd->ba", away, self.weight[problem]) - width * norm).argmax(1)


def choice_sets(answers: int, pairs: bool) -> Tensor:
    """The choices that a ranking of K answers is made of, bool (choices, K): what each was among, its first the chosen.

    One after the other, or of all pairs.
    """
    place = torch.arange(answers)
    if not pairs:
        return place >= place[:-1, None]
    first, second = torch.tensor(list(combinations(range(answers), 2))).T[..., None]
    return (place == first) | (place == second)


def averaged(values: Tensor, problem: Tensor, count: Tensor) -> Tensor:
    """Values of rows (N, ...) of problems (N,) -> their sum of each problem, over `count` (M,): (M, ...)."""
    total = values.new_zeros(len(count), *values.shape[1:]).index_add(0, problem, values)
    return total / count.clamp_min(1).view(-1, *[1] * (values.dim() - 1))


def most_likely(features: Tensor, problem: Tensor, times: Tensor, count: Tensor, sets: Tensor, bound: float) -> Tensor:
    """The maximum of the mean likelihood of each problem within a ball (M, D).

    Args:
        features: of different rankings (N, K, D), float64.
        problem: of each, int64 (N,).
        times: how often each came (N,).
        count: rankings of each problem (M,).
        sets: see `choice_sets`.
        bound: the ball's radius, above 0.
    """
    tiny = 1e-9
    found = newton(features, problem, times, count, sets, torch.full_like(count, tiny))
    outside = found.norm(dim=1) > bound
    if not outside.any():
        return found
    inside = outside[problem]
    number = outside.cumsum(0) - 1
    part = (features[inside], number[problem[inside]], times[inside], count[outside], sets)
    # |gradient| = multiplier * bound at the end, and no gradient is above the largest distance of answers.
    high = torch.full_like(part[3], float(reach(features)) * len(sets) / bound + tiny)
    low = torch.full_like(high, tiny)
    at = torch.zeros_like(found[outside])
    for _ in range(45):
        middle = (low * high).sqrt()
        at = newton(*part, middle, at)
        far = at.norm(dim=1) > bound
        low, high = torch.where(far, middle, low), torch.where(far, high, middle)
    found[outside] = at * (bound / at.norm(dim=1, keepdim=True)).clamp_max(1)
    return found


def reach(features: Tensor) -> Tensor:
    """Largest distance of two answers of a ranking."""
    return torch.cdist(features, features).amax().clamp_min(1e-12)


def newton(
    features: Tensor,
    problem: Tensor,
    times: Tensor,
    count: Tensor,
    sets: Tensor,
    multiplier: Tensor,
    start: Tensor | None = None,
) -> Tensor:
    """Minimum of -(mean ln likelihood) + multiplier / 2 |theta|^2 of each problem (M, D), see `most_likely`."""
    at = features.new_zeros(len(count), features.shape[2]) if start is None else start
    radius, chosen = reach(features), sets.long().argmax(1)
    taken = torch.bincount(chosen, minlength=features.shape[1]).to(features)
    ridge = torch.diag_embed(multiplier[:, None].expand_as(at))
    for _ in range(500):
        worth = torch.einsum("nkd,nd->nk", features, at[problem])
        p = worth[:, None].masked_fill(~sets, -torch.inf).softmax(2)  # (N, choices, K)
        slope = (p.sum(1) - taken) * times[:, None]
        curve = (torch.diag_embed(p.sum(1)) - torch.einsum("nck,ncl->nkl", p, p)) * times[:, None, None]
        gradient = averaged(torch.einsum("nkd,nk->nd", features, slope), problem, count) + multiplier[:, None] * at
        hessian = averaged(torch.einsum("nkd,nkl,nle->nde", features, curve, features), problem, count) + ridge
        step = torch.linalg.solve(hessian, gradient)
        length = radius * step.norm(dim=1, keepdim=True)
        at = at - step * torch.where(length > 0, length.log1p() / length, 1.0)
        if float(length.max()) < 1e-8:
            break
    return at
