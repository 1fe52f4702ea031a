"""Fine-tuning at one scale emulated by fine-tuning at another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.language.combined import LogLinear
from modules.preference.decoded import Decoded
from modules.preference.policy import Policy
from modules.preference.referenced import Referenced


class EmulatedFineTuning(Decoded):
    """What a pre-trained policy would say had it been fine-tuned as another one was (Mitchell et al. 2024).

        ln pi(z | s) = ln pi_base(z | s) + weight (ln pi_tuned(z | s) - ln pi_ref(z | s)) + const(s)

    with z the next token and s all before it; normalised at each token. By pi ~ pi_ref exp(r / beta) the difference is
    a reward for what tuning changed (the behaviour), and pi_base what divergence is measured from (the knowledge). A
    large base with the difference of a small pair is up-scaling; a small base with that of a large pair down-scaling.
    With pi_base = pi_ref and a weight of 1 it is the tuned policy.

    With an `other` tuned policy two behaviours are mixed while decoding:

        weight (mix (ln pi_tuned - ln pi_ref) + (1 - mix) (ln pi_other - ln pi_ref,other))

    The paper's abstract and summaries of it were read, the paper itself not; the equations are from memory.

    Deviations from the paper:
        1. Tokens are drawn from the law itself: neither is the difference cut off where pi_base is small (the paper's
           filter for up-scaling, from memory), nor are drafts of the small policy used (speculative decoding), which
           would change the time alone.
        2. `weight` is not the paper's, where it is 1.

    Args:
        spec: text with answers.
        model: checkpoint of the base, which gives the knowledge.
        tuned: checkpoint of the policy that was tuned.
        reference: checkpoint of what the tuned ones began as; None: what they themselves keep of it.
        other: checkpoint of a second tuned policy; None: there is none.
        weight: of the difference; 1 as in the paper, 0 is the base.
        mix: share of `tuned` beside `other`; 1: of it alone.
        parts: `net`, see `Decoded`; parts without a checkpoint are the network as it begins.

    Raises:
        UserError: a mix without `other`, a tuned policy that knows no reference of its own, see `Decoded`.
    """

    papers = ("mitchell2024emulator",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        model: str | Mapping[str, Any] | None = None,
        tuned: str | Mapping[str, Any] | None = None,
        reference: str | Mapping[str, Any] | None = None,
        other: str | Mapping[str, Any] | None = None,
        weight: float = 1.0,
        mix: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if other is None and mix != 1:
            raise UserError(f"model.mix={mix} mixes nothing.", "give a second tuned policy: model.other=CHECKPOINT")
        began = self.opened("reference", reference)
        shares = {"tuned": (tuned, weight * mix), "other": (other, weight * (1 - mix))}
        nets, weights = [self.net_of(self.opened("model", model))], [1.0]
        for name, (path, share) in shares.items():
            if name == "other" and path is None:
                continue
            policy = self.opened(name, path)
            before = self.net_of(began) if policy is None or began is not None else own_reference(name, policy)
            nets += [self.net_of(policy), before]
            weights += [share, -share]
        self.net = LogLinear(nets, weights)

    @property
    def anchor(self) -> nn.Module:
        return self.net.nets[0]


def own_reference(name: str, policy: Policy) -> nn.Module:
    """The network that a tuned policy keeps of what it began as.

    Raises:
        UserError: it keeps none.
    """
    if not isinstance(policy, Referenced) or policy.reference is None:
        raise UserError(
            f"model.{name} is a {type(policy).__name__} that keeps no network of what it began as.",
            "model.reference=CHECKPOINT",
        )
    return policy.reference.requires_grad_(False).train()
