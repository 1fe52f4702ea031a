"""Policies: laws of answers given prompts, over tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.language.decoding import Decoding
from modules.language.generation import Written, write
from modules.method import Method, method_of


class Policy(Method, ABC):
    """pi(y | x) = prod over the tokens t of the answer y of p(t | prompt x and what of y is before t).

    The network maps ids (B, T) to logits (B, T, vocabulary), of which those at t see nothing after t.

    Args:
        spec: text, with its vocabulary.
        model: checkpoint of a `Policy` to go on from; None: the network as it begins.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a checkpoint of no policy, or of another vocabulary.
    """

    kinds = ("text",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], model: str | None = None, **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.net = self.build(self.context, (self.spec.vocabulary,))
        if model is not None:
            begin_from(model, self.net)
            self.hparams["model"] = None  # its weights lie in this checkpoint, which opens without the other one

    @property
    def context(self) -> tuple[int, ...]:
        """How many tokens the network reads."""
        return self.spec.shape

    @property
    def writing(self) -> Mapping[str, Any]:
        """What `write` is told beside what a caller says."""
        return {}

    @abstractmethod
    def loss(self, batch: Any) -> Tensor | dict[str, Tensor]:
        """See `Method`."""

    def answer_log_probs(self, ids: Tensor, answer: Tensor) -> Tensor:
        """ids int64 (..., T) and which are the answer's, bool (..., T) -> ln pi(y | x) (...), float32 or more."""
        return answer_log_probs(self.net, ids, answer)

    def all_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Prompts int64 (P, T_p), answers int64 (A, T_a) -> ln pi of each answer to each prompt (P, A)."""
        return all_log_probs(self.net, prompts, answers)

    def write_answers(
        self,
        prompts: Tensor,
        lengths: Tensor,
        longest: int,
        *,
        end: int | None = None,
        samples: int = 1,
        temperature: float = 1.0,
    ) -> Written:
        """Prompts int64 (B, T), of `lengths` int64 (B,) -> `samples` answers to each, see `write`."""
        decoding = Decoding(temperature)
        return write(self.net, prompts, lengths, longest, end=end, samples=samples, decoding=decoding, **self.writing)


def plain_state(net: torch.nn.Module) -> dict[str, Tensor]:
    """A network's weights, adapters added to what they are beside, so that others go on from it with new ones."""
    return net.plain_state() if hasattr(net, "plain_state") else net.state_dict()  # type: ignore[operator]


def begin_from(model: str, net: torch.nn.Module) -> None:
    """Give a network the weights of the network of a policy's checkpoint, which stays as it is.

    Raises:
        UserError: a checkpoint of no `Policy`, or of another network.
    """
    begun = method_of(model, Policy, "model.model", "no Policy")
    own, other = plain_state(net), plain_state(begun.net)
    wrong = [name for name in own.keys() | other.keys() if name not in own or name not in other]
    wrong += [name for name in own.keys() & other.keys() if own[name].shape != other[name].shape]
    if wrong:
        raise UserError(
            f"model.model={model} has another network: {', '.join(sorted(wrong)[:3])}.",
            "choose net= and data= as it was trained",
        )
    getattr(net, "begin_as", net.load_state_dict)(other)


def answer_log_probs(net: torch.nn.Module, ids: Tensor, answer: Tensor) -> Tensor:
    """ids int64 (..., T) and which are the answer's, bool (..., T) -> ln of the answer's probability (...).

    Differences of logarithms are taken in float32 at least, whatever the network computes in.
    """
    flat, of_answer = ids.flatten(0, -2), answer.flatten(0, -2)
    return token_log_probs(net, flat, of_answer).sum(1).view(ids.shape[:-1])


def token_log_probs(net: torch.nn.Module, ids: Tensor, answer: Tensor) -> Tensor:
    """ids int64 (B, T) and which are the answer's, bool (B, T) -> ln p of each of its tokens (B, T - 1), 0 elsewhere.

    What stands at t is of the token at t + 1. Float32 at least. A network with a `token_log_probs` of its own is asked.
    """
    if hasattr(net, "token_log_probs"):
        return net.token_log_probs(ids, answer)  # type: ignore[operator]
    return log_probs_of(net(ids[:, :-1]), ids, answer)


def log_probs_of(logits: Tensor, ids: Tensor, answer: Tensor) -> Tensor:
    """The same from the network's logits (B, T - 1, vocabulary)."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    token = logits.gather(2, ids[:, 1:, None]).squeeze(2) - logits.logsumexp(2)
    return torch.where(answer[:, 1:], token, 0.0)


def all_log_probs(net: torch.nn.Module, prompts: Tensor, answers: Tensor) -> Tensor:
    """Prompts int64 (P, T_p), answers int64 (A, T_a) -> ln of each answer's probability after each prompt (P, A)."""
    return answer_log_probs(net, *all_sequences(prompts, answers))


def all_sequences(prompts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts int64 (P, T_p), answers int64 (A, T_a) -> each answer after each prompt, ids int64 (P, A, T_p + T_a), and
    which are the answer's, bool, of the same shape.
    """
    shape = (len(prompts), len(answers), -1)
    ids = torch.cat([prompts[:, None].expand(shape), answers[None].expand(shape)], 2)
    return ids, (torch.arange(ids.shape[2], device=ids.device) >= prompts.shape[1]).expand(ids.shape)
