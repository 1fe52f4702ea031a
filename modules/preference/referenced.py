"""Policies that go on from a reference, and know what it would say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from datamodules.spec import DataSpec
from modules.language.decoding import Decoding
from modules.language.generation import Written, write
from modules.preference.policy import Policy, all_log_probs, answer_log_probs, token_log_probs


class Referenced(Policy):
    """A policy pi with the reference pi_ref that it begins as.

    The reference is a copy of the network, or, where the network has an adapter (`without_adapter`), the network itself
    with the adapter switched off.

    Args:
        spec: text with answers.
        model: checkpoint of the reference; None: the network as it begins.
        parts: see `Policy`.

    Raises:
        UserError: see `Policy`.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], model: str | None = None, **parts: Any) -> None:
        super().__init__(spec, model, **parts)
        self.reference = None if self.adapted else deepcopy(self.net).requires_grad_(False)

    @property
    def adapted(self) -> bool:
        """Whether the network changes by an adapter alone."""
        return getattr(self.net, "adapted", False)

    @contextlib.contextmanager
    def before(self) -> Iterator[nn.Module]:
        """The network of the reference."""
        if self.reference is not None:
            yield self.reference
            return
        with self.net.without_adapter():
            yield self.net

    def reference_log_probs(self, ids: Tensor, answer: Tensor) -> Tensor:
        """ids int64 (..., T) and which are the answer's, bool (..., T) -> ln pi_ref(y | x) (...), without gradients."""
        with self.before() as net:
            return answer_log_probs(net, ids, answer).detach()

    def reference_token_log_probs(self, ids: Tensor, answer: Tensor) -> Tensor:
        """ids int64 (B, T), bool (B, T) -> ln pi_ref of each token of the answers (B, T - 1), without gradients."""
        with self.before() as net:
            return token_log_probs(net, ids, answer).detach()

    def all_reference_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Prompts int64 (P, T_p), answers int64 (A, T_a) -> ln pi_ref of each answer to each prompt (P, A)."""
        with self.before() as net:
            return all_log_probs(net, prompts, answers).detach()

    def write_reference_answers(
        self,
        prompts: Tensor,
        lengths: Tensor,
        longest: int,
        *,
        end: int | None = None,
        samples: int = 1,
        temperature: float = 1.0,
    ) -> Written:
        """The same as `write_answers`, by the reference."""
        with self.before() as net:
            return write(net, prompts, lengths, longest, end=end, samples=samples, decoding=Decoding(temperature))
