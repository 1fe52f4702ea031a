"""What all classifiers share that predict by several networks, or by several draws of one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor

from modules.method import Method


class MembersClassifier(Method, ABC):
    """A classifier whose prediction is a mixture of K members' predictions p_k(y|x).

        p(y|x) = mean_k p_k(y|x)

    and how far the members differ is its uncertainty of the network.
    """

    @abstractmethod
    def predict_members(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities of each member (K, B, classes), float."""

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log of the mean probability (B, classes)."""
        return mixture(self.predict_members(x))

    def epistemic_variance(self, x: Tensor) -> Tensor:
        """x (B, ...) -> variance of the members' probabilities mean_k (p_k - p)^2 (B, classes), in [0, 1/4]."""
        return self.predict_members(x).exp().var(0, correction=0)


def mixture(members: Tensor) -> Tensor:
    """Log probabilities of members (K, B, C) -> log of their mean probability (B, C)."""
    return members.logsumexp(0) - math.log(len(members))
