"""Reward models that are policies inside."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Preferences
from datamodules.spec import DataSpec
from modules.method import total
from modules.preference.objectives.base import Objective, Pairs
from modules.preference.policy import answer_log_probs, log_probs_of
from modules.preference.reward_model import RewardModel


class HybridReward(RewardModel):
    """A reward model whose features also have to serve a policy with the same preferences.

        loss = (the loss of the reward model) + alpha (an objective of ln pi and ln pi_ref of both answers, by default
               that of DPO)

    pi is the network itself with its logits, whose features the reward is read from; pi_ref is the network as it
    begins. Preferences reach the features at each token, and not by the last one alone. Both answers go through the
    network in one pass; once it is trained, the logits are of no account.

    "HAF-RM: A Hybrid Alignment Framework for Reward Model Training" (2024); that the constraint on token-level
    probabilities is DPO's loss is from notes on the paper, whose text was not at hand.

    Args:
        spec: text with preferences.
        objective: config of a `modules.preference.objectives.base.Objective`, `objective=`.
        alpha: weight of the policy's part, above 0.
        parts: see `RewardModel`.

    Raises:
        UserError: an alpha that is not above 0, a network that gives features and logits in separate passes alone; see
            `RewardModel`.
    """

    papers = ("haf2024rm",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], objective: Mapping[str, Any], alpha: float = 0.5, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if not alpha > 0:
            raise UserError(f"model.alpha={alpha}: it is above 0.")
        if not hasattr(self.net, "read"):
            raise UserError(f"{type(self.net).__name__} has no features and logits in one pass.", "net=transformer")
        self.objective: Objective = instantiate(objective, where="model.objective")
        self.alpha = alpha
        self.reference = deepcopy(self.net).requires_grad_(False)

    def loss(self, batch: Preferences) -> dict[str, Tensor]:
        ids, answer = batch.pairs.flatten(0, 1), batch.answers.flatten(0, 1)
        features, logits = self.net.read(ids)  # type: ignore[operator]
        scores = self.scores_of(features, answer).view(-1, 2)
        log_pi = log_probs_of(logits[:, :-1], ids, answer).sum(1).view(-1, 2)
        log_reference = answer_log_probs(self.reference, batch.pairs, batch.answers).detach()
        lengths = batch.answers.sum(2).to(log_pi)
        policy = total(self.objective(Pairs(*log_pi.unbind(1), *log_reference.unbind(1), *lengths.unbind(1))))
        return {
            "preference": -F.logsigmoid(scores[:, 0] - scores[:, 1] - self.margin).mean(),
            "policy": self.alpha * policy,
        }
