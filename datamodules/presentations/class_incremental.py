"""A stream of tasks, each with its own classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.batches import Labelled, TaskBatch
from datamodules.datamodule import DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Column, Source
from datamodules.spec import DataSpec


class ClassIncremental(DataModule):
    """Classes that arrive task by task, as `TaskBatch` in training and as `Labelled`, all classes, in evaluation.

    One epoch is the whole stream: all batches of task 0, then of task 1, and so on; no batch holds records of two
    tasks. Which class belongs to which task is a function of the seed.

    Blurry task boundaries are those of Si-Blurry (Moon et al. 2023): a share of the classes is blurry, and a share of
    each blurry class's records is moved to other tasks; the other classes are disjoint. Deviations: 1. tasks own
    equally many classes (up to one), where the paper draws how many; 2. a moved record goes to any other task with
    equal probability, where the paper deals out the shuffled pool of moved records and may hand one back to its task.

    Args:
        source: images or vectors with a class as target.
        tasks: number of tasks; 5, as in the paper.
        blurry: share of the classes that are blurry; 0: all are disjoint. The paper has 0.5.
        blurry_samples: share of a blurry class's training records that go to other tasks; 0.1, as in the paper.
        epochs_per_task: passes over each task's records before the next one begins; 1: each record is seen once.
        scale: see `Scaling`; `symmetric` by default, because `standard` looks ahead at tasks that are still to come.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: fewer classes than tasks, shares outside [0, 1], a task without records.
    """

    batch_type = TaskBatch
    targets = ("class",)
    tasks: list[Tensor]
    """Training rows of each task."""
    classes_of_task: list[Tensor]
    """Classes that each task owns; records of a blurry class also occur in other tasks."""

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        tasks: int = 5,
        blurry: float = 0.0,
        blurry_samples: float = 0.1,
        epochs_per_task: int = 1,
        scale: str = "symmetric",
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        for name, value in (("tasks", tasks), ("epochs_per_task", epochs_per_task)):
            if value < 1:
                raise UserError(f"datamodule.{name}={value}: there is at least one.")
        for name, share in (("blurry", blurry), ("blurry_samples", blurry_samples)):
            if not 0 <= share <= 1:
                raise UserError(f"datamodule.{name}={share} is no share: give a number from 0 to 1.")
        self.number_of_tasks, self.epochs_per_task = tasks, epochs_per_task
        self.blurry, self.blurry_samples = blurry, blurry_samples
        self.scaling = Scaling(scale)
        self.task_of_row = torch.empty(0)

    @property
    def evaluation_batch_type(self) -> type:
        return Labelled

    @property
    def columns(self) -> Mapping[str, Column]:
        """The source's columns, and `task` (N,) int64; -1 for records that are not trained on."""
        return {**super().columns, "task": self.task_of_row}

    def describe(self, spec: DataSpec) -> DataSpec:
        return self.scaling.describe(spec)

    def prepare(self) -> None:
        self.scaling.fit(self.columns["x"], self.rows["train"], self.spec)
        count = len(self.spec.classes)
        if count < self.number_of_tasks:
            raise UserError(
                f"datamodule.tasks={self.number_of_tasks}: data '{self.spec.name}' has only {count} classes.",
                f"take at most {count} tasks",
            )
        draw = generator(self.seed, "tasks")
        order = torch.randperm(count, generator=draw)
        self.classes_of_task = list(order.tensor_split(self.number_of_tasks))
        owner = torch.empty(count, dtype=torch.long)
        owner[order] = torch.arange(self.number_of_tasks).repeat_interleave(
            torch.tensor([len(own) for own in self.classes_of_task])
        )
        rows = self.rows["train"]
        y = self.columns["y"][rows]
        task = owner[y]
        if self.number_of_tasks > 1:
            moved = self._moved(y, count, draw)
            # A shift by 1 to tasks - 1, modulo tasks, is each of the other tasks with equal probability.
            shift = torch.randint(1, self.number_of_tasks, (len(rows),), generator=draw)
            task = torch.where(moved, (task + shift) % self.number_of_tasks, task)
        self.tasks = [rows[task == number] for number in range(self.number_of_tasks)]
        empty = [number for number, own in enumerate(self.tasks) if not len(own)]
        if empty:
            raise UserError(f"data '{self.spec.name}': task {empty[0]} has no record to train on.", "take fewer tasks")
        self.task_of_row = torch.full((len(self.columns["x"]),), -1)
        self.task_of_row[rows] = task

    def _moved(self, y: Tensor, count: int, draw: torch.Generator) -> Tensor:
        """Training targets (N,) -> which leave their task (N,) bool: a share of each blurry class, rounded."""
        blurry = torch.zeros(count, dtype=torch.bool)
        blurry[torch.randperm(count, generator=draw)[: round(self.blurry * count)]] = True
        shuffled = torch.randperm(len(y), generator=draw)
        by_class = shuffled[y[shuffled].argsort(stable=True)]
        sizes = y.bincount(minlength=count)
        rank = torch.empty_like(y)
        rank[by_class] = torch.arange(len(y)) - (sizes.cumsum(0) - sizes)[y[by_class]]
        return blurry[y] & (rank < (self.blurry_samples * sizes).round()[y])

    def plan(self, epoch: int) -> list[Tensor]:
        """Batches of task 0, then of task 1, ...; within a task in random order."""
        batches = []
        for number, rows in enumerate(self.tasks):
            for repeat in range(self.epochs_per_task):
                draw = generator(self.seed, "order", epoch, number, repeat)
                batches += self.cut(rows[torch.randperm(len(rows), generator=draw)])
        return batches

    def present(self, columns: dict[str, Tensor], split: str) -> TaskBatch | Labelled:
        x = self.scaling(columns["x"])
        return TaskBatch(x, columns["y"], columns["task"]) if split == "train" else Labelled(x, columns["y"])
