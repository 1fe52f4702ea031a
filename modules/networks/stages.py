"""Networks that are a row of stages, so that one can be looked at, moved or changed while the others rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Staged(Protocol):
    """A network whose forward(*inputs) is leave(through(n - 1, ... through(0, enter(*inputs)))), n = len(stages()).

    A state is whatever passes from one stage to the next. A stage's modules belong to it alone; what `enter` and
    `leave` use belongs to no stage.
    """

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The modules of each stage."""
        ...

    def enter(self, *inputs: Any) -> Any:
        """Inputs -> the state before the first stage."""
        ...

    def through(self, stage: int, state: Any) -> Any:
        """The state before a stage -> the one after it."""
        ...

    def leave(self, state: Any) -> Tensor:
        """The state after the last stage -> the output."""
        ...


def staged(root: nn.Module) -> list[nn.Module]:
    """The outermost networks in stages within a module; without those whose `forward` a subclass has changed."""
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in root.modules():
        if module not in inside and isinstance(module, Staged) and owner(module, "forward") is owner(module, "leave"):
            found.append(module)
            inside |= set(module.modules())
    return found


def owner(module: nn.Module, name: str) -> type:
    """The class that a module has a function from."""
    return next(kind for kind in type(module).__mro__ if name in vars(kind))
