"""A method's networks, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning import Callback
from torch import nn

from compendium.errors import UserError, did_you_mean


class Compile(Callback):
    """Compiles networks of the method with `torch.compile`, in place: weights and checkpoints keep their names.

    It pays where many steps follow the minute that compiling takes: long trainings, and draws of many steps. Numbers
    may differ in the last digits, as kernels add up in another order.

        python train.py +callbacks.compile._target_=callbacks.compile.Compile

    Args:
        parts: submodules of the method.
        options: arguments of `torch.compile`, such as {mode: reduce-overhead} or {backend: eager}.

    Raises:
        UserError: the method has no such network.
    """

    def __init__(self, parts: Sequence[str] = ("net",), options: dict[str, Any] | None = None) -> None:
        self.parts, self.options = tuple(parts), options or {}

    def setup(self, trainer, pl_module, stage):
        networks = dict(pl_module.named_children())
        for name in self.parts:
            part = networks.get(name)
            if not isinstance(part, nn.Module):
                raise UserError(
                    f"callbacks.compile.parts: {type(pl_module).__name__} has no network '{name}'.",
                    did_you_mean(name, networks) or f"there are: {', '.join(networks)}",
                )
            if part._compiled_call_impl is None:
                part.compile(**self.options)
