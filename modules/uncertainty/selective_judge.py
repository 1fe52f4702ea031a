"""Judges that answer where people will agree, pass the rest on to a larger judge, and abstain at last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.keeping import KeepingMethod

CONFIDENCES = ("annotators", "single")
RULES = ("tested", "point", "heuristic", "none")
GRID = 500
"""Thresholds between 1 / 2 and 1 that are tried (the authors' code: 5000 between 0 and 1)."""


class SelectiveJudge(KeepingMethod):
    """A cascade of judges: each answers a pair if its confidence reaches its threshold, or passes the pair on.

    A judge's confidence is the larger of the two mean probabilities over its simulated annotators, and that answer is
    its own: c = max_y (1 / N) sum_j p_j(y | x) (`annotators`: Simulated Annotators), or those of the first annotator
    (`single`: one judge's predictive probability).

    The threshold of a judge, for pairs that have come to it,

    - `tested`: fixed-sequence testing. From the largest threshold down, among the n pairs with c >= lambda of which k
      answers are not what people say, P(at more than alpha errors) is rejected where P(Bin(n, alpha) <= k) <= delta,
      and the last lambda before the first failure is taken; none is taken where the first fails. Then at most a share
      alpha of the judge's answers is wrong, with a probability of 1 - delta.
    - `point`: the smallest lambda whose share of errors is at most alpha, without a test.
    - `heuristic`: 1 - alpha: what a calibrated judge would take.
    - `none`: every pair is answered.

    Jung et al. 2024, "Trust or Escalate": selective evaluation, Simulated Annotators, Cascaded Selective Evaluation;
    the order of calibration is that of the authors' code (each judge on the pairs that those before it left).

    Deviations:
        1. As in the authors' code each judge is tested at delta, so that each keeps its promise with 1 - delta; that
           all do is only proven at 1 - judges delta, or with `shared`, where each is tested at delta / judges.
        2. A judge whose first test fails answers nothing; the authors' code takes the largest threshold.
        3. P(Bin(n, alpha) <= k) <= delta in the place of an upper bound of the error that is below alpha, which is the
           same.
        4. A cascade's later thresholds are found on the same records as the earlier ones, as in the authors' code.

    Args:
        spec: records of `datamodules.sources.judged_pairs`: probabilities (judges, annotators), flattened.
        judges: which judges, in their order; of how many is `of`.
        of: judges that a record has.
        costs: of asking each of `judges` once; about the prices of a model of 7 billion weights, GPT-3.5 and GPT-4 in
            2024, which the authors cascade.
        confidence: `annotators` or `single`.
        rule: one of `RULES`.
        alpha: share of answers that may be wrong, in (0, 1).
        delta: probability with which it may be exceeded, in (0, 1); 0.1, as there.
        shared: share delta out among the judges.
        least: pairs that the first test takes, or so many more that no error would pass it; 30, as in the authors'
            code. One error among few ends the sequence: 100 answers more from 500 pairs at alpha = 0.1.
        parts: see `Method`.

    Raises:
        UserError: an unknown confidence or rule, a number out of range, records of another kind.
    """

    chosen: Tensor

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("class",)
    papers = ("jung2024trust",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        judges: Sequence[int] = (0, 1, 2),
        of: int = 3,
        costs: Sequence[float] = (1.0, 2.0, 40.0),
        confidence: str = "annotators",
        rule: str = "tested",
        alpha: float = 0.1,
        delta: float = 0.1,
        shared: bool = False,
        least: int = 30,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if self.spec.shape[0] % of or len(self.spec.classes) != 2 or self.spec.bounds != (0.0, 1.0):
            raise UserError(f"'{self.spec.name}' has no probabilities of {of} judges.", "data=judged_pairs")
        if not judges or not set(judges) <= set(range(of)):
            raise UserError(f"model.judges={list(judges)}: some of 0 to {of - 1}.")
        if len(costs) != len(judges):
            raise UserError(f"model.costs={list(costs)}: one for each of {len(judges)} judges.")
        for name, value, known in (("confidence", confidence, CONFIDENCES), ("rule", rule, RULES)):
            if value not in known:
                raise UserError(f"model.{name}={value} is unknown.", f"there are: {', '.join(known)}")
        for name, share in (("alpha", alpha), ("delta", delta)):
            if not 0 < share < 1:
                raise UserError(f"model.{name}={share}: it lies in (0, 1).")
        if least < 1:
            raise UserError(f"model.least={least}: at least one.")
        self.judges, self.of, self.by, self.rule = list(judges), of, confidence, rule
        self.alpha, self.delta, self.least = alpha, delta, least
        self.risk = delta / len(judges) if shared else delta
        self.costs = [float(cost) for cost in costs]
        self.reserve(self.spec.shape[0] + 1)
        self.register_buffer("chosen", torch.full((len(judges),), torch.inf, dtype=torch.float64))

    def accumulate(self, batch: Labelled) -> None:
        self.keep(torch.cat([batch.x, batch.y[:, None].to(batch.x)], 1))

    def solve(self) -> None:
        rows = self.rows_kept()
        self.chosen.copy_(self.thresholds(rows[:, :-1], rows[:, -1].long()))

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, D) -> log probabilities by the last judge (B, 2), float64."""
        p = self.probability(x)[..., -1]
        return torch.stack([1 - p, p], -1).log()

    def probability(self, x: Tensor) -> Tensor:
        """x (..., D) -> each judge's probability of the second answer (..., judges), float64."""
        p = x.double().unflatten(-1, (self.of, -1))[..., self.judges, :]
        return p.mean(-1) if self.by == "annotators" else p[..., 0]

    def confidence(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., m, D) -> each judge's confidence in [1/2, 1], and its answer int64, (..., m, judges) each."""
        p = self.probability(x)
        return p.maximum(1 - p), (p > 0.5).long()

    def thresholds(self, x: Tensor, y: Tensor) -> Tensor:
        """Records x (..., n, D) and what people say y (..., n) -> thresholds (..., judges); infinite: never."""
        confidence, answer = self.confidence(x)
        left = torch.ones_like(y, dtype=torch.bool)
        found = []
        for judge in range(len(self.judges)):
            own = confidence[..., judge].masked_fill(~left, -1.0)
            found.append(self.threshold(own, answer[..., judge] != y))
            left = left & (own < found[-1][..., None])
        return torch.stack(found, -1)

    def threshold(self, confidence: Tensor, wrong: Tensor) -> Tensor:
        """Confidences (..., n), -1 for pairs that do not count, and errors bool (..., n) -> threshold (...)."""
        if self.rule in ("heuristic", "none"):
            value = 1 - self.alpha if self.rule == "heuristic" else 0.0
            return confidence.new_full(confidence.shape[:-1], value)
        from scipy.special import bdtr

        ranked, order = confidence.sort(dim=-1, descending=True)
        errors = torch.nn.functional.pad(wrong.gather(-1, order).cumsum(-1), (1, 0))
        grid = torch.linspace(1, 0.5, GRID, dtype=confidence.dtype, device=confidence.device)
        n = torch.searchsorted(-ranked, -grid.expand(*ranked.shape[:-1], -1).contiguous(), right=True)
        k = errors.gather(-1, n)
        if self.rule == "point":
            passes = (k <= self.alpha * n) & (n >= self.least)
            last = GRID - 1 - passes.flip(-1).int().argmax(-1)
            return torch.where(passes.any(-1), grid[last], torch.inf)
        tail = torch.from_numpy(bdtr(k.double().cpu().numpy(), n.cpu().numpy(), self.alpha)).to(n.device)
        passes = tail <= self.risk
        # Thresholds with too few pairs are not tested; from the first that is, all have to pass.
        few = n < max(self.least, math.log(self.risk) / math.log1p(-self.alpha))
        kept = (passes | few).int().cumprod(-1).bool() & ~few
        last = (kept | few).int().sum(-1) - 1
        return torch.where(kept.any(-1), grid[last.clamp(min=0)], torch.inf)

    def judge(self, x: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., m, D), thresholds (..., judges) -> answers int64, -1 for none, and what it cost, (..., m) each."""
        confidence, answer = self.confidence(x)
        sure = confidence >= thresholds[..., None, :]
        first = sure.int().argmax(-1)
        answers = answer.gather(-1, first[..., None]).squeeze(-1).masked_fill(~sure.any(-1), -1)
        spent = torch.tensor(self.costs, dtype=torch.float64, device=x.device).cumsum(0)
        return answers, spent[first.masked_fill(~sure.any(-1), len(self.judges) - 1)]
