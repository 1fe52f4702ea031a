"""What an optimizer may ask of a method beyond gradients: the loss of the step, or the loss at other weights.

    asks = "gradients"     (or nothing) each step is given the gradients of its records
    asks = "closure"       (or a `step` that needs one) `step(closure)`: the closure gives loss and gradients, as often
                           as it is called
    asks = "loss"          `step(closure)`: the closure also returns the loss that the gradients are of
    asks = "evaluations"   `step(closure)`: the closure gives the loss at the present weights, as often as it is called

    fixed = ("lr",)        arguments that a method's config leaves as they are: what it says is of its own optimizer

An optimizer that has a function `watch(method)` is given the method once, before training: to see what its layers take
in and give out. `Method.descent` keeps these promises with accumulated batches, over several processes and in bf16, and
outside of a trainer any closure does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import Parameter, signature
from typing import Any, ClassVar

import torch
import torch.distributed
from torch import Tensor
from torch.optim import Optimizer

from compendium.collectives import distributed, sum_of_all
from compendium.errors import UserError
from modules.optimization.curvature import value_and_gradient

ASKED = ("gradients", "closure", "loss", "evaluations")


def asked(optimizer: Optimizer) -> str:
    """What an optimizer asks for, one of `ASKED`."""
    known = getattr(optimizer, "asks", None)
    if known is not None:
        return known
    closure = signature(optimizer.step).parameters.get("closure")
    return "closure" if closure is not None and closure.default is Parameter.empty else "gradients"


def mean_over_processes(value: Tensor) -> Tensor:
    """A figure of each process's records -> its mean; processes have equally many."""
    return sum_of_all(value) / torch.distributed.get_world_size() if distributed() else value


class StepLoss:
    """The loss of a step: the mean over its accumulated batches and over the processes."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def note(self, value: Tensor) -> Tensor:
        """The loss of one more batch of the step, given back as it came."""
        self.seen.append(value.detach())
        return value

    def closure(self, inner: Callable[[], Any]) -> Callable[[], Tensor]:
        """Lightning's closure, which computes gradients -> one that gives the loss they are of."""

        def closure() -> Tensor:
            inner()
            return self.taken()

        return closure

    def taken(self) -> Tensor:
        """The loss of the batches noted, which are forgotten."""
        mean = torch.stack(self.seen).mean()
        self.seen.clear()
        return mean_over_processes(mean)


class Evaluations:
    """The loss of a step's records at any weights: the same records and the same random draws at each evaluation.

    Values are of this process's records, with a graph where gradients are enabled; whoever compares or descends them
    over several processes takes `mean_over_processes` of the value or of its gradient.

    Args:
        loss: batch -> its loss ().
        context: what a training step is computed in, such as autocast; Lightning enters it for the first evaluation.
    """

    def __init__(
        self, loss: Callable[[Any], Tensor], context: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self.loss, self.context = loss, context
        self.batches: list[tuple[Any, list[Tensor]]] = []
        self.differentiable = False
        self.latest: Tensor | None = None
        self.terms: dict[str, Tensor] = {}
        """What the log says of the step: the terms at its start, and not of wherever it was evaluated last."""

    def note(self, batch: Any) -> Tensor:
        """One more batch of the step -> its loss, for the log."""
        self.batches.append((batch, states()))
        with torch.set_grad_enabled(self.differentiable):
            self.latest = self.loss(batch)
        return self.latest.detach()

    def closure(self, inner: Callable[[], Any]) -> Callable[[], Tensor]:
        """Lightning's closure -> one that evaluates. Its first call is Lightning's own: nothing is done twice."""
        fresh = True

        def closure() -> Tensor:
            nonlocal fresh
            if fresh:
                fresh = False
                self.differentiable = torch.is_grad_enabled()
                try:
                    inner()
                finally:
                    self.differentiable = False
                assert self.latest is not None
                last, self.latest = self.latest, None
                return torch.stack([*map(self.again, self.batches[:-1]), last]).mean()
            return torch.stack([*map(self.again, self.batches)]).mean()

        return closure

    def gradients(self, inner: Callable[[], Any], parameters: list[Tensor]) -> Callable[[], Tensor]:
        """Lightning's closure -> one that also leaves gradients, as often as it is called: means over the processes."""
        evaluate = self.closure(inner)

        def closure() -> Tensor:
            trained = [parameter for parameter in parameters if parameter.requires_grad]
            value, slopes = value_and_gradient(evaluate, trained)
            whole = mean_over_processes(slopes)
            for parameter, slope in zip(trained, whole.split([p.numel() for p in trained]), strict=True):
                parameter.grad = slope.view_as(parameter).to(parameter.dtype)
            return mean_over_processes(value)

        return closure

    def again(self, noted: tuple[Any, list[Tensor]]) -> Tensor:
        """The loss of a batch at the weights as they are now, with the draws that it was first seen with."""
        batch, drawn = noted
        restore(drawn)
        with self.context():
            return self.loss(batch)

    def clear(self) -> None:
        """Forget the step's records."""
        self.batches.clear()


class EvaluatingOptimizer(Optimizer):
    """Parent of optimizers that evaluate the loss where they like: `descend(evaluate)` is what a subclass overrides."""

    asks: ClassVar[str] = "evaluations"
    evaluations: Evaluations | None = None

    @property
    def effort(self) -> dict[str, float]:
        """What the log says of the work so far, by name."""
        return {}

    def descend(self, evaluate: Callable[[], Tensor]) -> Tensor:
        """One step -> the loss of its first evaluation. Gradients are off; `torch.enable_grad` where they matter."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Tensor:  # type: ignore[override]
        """One step.

        Args:
            closure: the loss at the weights as they are; without a backward pass.

        Raises:
            UserError: no closure.
        """
        if closure is None:
            raise UserError(f"{type(self).__name__} evaluates the loss.", "optimizer.step(closure)")
        if self.evaluations is None:
            return self.descend(closure)
        try:
            return self.descend(self.evaluations.closure(closure))
        finally:
            self.evaluations.clear()


def differentiated() -> bool:
    """Whether a network is called to be differentiated or vectorised, amid evaluations without gradients."""
    return torch.is_grad_enabled() or torch._C._functorch.peek_interpreter_stack() is not None


def states() -> list[Tensor]:
    """The states of torch's generators."""
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *on_devices]


def restore(noted: list[Tensor]) -> None:
    """Put torch's generators back into noted states."""
    torch.set_rng_state(noted[0])
    if len(noted) > 1:
        torch.cuda.set_rng_state_all(noted[1:])
