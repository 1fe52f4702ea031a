"""Self-improving robust preference optimization."""

from __future__ import annotations

from torch import Tensor

from compendium.errors import UserError
from modules.preference.objectives.base import Objective, Pairs, positive


class SRPO(Objective):
    """Two regressions of preferences on log-ratios: of the revisions, and of the policy that is least improved by them.

        h(y) = ln pi(y | x) / pi_ref(y | x),   r(y | y') = ln pi(y | x, y') / pi_ref(y | x, y')
        loss = (1 - alpha) mean of (1/2 - beta (r(w | l) - r(l | l)))^2 + (1/2 - beta (r(w | w) - r(l | w)))^2
               + alpha mean of (1 - beta (r(w | l) - r(l | w) + h(w) - h(l)))^2

    with the preferred answer w and the other one l. It is the game

        min over pi, max over revisions:  E P(y > y') - beta KL(revision | pi_ref) + beta KL(pi | pi_ref)

    of an answer y' of pi and its revision y, where P(y > y') is the probability that y is preferred. Its solution is

        pi(y | x, y') = pi_ref(y | x, y') exp(P(y > y') / beta) / Z(x, y'),      pi(y' | x) ~ pi_ref(y' | x) / Z(x, y')

    so that beta (r(y | y') - r(y' | y')) = P(y > y') - 1/2, and beta (r(y | y') - r(y' | y) + h(y) - h(y')) =
    P(y > y') - P(y' > y). Both hold for each pair: the regressions can be exact, and it does not matter how often which
    pair is recorded. The solution does not depend on who wrote the answers. That of IPO does, unless P is a difference
    of rewards; that of DPO does, unless the logits of P are.

    Choi et al. 2024, "Self-Improving Robust Preference Optimization". The loss is from notes on the paper, whose text
    was not at hand; that it has the solution of the game is derived above and tested.

    Args:
        beta: weight of the divergences, in units of a probability, above 0; 0.1.
        alpha: weight of the policy's part, in (0, 1); 1/2.

    Raises:
        UserError: a value out of range; a policy that revises nothing.
    """

    papers = ("choi2024self",)

    def __init__(self, beta: float = 0.1, alpha: float = 0.5) -> None:
        positive(beta=beta)
        if not 0 < alpha < 1:
            raise UserError(f"model.objective.alpha={alpha}: it lies in (0, 1).")
        self.beta, self.alpha = beta, alpha

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:
        if pairs.revised is None:
            raise UserError("this objective needs a policy that also revises.", "model=preference/self_improving")
        (chosen_kept, spoilt), (mended, rejected_kept) = (row.unbind(1) for row in pairs.revised.unbind(1))
        after_rejected = 0.5 - self.beta * (mended - rejected_kept)
        after_chosen = 0.5 - self.beta * (chosen_kept - spoilt)
        game = 1 - self.beta * (mended - spoilt + pairs.margin)
        return {
            "revision": (1 - self.alpha) * (after_rejected.square() + after_chosen.square()).mean(),
            "policy": self.alpha * game.square().mean(),
        }
