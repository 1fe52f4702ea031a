"""Learning without Forgetting: the network before a task teaches the one that learns it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import TaskBatch
from datamodules.spec import DataSpec
from modules.supervised.classifier import SoftmaxClassifier


class LearningWithoutForgetting(SoftmaxClassifier):
    """Cross-entropy on the task at hand, and distillation from the network as it was before the task:

        loss = CE(y, o) - distillation * sum_{k in old} p_k log q_k
        p = softmax(o'_old / T), q = softmax(o_old / T)

    with logits o of the network, o' of its frozen copy from the end of the task before, and `old` the classes that
    earlier tasks have shown. No record of an earlier task is kept. In the first task there is nothing to distil.

    Li and Hoiem 2016, "Learning without Forgetting", equations 2 and 3, in its class-incremental form.

    Deviations: (1) one output layer for all classes instead of one per task; (2) no warm-up of the new outputs alone.

    Args:
        spec: labelled data.
        distillation: weight of the second term, at least 0 (the paper's lambda_o: 1).
        temperature: T, above 0 (the paper: 2).
        parts: see `SoftmaxClassifier`.

    Raises:
        UserError: a weight or temperature out of range.
    """

    task: Tensor
    seen: Tensor
    old: Tensor

    batch_type = TaskBatch

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        distillation: float = 1.0,
        temperature: float = 2.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if distillation < 0 or temperature <= 0:
            raise UserError(
                f"model.distillation={distillation} and model.temperature={temperature}: "
                "at least 0 the one, above 0 the other."
            )
        self.distillation, self.temperature = distillation, temperature
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)
        classes = len(self.spec.classes)
        self.register_buffer("task", torch.tensor(-1))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))
        self.register_buffer("old", torch.zeros(classes, dtype=torch.bool))

    def loss(self, batch: TaskBatch) -> dict[str, Tensor]:
        if batch.task[0] != self.task:
            self.begin(batch.task[0])
        self.seen[batch.y] = True
        logits = self.net(batch.x)
        terms = {"cross_entropy": F.cross_entropy(logits, batch.y, label_smoothing=self.label_smoothing)}
        if self.old.any():
            with torch.no_grad():
                taught = (self.teacher(batch.x)[:, self.old] / self.temperature).softmax(1)
            learned = (logits[:, self.old] / self.temperature).log_softmax(1)
            terms["distillation"] = -self.distillation * (taught * learned).sum(1).mean()
        return terms

    def begin(self, task: Tensor) -> None:
        """A new task: the network as it is becomes the teacher, and what was seen becomes old."""
        self.teacher.load_state_dict(self.net.state_dict())
        self.old.copy_(self.seen)
        self.task.copy_(task)
