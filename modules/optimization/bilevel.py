"""Bilevel optimization: what all methods have in common is the problem, the oracles, and their count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method, mean_of_all
from modules.optimization.problems import Problem, Solution

UPPER, LOWER = "upper", "lower"


class BilevelMethod(Method, ABC):
    """min over x of F(x, y*(x)) such that y*(x) minimises g(x, y).

    F is a loss on the validation split and g one on the training split, of weights y of a network. A step is given a
    batch of training records, moves the lower level's weights, estimates the gradient of F(x, y*(x)) by x, and leaves
    the step of x to the optimizer. A subclass overrides `hypergradient`.

    Figures are counted in records: a gradient on a batch of B records adds B to `gradients`, a product of a vector with
    second derivatives adds B to `hessians`.

    Args:
        spec: labelled data.
        problem: config of a `Problem`, its `spec` and `net` left open (`problem=...`).
        lower_rate: of the gradient steps of the lower level.
        lower_steps: of the lower level per step.
        upper_batch: validation records per gradient of F, drawn with replacement; None: all.
        fresh: whether each gradient of the lower level sees records of its own, a part of the step's batch; otherwise
            all of them see the whole batch.
        precise: whether to compute in float64.
        parts: `net`, `optimizer` (of x), `schedule`, see `Method`.

    Raises:
        UserError: numbers out of range, an optimizer that asks for more than gradients.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class", "real")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        problem: Mapping[str, Any],
        lower_rate: float = 0.5,
        lower_steps: int = 10,
        upper_batch: int | None = None,
        fresh: bool = False,
        precise: bool = True,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if not lower_rate > 0 or lower_steps < 1 or (upper_batch is not None and upper_batch < 1):
            raise UserError(
                f"model.lower_rate={lower_rate} lower_steps={lower_steps} upper_batch={upper_batch}: "
                "a rate above 0, and at least one step and record."
            )
        self.lower_rate, self.lower_steps = lower_rate, lower_steps
        self.upper_batch, self.fresh, self.precise = upper_batch, fresh, precise
        self.net = self.build(self.spec.shape, (max(len(self.spec.classes), 1),)).requires_grad_(False)
        self.net.to(self.dtype_of_all)
        self.problem: Problem = instantiate(problem, where="problem", spec=self.spec, net=self.net)
        self.x = nn.Parameter(self.problem.start().to(self.dtype_of_all))
        self.names = [name for name, _ in self.net.named_parameters()]
        self.shapes = [weight.shape for _, weight in self.net.named_parameters()]
        for name, value in (("shift", 0.0), ("scale", 1.0), ("error", 1.0)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros(2, dtype=torch.float64))
        self._upper: Any = None

    @property
    def dtype_of_all(self) -> torch.dtype:
        return torch.float64 if self.precise else torch.float32

    # What a method overrides

    @abstractmethod
    def hypergradient(self, x: Tensor, batch: Any) -> Tensor:
        """Training records -> an estimate of the gradient of F(x, y*(x)) by x (p,); moves the lower level's weights."""

    # Weights of the lower level

    @property
    def y(self) -> Tensor:
        """The network's weights (q,)."""
        return parameters_to_vector(self.net.parameters())

    @y.setter
    def y(self, value: Tensor) -> None:
        vector_to_parameters(value, self.net.parameters())

    def named(self, y: Tensor) -> dict[str, Tensor]:
        """Weights (q,) -> by name, in their shapes."""
        parts = y.split([shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    # Oracles

    def gradients(self, level: str, x: Tensor, y: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """Gradients of F (`upper`) or g (`lower`) on a batch by x (p,) and y (q,)."""
        self.calls[0] += len(batch[0])
        with torch.enable_grad():
            points = x.detach().requires_grad_(), y.detach().requires_grad_()
            value = getattr(self.problem, level)(points[0], self.named(points[1]), batch)
            found = torch.autograd.grad(value, points, materialize_grads=True)
        self.terms[level] = value.detach()
        return mean_of_all(found)  # type: ignore[return-value]

    def products(self, x: Tensor, y: Tensor, v: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """v (q,) -> its products with the second derivatives of g, by x and y (p,) and twice by y (q,)."""
        self.calls[1] += len(batch[0])
        with torch.enable_grad():
            points = x.detach().requires_grad_(), y.detach().requires_grad_()
            value = self.problem.lower(points[0], self.named(points[1]), batch)
            slope = torch.autograd.grad(value, points[1], create_graph=True)[0]
            found = torch.autograd.grad(slope @ v, points, materialize_grads=True)
        return mean_of_all(found)  # type: ignore[return-value]

    def lower_batches(self, batch: Any, n: int) -> list[Any]:
        """What n gradients of g see of the step's batch: all of it, or a part each.

        Raises:
            UserError: fewer records than parts.
        """
        if not self.fresh:
            return [batch] * n
        if len(batch[0]) < n:
            raise UserError(
                f"{n} gradients of a step take fresh records, and a batch has {len(batch[0])}.",
                "datamodule.batch_size, model.lower_steps or model.fresh=false",
            )
        columns = (column.tensor_split(n) for column in batch)
        return [type(batch)(*parts) for parts in zip(*columns, strict=True)]

    def upper_records(self) -> Any:
        """What a gradient of F sees: all validation records, or some of them."""
        if self.upper_batch is None:
            return self._upper
        rows = torch.randint(len(self._upper[0]), (self.upper_batch,)).to(self._upper[0].device)
        return type(self._upper)(*(column[rows] for column in self._upper))

    # Training

    def on_fit_start(self) -> None:
        """Take the units of a real target, and all validation records."""
        data = self.trainer.datamodule
        if not self.spec.classes:
            targets = data.columns["y"][data.rows["train"]].double()
            self.shift.fill_(targets.mean())
            self.scale.fill_(targets.std(correction=0).clamp_min(1e-12))
        upper = data.records("validation")
        if not len(upper[0]):
            raise UserError(f"{type(self).__name__} learns from validation records, and there are none.")
        self._upper = self.prepared(type(upper)(*(column.to(self.device) for column in upper)))

    def prepared(self, batch: Any) -> Any:
        """A batch in the precision of the weights and the units of the target."""
        batch = batch._replace(x=batch.x.to(self.dtype_of_all))
        return batch if self.spec.classes else batch._replace(y=(batch.y - self.shift) / self.scale)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.terms = {}
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            estimate = self.hypergradient(self.x.detach(), self.prepared(batch))
        self.terms["gradients"], self.terms["hessians"] = self.calls.clone().unbind()
        return (self.x * estimate).sum()  # whose gradient by x is the estimate

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        with torch.no_grad():
            self.x.copy_(self.projected(self.x))

    def projected(self, x: Tensor) -> Tensor:
        """x (p,) -> the nearest upper variables within the problem's bounds."""
        return x if self.problem.bounds is None else x.clamp(*self.problem.bounds)

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """g, and F on the same records, where x and y are now."""
        batch = self.prepared(batch)
        weights = dict(self.net.named_parameters())
        return {LOWER: self.problem.lower(self.x, weights, batch), UPPER: self.problem.upper(self.x, weights, batch)}

    def answer(self, optimizer: Any) -> None:
        super().answer(optimizer)
        if self.asking is not None:
            raise UserError(
                f"{type(optimizer).__name__} asks for more than an estimate of the gradient.", "optimizer=sgd, or adam"
            )

    @torch.no_grad()
    def on_train_epoch_end(self) -> None:
        if not self.spec.classes:
            self.error.copy_((self.net(self._upper.x)[:, 0] - self._upper.y).square().mean().sqrt())

    # Use

    @torch.no_grad()
    def bilevel(self, lower: Any, upper: Any) -> dict[str, float]:
        """Figures on all records of both levels, see the evaluation `BilevelProblem`."""
        lower, upper = self.prepared(lower), self.prepared(upper)
        weights = dict(self.net.named_parameters())
        figures = {
            "upper_loss": float(self.problem.upper(self.x, weights, upper)),
            "lower_loss": float(self.problem.lower(self.x, weights, lower)),
            "gradients": float(self.calls[0]),
            "hessians": float(self.calls[1]),
        }
        solution = self.problem.solution(self.x.detach(), lower, upper)
        if solution is not None:
            figures |= self.compared(solution, lower, upper)
        return figures

    def compared(self, solution: Solution, lower: Any, upper: Any) -> dict[str, float]:
        """The estimate on all records, from where the lower level is, beside the true gradient."""
        state = {name: value.clone() for name, value in self.state_dict().items()}
        settings = self._upper, self.upper_batch, self.fresh
        self._upper, self.upper_batch, self.fresh = upper, None, False
        error = (self.hypergradient(self.x.detach(), lower) - solution.gradient).norm()
        self._upper, self.upper_batch, self.fresh = settings
        self.load_state_dict(state)
        return {
            "hyperobjective": float(solution.value),
            "hypergradient_norm": float((self.x - self.projected(self.x - solution.gradient)).norm()),
            "hypergradient_error": float(error),
            "log_hypergradient_error": float(error.clamp_min(1e-300).log10()),
        }

    def source_weights(self) -> Tensor | None:
        """Weights of the sources (sources,); None where the problem has none."""
        weights = getattr(self.problem, "source_weights", None)
        return None if weights is None else weights(self.x.detach())

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, classes)."""
        return self.net(x.to(self.dtype_of_all)).log_softmax(1).float()

    def predict_distribution(self, x: Tensor) -> Normal:
        """x (B, ...) -> Normal with batch shape (B,), of the spread of the validation errors, in the target's units."""
        mean = self.shift + self.scale * self.net(x.to(self.dtype_of_all))[:, 0]
        return Normal(mean.float(), (self.scale * self.error).clamp_min(1e-12).float(), validate_args=False)
