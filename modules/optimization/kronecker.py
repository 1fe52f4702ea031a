"""What optimizers share that keep one matrix per side of a tensor, and so precondition with a Kronecker product."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from compendium.errors import UserError

LARGEST = 2**26
"""Most numbers of a stack of gradients: 256 MB in float32, beyond which a batch gains nothing and only costs memory."""


class KroneckerOptimizer(Optimizer):
    """Parent of optimizers with a matrix per side: it stacks tensors of equal shape, so that a step is batched.

    A subclass overrides `start` and `direction`. Each step is theta <- (1 - lr * weight_decay) theta - lr * direction,
    with decoupled decay in the order of AdamW. State is computed and kept in float32, in float64 for weights in
    float64; it holds tensors and plain integers, never changes in place, and so a `state_dict` stays what it was.

    Tensors with two sides or more have a matrix for each side up to `max_precond_dim`. Whole tensors are needed: the
    shards of FSDP are flat and have no sides, so that a step would be Adam's.

    Args:
        params: tensors, or groups of them with arguments of their own.
        lr: learning rate.
        betas: decay of the first moment, and of second moment and matrices.
        eps: what is added to the root of the second moment.
        weight_decay: decoupled decay.
        precondition_frequency: steps from one decomposition of the matrices to the next.
        max_precond_dim: largest side that has a matrix.
        more: the subclass's own.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: Sequence[float],
        eps: float,
        weight_decay: float,
        precondition_frequency: int,
        max_precond_dim: int,
        **more: float,
    ) -> None:
        for name, value in {"lr": lr, "eps": eps, "weight_decay": weight_decay, **more}.items():
            if value < 0:
                raise UserError(f"optimizer.{name}={value}: it is at least 0.")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"optimizer.betas={list(betas)}: two numbers in [0, 1).")
        if precondition_frequency < 1:
            raise UserError(f"optimizer.precondition_frequency={precondition_frequency}: at least every step, 1.")
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "precondition_frequency": precondition_frequency,
            "max_precond_dim": max_precond_dim,
        }
        super().__init__(params, defaults | more)

    # What a subclass overrides

    def start(self, gradients: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        """Gradients (B, ...) of the first step -> the state before it, by name, (B, ...) each."""
        raise NotImplementedError

    def direction(
        self, gradients: Tensor, state: dict[str, Tensor], step: int, group: Mapping[str, Any]
    ) -> Tensor | None:
        """Gradients (B, ...) of step 1, 2, ... -> what is subtracted (B, ...), None for no step; renews the state."""
        raise NotImplementedError

    # What torch and Lightning call

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step on all tensors that have a gradient; the closure's value, if there is a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameters in self._stacks(group["params"]):
                self._update(parameters, group)
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # type: ignore[override]
        """As torch's, which would also round the state to the type of the weights."""
        super().load_state_dict(dict(state_dict))
        names = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for name, parameter in zip(names, parameters, strict=True):
            for key, value in state_dict["state"].get(name, {}).items():
                if isinstance(value, Tensor):
                    self.state[parameter][key] = value.to(parameter.device)

    def _stacks(self, parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
        """Tensors with a gradient, those of one shape and age together."""
        alike = defaultdict(list)
        for parameter in parameters:
            if parameter.grad is not None:
                age = self.state[parameter].get("step", 0)
                alike[parameter.shape, parameter.dtype, parameter.device, age].append(parameter)
        for stack in alike.values():
            count = max(1, LARGEST // max(1, stack[0].numel()))
            yield from (stack[first : first + count] for first in range(0, len(stack), count))

    def _update(self, parameters: list[Tensor], group: Mapping[str, Any]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        dtype = parameters[0].dtype
        gradients = torch.stack([parameter.grad for parameter in parameters])  # type: ignore[misc]
        gradients = gradients.to(torch.promote_types(dtype, torch.float32))
        step = states[0].get("step", 0) + 1
        if step == 1:
            stacked = self.start(gradients, group)
        else:
            stacked = {name: torch.stack([state[name] for state in states]) for name in states[0] if name != "step"}
        direction = self.direction(gradients, stacked, step, group)
        for index, parameter in enumerate(parameters):
            self.state[parameter] = {"step": step} | {name: values[index] for name, values in stacked.items()}
        if direction is None:
            return
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(direction.to(dtype).unbind()), alpha=-group["lr"])


def sides_of(x: Tensor, largest: int) -> list[int]:
    """Which sides of the tensors of a stack (B, ...) have a matrix: those up to a size, none of a vector."""
    shape = x.shape[1:]
    return [side for side, size in enumerate(shape) if size <= largest] if len(shape) > 1 else []


def outer(x: Tensor, side: int) -> Tensor:
    """X X^T (B, d, d) of each tensor of a stack, unfolded along a side of size d to X (B, d, rest)."""
    unfolded = x.movedim(side + 1, 1).flatten(2)
    return unfolded @ unfolded.mT


def multiply(x: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """The tensors of a stack (B, d1, ..., dn), each side k multiplied by M_k^T (B, d_k, d_k), None for the identity.

    For matrices: M_1^T X M_2.
    """
    if not any(matrix is not None for matrix in matrices):
        return x
    for matrix in matrices:  # the foremost side is multiplied and goes last; after all of them they stand as before
        rest = x.shape[2:]
        x = x.flatten(2).mT
        x = (x if matrix is None else x @ matrix).unflatten(1, rest)
    return x


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, d), ascending, and eigenvectors (B, d, d) in columns, of symmetric matrices (B, d, d).

    In float64 where the decomposition does not converge in float32.

    Raises:
        UserError: a matrix holds a number that is not finite.
    """
    try:
        return torch.linalg.eigh(matrices)
    except torch.linalg.LinAlgError:
        if not matrices.isfinite().all():
            raise UserError(
                "the optimizer met a gradient that is not finite.",
                "Lower optimizer.lr, or clip: trainer.gradient_clip_val=1",
            ) from None
        values, vectors = torch.linalg.eigh(matrices.double())
        return values.to(matrices.dtype), vectors.to(matrices.dtype)
