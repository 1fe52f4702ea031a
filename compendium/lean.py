"""Less of what Lightning does at every step whether or not anybody listens.

At steps below a millisecond, the calls of empty hooks and of a profiler that profiles nothing cost as much as the
arithmetic, and so do answers that are looked up again and again. A hook that is no callable is not called, a profiler
is an argument, a function may carry its signature; two inner loops of Lightning's are replaced where nothing hooks in,
which is why pyproject.toml holds Lightning to the releases that the tests know.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.states import RunningStage
from torch.optim import Optimizer

from datamodules.datamodule import DataModule
from modules.method import Method
from modules.optimization.asking import Evaluations

INNER_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
STEP_HOOKS = ("on_train_batch_start", "on_train_batch_end", *INNER_HOOKS)


class NoProfiler(Profiler):
    """Profiles nothing, and hands out one empty context instead of a new one for each call."""

    _nothing = contextlib.nullcontext()

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    def profile(self, action_name: str) -> contextlib.AbstractContextManager:  # type: ignore[override]
        return self._nothing


class LeanOptimization(_AutomaticOptimization):
    """Forward, backward and step without the closures and hooks in between, wherever nobody hooks into them.

    The arithmetic and its order are Lightning's. Anything beyond one process in full precision that takes a step per
    batch (accumulation, clipping, scaling, sharding, a hook that somebody overrides) goes Lightning's own way.
    """

    plain = False

    def run(self, optimizer: Optimizer, batch_idx: int, kwargs: OrderedDict) -> dict[str, Any]:
        if batch_idx == 0 or not self.optim_progress.optimizer.step.current.ready:
            self.plain = self.nobody_listens()
        if not self.plain:
            return super().run(optimizer, batch_idx, kwargs)
        module: Any = self.trainer.lightning_module
        progress = self.optim_progress.optimizer
        module._current_fx_name = "training_step"
        loss = module.training_step(*kwargs.values())
        module._current_fx_name = None
        progress.zero_grad.increment_ready()
        progress.zero_grad.increment_started()
        module.optimizer_zero_grad(0, batch_idx, optimizer)
        progress.zero_grad.increment_completed()
        loss.backward()
        progress.step.increment_ready()
        if module.asking is None:
            optimizer.step()
        else:
            optimizer.step(module.asking.taken)
        progress.step.increment_completed()
        module.optimizer_zero_grad(0, batch_idx, optimizer)
        return {"loss": loss.detach()}

    def nobody_listens(self) -> bool:
        """Whether a step is a step: one process, full precision, and no hook between forward pass and update."""
        trainer: Any = self.trainer
        module = trainer.lightning_module
        plain = type(trainer.strategy) is SingleDeviceStrategy and type(trainer.precision_plugin) is Precision
        plain &= trainer.accumulate_grad_batches == 1 and not trainer.gradient_clip_val
        plain &= isinstance(trainer.profiler, NoProfiler)
        plain &= not any(map(asks_again, trainer.optimizers))
        # `silence` has left None in the place of every hook that is not overridden.
        owners = [module, *trainer.callbacks]
        plain &= not any(callable(getattr(owner, hook)) for owner in owners for hook in INNER_HOOKS)
        plain &= not isinstance(module.asking, Evaluations)
        names = ("training_step", "optimizer_step", "backward", "on_train_batch_start", "on_train_batch_end")
        return plain and all(getattr(type(module), name) is getattr(Method, name) for name in names)


def asks_again(optimizer: Optimizer) -> bool:
    """Whether a step evaluates the loss by itself, as a line search does, and cannot do without the closure for it."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


class LeanEpoch(_TrainingEpochLoop):
    """One batch of an epoch, with the calls of the callbacks that listen and without the empty ones around them."""

    def advance(self, data_fetcher: Any) -> None:
        trainer: Any = self.trainer
        lean = self.automatic_optimization
        if self.restarting or not (isinstance(lean, LeanOptimization) and lean.plain and trainer.lean_data):
            return super().advance(data_fetcher)
        self.val_loop.restarting = False
        progress, method = self.batch_progress, trainer.lightning_module
        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        for callback in trainer.callbacks:
            if callback.on_train_batch_start:
                callback.on_train_batch_start(trainer, method, batch, batch_idx)
        progress.increment_started()
        output = lean.run(trainer.optimizers[0], batch_idx, OrderedDict(batch=batch, batch_idx=batch_idx))
        progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        for callback in trainer.callbacks:
            if callback.on_train_batch_end:
                callback.on_train_batch_end(trainer, method, output, batch, batch_idx)
        trainer._logger_connector.on_batch_end()
        progress.increment_completed()
        trainer._logger_connector.update_train_step_metrics()


class LeanTrainer(Trainer):
    """A Trainer that knows two answers which Lightning's own looks up at every step, one of them fifteen times."""

    _validates: bool | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        loop = self.fit_loop.epoch_loop
        self.fit_loop.epoch_loop = LeanEpoch(self, loop.min_steps, loop.max_steps)
        self.fit_loop.epoch_loop.automatic_optimization = LeanOptimization(self)

    @property
    def lean_data(self) -> bool:
        """Whether batches come from a DataModule of ours: in memory and on the device, with nothing to transfer."""
        return isinstance(self.datamodule, DataModule)  # type: ignore[attr-defined]

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
