"""Less of what Lightning does at every step whether or not anybody listens.

At steps below a millisecond, the calls of empty hooks and of a profiler that profiles nothing cost as much as the
arithmetic, and so do answers that are looked up again and again. All are taken out by public means: a hook that is no
callable is not called, a profiler is an argument, a function may carry its signature.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.trainer.states import RunningStage

STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


class NoProfiler(Profiler):
    """Profiles nothing, and hands out one empty context instead of a new one for each call."""

    _nothing = contextlib.nullcontext()

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    def profile(self, action_name: str) -> contextlib.AbstractContextManager:  # type: ignore[override]
        return self._nothing


class LeanTrainer(Trainer):
    """A Trainer that knows two answers which Lightning's own looks up at every step, one of them fifteen times."""

    _validates: bool | None = None

    @property
    def training(self) -> bool:
        return self.state.stage is RunningStage.TRAINING

    @training.setter
    def training(self, value: bool) -> None:
        Trainer.training.fset(self, value)  # type: ignore[attr-defined]

    @property
    def enable_validation(self) -> bool:
        if self._validates is None or not self.training:
            self._validates = super().enable_validation
        return self._validates


def silence(owners: Iterable[Callback | LightningModule]) -> None:
    """Let Lightning skip the step hooks that callbacks and the method inherit and nobody overrides."""
    for owner in owners:
        parent = Callback if isinstance(owner, Callback) else LightningModule
        for hook in STEP_HOOKS:
            if getattr(type(owner), hook, None) is getattr(parent, hook):
                owner.__dict__[hook] = None


def sign(method: LightningModule) -> None:
    """Leave the signature of the training step where Lightning, which asks for it at every step, finds it at once."""
    function = type(method).training_step
    if not hasattr(function, "__signature__"):
        function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
