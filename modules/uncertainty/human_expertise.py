"""An expert's opinion, taken where it tells something that no predictor of a class could."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import one_hot

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.keeping import KeepingMethod
from modules.uncertainty.level_sets import LevelSetBoosting

USES = ("levels", "boosting", "expert", "linear", "stacked")


class HumanExpertise(KeepingMethod):
    """Regresses the target on an expert's opinion within each set of records that look the same to an algorithm.

    The first `share` of the training records makes a multicalibrated predictor of the features alone, whose level sets
    S_k are (nearly) indistinguishable: Cov(f(X), Y | S_k) is about 0 for each f of the class. On the others,

        y = f(x) + a_k + b_k h,   x in S_k          (`levels`)

    with the predictor f is fit by least squares to the opinion h. If h correlates with Y - f(X) within S_k, the expert
    knows something that the class does not, and the squared error there is below that of all of the class; where it
    does not, b_k is about 0.
    The hypothesis that it does not is tested in each set by permutations of h within it: p_k = (1 + #{|Cov| of a
    permutation >= |Cov|}) / (1 + permutations), which is exact if h is independent of Y - f(X) there.

    Alur et al. 2024, "Human Expertise in Algorithmic Prediction": indistinguishable subsets as level sets of a
    multicalibrated predictor, the test of the covariance, the regression per subset. Not every step could be compared
    with the paper; the authors' code uses boosting by level sets with trees, and bootstraps Matthews' correlation.

    `use` gives what it is compared with: `boosting`, the predictor f with the a_k alone; `linear`, one
    ridge regression on the features, all records; `expert`, a line through the opinion, all records; `stacked`, one
    ridge regression on features and opinion, all records.

    Deviations:
        1. Weak learners are linear, where the authors have trees of depth 5 and two level sets.
        2. The test is by permutation; records that make the level sets are not those that test them.
        3. Within a level set the predictor keeps its own values, where the paper has the level set look all the same:
           ten level sets are too wide for that, and an opinion that only follows f would be taken for expertise.

    Args:
        spec: records with a real target, whose last column is the opinion.
        use: one of `USES`.
        levels: level sets, at least 2; 10, by our choice.
        rounds: of boosting; the authors' code has up to 100.
        gain: see `LevelSetBoosting`; 0.2, tuned on `data=experts`: the authors' 0.001 fits noise with 1000 records.
        ridge: on standardised features; 1, scikit-learn's default.
        share: of the training records that make the level sets, in (0, 1); half, by our choice.
        permutations: of each test.
        parts: see `Method`.

    Raises:
        UserError: an unknown use, a number out of range.
    """

    lines: Tensor
    spread: Tensor
    p_values: Tensor

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("real",)
    papers = ("alur2024human",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        use: str = "levels",
        levels: int = 10,
        rounds: int = 20,
        gain: float = 0.2,
        ridge: float = 1.0,
        share: float = 0.5,
        permutations: int = 999,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if use not in USES:
            raise UserError(f"model.use={use} is unknown.", f"there are: {', '.join(USES)}")
        for name, count, fewest in (("levels", levels, 2), ("rounds", rounds, 1), ("permutations", permutations, 1)):
            if count < fewest:
                raise UserError(f"model.{name}={count}: at least {fewest}.")
        if not 0 < share < 1:
            raise UserError(f"model.share={share}: it is a share of the records, in (0, 1).")
        if gain < 0 or ridge <= 0:
            raise UserError(f"model.gain={gain} is at least 0, and model.ridge={ridge} above it.")
        width = self.spec.shape[0]
        self.use, self.levels, self.ridge, self.share, self.permutations = use, levels, ridge, share, permutations
        self.boosting = LevelSetBoosting(width - 1, levels, rounds, gain, ridge)
        self.reserve(width + 1)
        double = {"dtype": torch.float64}
        self.register_buffer("lines", torch.zeros(levels, width + 1, **double))
        self.register_buffer("spread", torch.ones(levels, **double))
        self.register_buffer("p_values", torch.ones(levels, **double))

    def accumulate(self, batch: Labelled) -> None:
        self.keep(torch.cat([batch.x, batch.y[:, None]], 1))

    def solve(self) -> None:
        x, y = self.rows_kept()[:, :-1], self.rows_kept()[:, -1]
        first = round(self.share * len(y))
        self.boosting.fit(x[:first, :-1], y[:first])
        own_x, own_y = x[first:], y[first:]
        member = self.member(own_x)
        left = own_y - self.boosting(own_x[:, :-1])[0]
        self.p_values.copy_(permutation_test(own_x[:, -1], left, member, self.permutations))
        mask = torch.ones(x.shape[1] + 1, dtype=torch.bool, device=x.device)
        if self.use in ("levels", "boosting"):
            mask[1:-1] = False
            mask[-1] = self.use == "levels"
            self.lines.copy_(regressions(own_x, left, member, mask, 1e-9))
        else:
            mask[1:-1] = self.use != "expert"
            mask[-1] = self.use != "linear"
            everything = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
            self.lines.copy_(regressions(x, y, everything, mask, self.ridge).expand_as(self.lines))
        errors = member.T @ (own_y - self.mean(own_x)).square()
        self.spread.copy_((errors / member.sum(0).clamp(min=1)).sqrt().clamp(min=1e-6))

    def member(self, x: Tensor) -> Tensor:
        """Records (B, D + 1) -> which level set each is in, one-hot (B, levels), float64."""
        return one_hot(self.boosting(x[:, :-1].double())[1], self.levels).double()

    def mean(self, x: Tensor) -> Tensor:
        """Records (B, D + 1) -> predictions (B,), float64."""
        ones = torch.nn.functional.pad(x.double(), (1, 0), value=1.0)
        known, level = self.boosting(x[:, :-1].double())
        line = (self.lines[level] * ones).sum(1)
        return known + line if self.use in ("levels", "boosting") else line

    def predict_distribution(self, x: Tensor) -> Normal:
        """x (B, D + 1) -> Normal about the prediction, as wide as errors are in its level set, batch shape (B,)."""
        return Normal(self.mean(x), self.member(x) @ self.spread, validate_args=False)

    def expertise(self) -> Tensor:
        """p-values of the hypotheses that the expert knows nothing, of each level set (levels,)."""
        return self.p_values


def regressions(x: Tensor, y: Tensor, member: Tensor, mask: Tensor, ridge: float) -> Tensor:
    """Least squares within sets: x (n, D), y (n,), one-hot sets (n, K) -> intercepts and weights (K, 1 + D).

    Args:
        x: records.
        y: targets.
        member: one-hot.
        mask: bool (1 + D,): what is free; the others are 0.
        ridge: added to the diagonal of the weights.
    """
    ones = torch.nn.functional.pad(x, (1, 0), value=1.0) * mask
    gram = torch.einsum("nk,nd,ne->kde", member, ones, ones)
    diagonal = torch.full((ones.shape[1],), ridge, dtype=x.dtype, device=x.device)
    diagonal[0] = 1e-9
    diagonal = torch.where(mask, diagonal, 1.0)
    products = torch.einsum("nk,nd,n->kd", member, ones, y)
    return torch.linalg.solve(gram + diagonal.diag(), products[..., None]).squeeze(2)


def permutation_test(h: Tensor, y: Tensor, member: Tensor, permutations: int) -> Tensor:
    """p-values of Cov(h, y) = 0 within sets: h (n,), y (n,), one-hot sets (n, K) -> (K,).

    Permutations come from a stream of their own, so that the same records give the same p-values.
    """
    sets = member.argmax(1)
    order = sets.argsort(stable=True)
    h, y, sets, member = h[order], y[order], sets[order], member[order]
    centred = y - (member @ ((member.T @ y) / member.sum(0).clamp(min=1)))
    draw = generator(0, "permutations")
    # Sorted by set and then at random: each set keeps its place, and its records are shuffled within it.
    keys = torch.rand(permutations, len(h), generator=draw, dtype=torch.float64).to(h.device) + sets
    shuffled = h[keys.argsort(1)]
    observed = (member.T @ (h * centred)).abs()
    reached = ((shuffled * centred) @ member).abs() >= observed * (1 - 1e-9)
    return (1 + reached.sum(0)).double() / (1 + permutations)
