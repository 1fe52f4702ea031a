"""What a policy's revisions of its own answers are worth, where all answers can be listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.listed import ListedEvaluation
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from modules.capabilities import RevisingPolicy


class Revisions(ListedEvaluation):
    """Exact win rates of a RevisingPolicy after k revisions of its answers; means over prompts.

    The law of the answers after k revisions is pi (pi(. | x, .))^k, a product of matrices; all laws are taken given
    that they say answers.

    - `win_rate_after_0`, ..., `win_rate_after_K`: probability that such an answer is preferred to one of the
      reference's.
    - `revision_gain`: that after K less that after none.
    - `preferred_to_revised`: probability that the first revision is preferred to the very answer that it revises.

    Args:
        revisions: K, at least 1; 5 as in Choi et al. 2024.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: no revision.
    """

    papers = ("choi2024self",)
    capabilities = (RevisingPolicy,)

    def __init__(self, revisions: int = 5, **parts: Any) -> None:
        super().__init__(**parts)
        if revisions < 1:
            raise UserError(f"{self.name}.revisions={revisions}: at least 1.")
        self.revisions = revisions

    def compute(self, method, data) -> Mapping[str, float]:
        world = data.world
        ids = self.texts(method, data)
        law, reference, revision = (
            precise(ask(*ids)).cpu().softmax(-1)
            for ask in (method.all_log_probs, method.all_reference_log_probs, method.all_revision_log_probs)
        )
        beaten = torch.einsum("pab,pb->pa", world.wins, reference)
        improved = float(torch.einsum("pa,pab,pba->p", law, revision, world.wins).mean())
        rates = []
        for _ in range(self.revisions + 1):
            rates.append(float((law * beaten).sum(1).mean()))
            law = torch.einsum("pa,pab->pb", law, revision)
        named = {f"win_rate_after_{k}": rate for k, rate in enumerate(rates)}
        return named | {"revision_gain": rates[-1] - rates[0], "preferred_to_revised": improved}
