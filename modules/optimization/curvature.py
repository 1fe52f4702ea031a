"""Hessians of a loss and what stands for them: matrices over all weights, for networks small enough to hold one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import grad

from compendium.errors import UserError

Evaluate = Callable[[], Tensor]


def flat(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    """Tensors, None for zeros, in the shapes of `like` behind equally many leading ones -> (..., n)."""
    leading = next((t.dim() - p.dim() for t, p in zip(tensors, like, strict=True) if t is not None), 0)
    shape = next((t.shape[:leading] for t in tensors if t is not None), torch.Size())
    whole = [p.new_zeros(*shape, *p.shape) if t is None else t for t, p in zip(tensors, like, strict=True)]
    return torch.cat([each.flatten(leading) for each in whole], dim=leading)


def value_and_gradient(evaluate: Evaluate, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The loss () and its gradient (n,) at the present weights."""
    with torch.enable_grad():
        loss = evaluate()
        slopes = grad(loss, weights, allow_unused=True)
    return loss.detach(), flat(slopes, weights)


def hessian(evaluate: Evaluate, weights: Sequence[Tensor]) -> Tensor:
    """Second derivatives (n, n) of the loss, one batched backward pass through its gradient."""
    with torch.enable_grad():
        slope = flat(grad(evaluate(), weights, create_graph=True, allow_unused=True), weights)
        if not slope.requires_grad:  # a loss that is linear in every weight
            return slope.new_zeros(len(slope), len(slope))
        units = torch.eye(len(slope), dtype=slope.dtype, device=slope.device)
        rows = grad(slope, weights, units, is_grads_batched=True, allow_unused=True)
    whole = flat(rows, weights)
    return (whole + whole.T) / 2


def gauss_newton(evaluate: Evaluate, weights: Sequence[Tensor], net: nn.Module) -> Tensor:
    """sum J^T S J (n, n): J the derivative of the network's outputs, S the second derivative of the loss in them.

    It is the Hessian less the curvature of the network, and positive semidefinite where the loss is convex in outputs.
    """
    return sum_over_outputs(evaluate, weights, net, through_outputs)


def fisher(evaluate: Evaluate, weights: Sequence[Tensor], net: nn.Module) -> Tensor:
    """1 / B sum_b g_b g_b^T (n, n), of the gradients g_b of single records: the empirical Fisher information.

    The loss is a mean over the B records, each of which is a row of the network's outputs.
    """
    return sum_over_outputs(evaluate, weights, net, of_records)


def through_outputs(moved: Tensor, slope: Tensor, outputs: Tensor) -> Tensor:
    """Derivatives (n, B, ...) of outputs, slope of the loss in outputs (B, ...) -> J^T S J (n, n)."""
    if not slope.requires_grad:
        return moved.new_zeros(len(moved), len(moved))
    bent = grad(slope, outputs, moved, is_grads_batched=True)[0]
    return moved.flatten(1) @ bent.flatten(1).T


def of_records(moved: Tensor, slope: Tensor, outputs: Tensor) -> Tensor:
    """Derivatives (n, B, ...) of outputs, slope of the mean loss in outputs (B, ...) -> mean of g_b g_b^T (n, n)."""
    of_each = (moved * slope.detach()).flatten(2).sum(2) * len(outputs)
    return of_each @ of_each.T / len(outputs)


def sum_over_outputs(
    evaluate: Evaluate, weights: Sequence[Tensor], net: nn.Module, part: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """A matrix (n, n) from each call of a network within the loss, added up.

    Forward derivatives are backward derivatives of backward derivatives, batched over all weights: memory for
    n times the outputs.
    """
    with torch.enable_grad(), cut(net) as calls:
        loss = evaluate()
        if not calls:
            raise UserError(f"the loss never called {type(net).__name__}, whose outputs its curvature is of.")
        slopes = grad(loss, [after for _, after in calls], create_graph=True)
        matrices = []
        for (outputs, after), slope in zip(calls, slopes, strict=True):
            probe = torch.zeros_like(outputs, requires_grad=True)
            back = flat(grad(outputs, weights, probe, create_graph=True, allow_unused=True), weights)
            units = torch.eye(len(back), dtype=back.dtype, device=back.device)
            moved = grad(back, probe, units, is_grads_batched=True)[0]
            matrices.append(part(moved, slope, after))
    whole = torch.stack(matrices).sum(0).detach()
    return (whole + whole.T) / 2


@contextmanager
def cut(net: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Calls of a network are noted: its outputs, and the leaf that goes on in their place."""
    calls: list[tuple[Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        after = outputs.detach().requires_grad_()
        calls.append((outputs, after))
        return after

    handle = net.register_forward_hook(note)
    try:
        yield calls
    finally:
        handle.remove()
