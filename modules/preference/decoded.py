"""Policies that are not trained: other laws of the next token, made of policies that were."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.config import locate
from datamodules.batches import Demonstrations
from datamodules.spec import DataSpec
from modules.method import SolvedMethod, method_of
from modules.preference.policy import Policy
from modules.preference.referenced import Referenced


class Decoded(Referenced, SolvedMethod):
    """A policy that is decoded from trained ones, whose reference is one of them, the `base`.

    They become parts of this method: their weights lie in its checkpoint, which opens without the other files. There
    is nothing to train; the pass over the records only counts them.

    A subclass makes `net` and gives `anchor`.

    Args:
        spec: text with answers.
        parts: `net`, see `Method`: the network of parts for which no checkpoint is given.
    """

    batch_type = Demonstrations
    targets = ("preference",)

    seen: Tensor

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super(Policy, self).__init__(spec, **parts)  # past the network that `Policy` would build
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @property
    @abstractmethod
    def anchor(self) -> nn.Module:
        """The network of the base: `net`, or a part of it."""

    def opened(self, name: str, model: str | Mapping[str, Any] | None, kind: type = Policy) -> Any:
        """What the argument `name` says: a checkpoint, or what this method's checkpoint says of it.

        Args:
            name: of the argument.
            model: its value; None gives None.
            kind: what the checkpoint has to hold.

        Raises:
            UserError: a checkpoint of something else, or of another vocabulary.
        """
        if model is None:
            return None
        if isinstance(model, Mapping):
            return locate(model["method"], f"model.{name}")(**model["hyper_parameters"])
        lack = f"no {kind.__name__}"
        method = method_of(model, kind, f"model.{name}", lack, vocabulary=self.spec.vocabulary)
        target = f"{type(method).__module__}.{type(method).__qualname__}"
        self.hparams[name] = {"method": target, "hyper_parameters": dict(method.hparams)}
        return method

    def net_of(self, policy: Policy | None) -> nn.Module:
        """The network of a policy, or one as it begins; it isn't trained."""
        net = self.build(self.context, (self.spec.vocabulary,)) if policy is None else policy.net
        return net.requires_grad_(False).train()

    @contextlib.contextmanager
    def before(self) -> Iterator[nn.Module]:
        yield self.anchor

    def accumulate(self, batch: Demonstrations) -> None:
        self.seen += self.sum_of_all(torch.tensor(len(batch.ids), device=self.device))

    def loss(self, batch: Demonstrations) -> Tensor:
        """-ln pi of the answers' tokens, the mean, nats; nobody descends it."""
        return -self.answer_log_probs(batch.ids, batch.answer).sum() / batch.answer.sum()
