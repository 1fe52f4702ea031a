"""Evaluation by capability: what every evaluation callback has in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.distributed
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from callbacks.metrics.precision import precise
from compendium.collectives import distributed, rows_of_all, sum_of_all
from compendium.errors import UserError
from datamodules.batches import accepts
from datamodules.spec import DataSpec
from modules.method import Method

T = TypeVar("T")

SPLIT_OF_STAGE = {"validate": "validation", "test": "test"}

# Kept beside the methods and not on them, so that no checkpoint, copy or pickle of a method carries a batch along.
_ASKED: WeakKeyDictionary[LightningModule, dict[str, tuple[Tensor, Any]]] = WeakKeyDictionary()


class Evaluation(Callback):
    """Asks for capabilities and a batch type, attaches itself wherever they are, and logs figures per stage.

    A subclass sets the class attributes and overrides `start`, `update` and `compute`. Every record of a split is seen
    exactly once over all processes; `compute` runs on all of them and must return the same figures on each
    (torchmetrics objects synchronise themselves; `rows_of_all` and `sum_of_all` do it for tensors). A process may be
    left without a record in some batches, or in all of them: `update` is not called for those, `compute` is.

    Args:
        stages: when to evaluate: `validate`, `test`, or both.

    Attributes:
        figures: what the latest pass gave, by logged name ("test/accuracy"), in full precision.
    """

    capabilities: ClassVar[tuple[type, ...]] = ()
    batch_type: ClassVar[type]
    stages: tuple[str, ...] = ("validate", "test")

    def __init__(self, stages: tuple[str, ...] | list[str] | None = None) -> None:
        if stages is not None:
            self.stages = tuple(stages)
        unknown = set(self.stages) - set(SPLIT_OF_STAGE)
        if unknown:
            raise UserError(
                f"{self.name}.stages={list(self.stages)}: there is no stage {', '.join(sorted(unknown))}.",
                f"there are: {', '.join(SPLIT_OF_STAGE)}",
            )
        self.reason = "not attached"
        self.active = False
        self.split = ""
        self.batch_idx = 0
        self.figures: dict[str, float] = {}

    # What an evaluation overrides

    def misfit(self, method: Method, spec: DataSpec) -> str | None:
        """Why this evaluation does not apply, beyond capabilities and batch type; None if it does."""
        return None

    def misfit_of_records(self, data: Any) -> str | None:
        """Why this evaluation does not apply to the records of a DataModule, beyond their spec; None if it does."""
        return None

    def start(self, method: Method, data: Any) -> None:
        """Reset the state before a pass over a split. `data` is the DataModule."""

    def update(self, method: Method, batch: Any) -> None:
        """Take in this process's share of a batch; called without gradients, in evaluation mode."""

    def compute(self, method: Method, data: Any) -> Mapping[str, float]:
        """The figures of the pass, by name, without the stage: {"accuracy": 0.97}. NaN for one that is undefined."""
        raise NotImplementedError

    # What an evaluation uses

    @staticmethod
    def ask(method: Method, capability: str, x: Tensor) -> Any:
        """`method.capability(x)`, computed once for all evaluations that ask for it on the same batch."""
        memo = _ASKED.setdefault(method, {})
        known = memo.get(capability)
        if known is None or known[0] is not x:
            known = memo[capability] = (x, getattr(method, capability)(x))
        return known[1]

    @staticmethod
    def rows_of_all(rows: Tensor) -> Tensor:
        """Rows (n_p, ...) of each process p -> the rows of all, in the order of the processes."""
        return rows_of_all(rows)

    @classmethod
    def in_order(cls, rows: Tensor, positions: Tensor) -> Tensor:
        """Rows (n_p, ...) of each process p and their positions int64 (n_p,) -> the rows of all, by position."""
        return cls.rows_of_all(rows)[cls.rows_of_all(positions).argsort().to(rows.device)]

    @staticmethod
    def sum_of_all(value: Tensor) -> Tensor:
        """A sum of each process -> the sum over the processes."""
        return sum_of_all(value)

    @staticmethod
    def on_rank_zero(work: Callable[[], T]) -> T:
        """`work()`, done by process 0 alone; all get its result, or raise its error."""
        if not distributed():
            return work()
        outcome: list[Any] = [None, None]
        if torch.distributed.get_rank() == 0:
            try:
                outcome[0] = work()
            except Exception as error:  # the others wait for an answer, so that an error has to be one
                outcome[1] = error
        torch.distributed.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def columns_of(self, method: Method, data: Any, limit: int) -> dict[str, Tensor]:
        """The columns of the first `limit` records of the split, as `present` takes them, where the method is."""
        rows = data.rows[self.split][:limit]
        return {name: column.to(method.device) for name, column in data.take(data.columns, rows, self.split).items()}

    def positions(self, data: Any) -> Tensor:
        """Where in the order of the split this process's share of the current batch lies: int64 (B,)."""
        rank, world = data.share
        first = self.batch_idx * data.eval_batch_size
        last = min(first + data.eval_batch_size, len(data.rows[self.split]))
        return torch.arange(first, last).tensor_split(world)[rank]

    # How it attaches itself

    def why_not(self, method: Method, batch_type: type, spec: DataSpec) -> str | None:
        """The first reason why this evaluation does not apply; None if it does."""
        for capability in self.capabilities:
            if not isinstance(method, capability):
                return f"{type(method).__name__} is no {capability.__name__}"
        if not accepts(self.batch_type, batch_type):
            return f"{batch_type.__name__} batches have no {' and '.join(missing_fields(self.batch_type, batch_type))}"
        return self.misfit(method, spec)

    def why_not_on(self, method: Method, data: Any) -> str | None:
        """The first reason why this evaluation does not apply to a method and a DataModule; None if it does."""
        reason = self.why_not(method, data.evaluation_batch_type, data.spec)
        return reason if reason is not None else self.misfit_of_records(data)

    @property
    def name(self) -> str:
        """What the log line and the config call it: the module's name."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            self.active, self.reason = False, "there is no DataModule"
            return
        reason = self.why_not_on(pl_module, data)  # type: ignore[arg-type]
        self.active, self.reason = reason is None, reason or ""

    @contextlib.contextmanager
    def _evaluating(self, stage: str) -> Iterator[bool]:
        with torch.no_grad():
            yield self.active and stage in self.stages

    def _start(self, trainer: Trainer, method: Any, stage: str) -> None:
        with self._evaluating(stage) as on:
            if on:
                self.split = SPLIT_OF_STAGE[stage]
                self.start(method, trainer.datamodule)  # type: ignore[attr-defined]

    def _update(self, trainer: Trainer, method: Any, batch: Any, batch_idx: int, stage: str) -> None:
        with self._evaluating(stage) as on:
            if on and len(batch[0]):
                self.batch_idx = batch_idx
                self.update(method, batch)

    def _finish(self, trainer: Trainer, method: Any, stage: str) -> None:
        forget(method)
        with self._evaluating(stage) as on:
            if not on:
                return
            figures = self.compute(method, trainer.datamodule)  # type: ignore[attr-defined]
        if trainer.sanity_checking:  # a few batches of an untrained method: no figure to be seen
            return
        self.figures = self._named(figures, stage, trainer)
        # Lightning keeps its copy in float32, for whoever monitors a figure; the loggers get the full precision.
        # All processes have the same figures: `sync_dist` only keeps Lightning from warning that they might not.
        method.log_dict(self.figures, logger=False, sync_dist=True)
        for logger in trainer.loggers:
            logger.log_metrics(self.figures, step=trainer.global_step)

    def on_validation_epoch_start(self, trainer, pl_module):
        self._start(trainer, pl_module, "validate")

    def _named(self, figures: Mapping[str, float], stage: str, trainer: Trainer) -> dict[str, float]:
        """The figures by logged name: test/nll, or test/density_nll where an earlier evaluation has the shorter one."""
        others: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        earlier = [other for other in others[: others.index(self)] if isinstance(other, Evaluation)]
        taken = {name for other in earlier for name in other.figures}
        named = {}
        for name, value in figures.items():
            short = f"{stage}/{name}"
            named[f"{stage}/{self.name}_{name}" if short in taken else short] = float(value)
        return named

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        forget(pl_module)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self._update(trainer, pl_module, batch, batch_idx, "validate")

    def on_validation_epoch_end(self, trainer, pl_module):
        self._finish(trainer, pl_module, "validate")

    def on_test_epoch_start(self, trainer, pl_module):
        self._start(trainer, pl_module, "test")

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        forget(pl_module)

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self._update(trainer, pl_module, batch, batch_idx, "test")

    def on_test_epoch_end(self, trainer, pl_module):
        self._finish(trainer, pl_module, "test")


def missing_fields(wanted: type, given: type) -> list[str]:
    """Fields of a batch type that another lacks."""
    return [name for name in wanted._fields if name not in given._fields]  # type: ignore[attr-defined]


def forget(method: LightningModule) -> None:
    """Drop what was asked of a method: a new batch has come, or the last one is done."""
    _ASKED.pop(method, None)


def mean_of(method: LightningModule) -> Metric:
    """A mean over all records of all processes, in float64. A NaN among them makes it NaN, so that none is hidden."""
    device = precise(torch.empty(0, device=method.device)).device
    return MeanMetric(nan_strategy="disable").set_dtype(torch.float64).to(device)
