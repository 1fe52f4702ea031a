"""Generalised equilibrium propagation: errors from the response of a fixed point to a complex nudge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method

ERRORS = ("nudge", "adjoint")


def activation(u: Tensor) -> Tensor:
    """1 / (1 + exp(2 - 4 u)), real or complex: between 0 and 1 with the slope 1 in the middle."""
    return 1 / (1 + torch.exp(2 - 4 * u))


def softmax(z: Tensor) -> Tensor:
    """exp(z) / sum exp(z) over the last dimension, real or complex."""
    power = torch.exp(z - z.real.amax(-1, keepdim=True))
    return power / power.sum(-1, keepdim=True)


class EquilibriumPropagation(Method):
    """A classifier that is the fixed point of a recurrent network, learned from the fixed point's response to a nudge.

    Layers s_1 .. s_depth and s_out, together s, with s = activation(u) and a readout p = softmax(A s_out + c):

        u* = R s* + W x + b + beta dL/ds_out,   L = -log p(y)

    R holds weights from each layer to the next and back, W reads the record into the first. At beta = 0 it is the
    network in use. The errors are the response delta = ds*/dbeta at 0, estimated from N nudges on a circle, exactly for
    a response that is analytic within it but for terms of order |beta|^N (Cauchy's integral, N-point trapezoid):

        delta = 1 / (N |beta|) sum_n s*(|beta| exp(2 pi i n / N)) exp(-2 pi i n / N)      N >= 2
        delta = (s*(beta) - s*(0)) / beta                                                   N = 1

    and the gradient by weights is delta' d(R s + W x + b), at s* held fixed; the readout has its own. With D the slopes
    of the activation, delta = (D^-1 - R)^-1 dL/ds, and backpropagation's errors are (D^-1 - R')^-1 dL/ds (`adjoint`):
    the same where R is symmetric, as with `tied` weights. Without, homeostasis adds

        homeostasis * E_eps[|R eps|^2 - eps' R^2 eps] / units = homeostasis * |R - R'|^2 / (2 units)

    over normal draws of eps; R is the Jacobian of the field by the activities, up to symmetric terms.

    Laborieux and Zenke 2024, "Improving equilibrium propagation without weight symmetry through Jacobian homeostasis";
    field, activation, nudges, loss and its division by the number of units as in the authors' code
    (Laborieux-Axel/generalized-holo-ep, its multilayer perceptron).

    Deviations: (1) a perceptron alone, no convolutional network and no loop; (2) weights start as torch's linear
    layers do; (3) draws of eps are not tied to records, as R is the same for all.

    Args:
        spec: labelled data with at least two classes.
        width: units of a hidden layer.
        depth: hidden layers.
        errors: `nudge`, or `adjoint` for backpropagation through the fixed point.
        phases: N; 0: the limit of small nudges, by a linear solve.
        beta: size of the nudge (the code: 0.05 and 0.5 in its first table, 1 for convolutions).
        tied: whether weights back are the transposed weights forth.
        homeostasis: weight of the penalty of asymmetry (the code: 0.1 to 15).
        draws: of eps per step (the code: 5 per record).
        free_steps: towards u* from u = 0 (the code: 150 for a perceptron).
        nudged_steps: from u* on, with a nudge (the code: 20).
        parts: `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown kind of errors, or numbers out of range.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)
    otherwise = "for a real target: model=supervised/regressor"
    papers = ("laborieux2024improving",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        width: int = 64,
        depth: int = 2,
        errors: str = "nudge",
        phases: int = 4,
        beta: float = 0.5,
        tied: bool = False,
        homeostasis: float = 1.0,
        draws: int = 64,
        free_steps: int = 60,
        nudged_steps: int = 20,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if errors not in ERRORS:
            raise UserError(f"model.errors={errors}: there are none of that name.", f"one of {', '.join(ERRORS)}")
        if min(width, depth, draws, free_steps, nudged_steps) < 1 or phases < 0 or beta <= 0 or homeostasis < 0:
            raise UserError(
                f"model.width={width} depth={depth} draws={draws} free_steps={free_steps} nudged_steps={nudged_steps} "
                f"phases={phases} beta={beta} homeostasis={homeostasis}: sizes and beta above 0, the others at least 0."
            )
        self.errors, self.phases, self.beta, self.homeostasis = errors, phases, beta, homeostasis
        self.draws, self.free_steps, self.nudged_steps = draws, free_steps, nudged_steps
        classes = len(self.spec.classes)
        self.sizes = [width] * depth + [classes]
        self.inward = nn.Linear(self.spec.dimensions, width)
        pairs = list(zip(self.sizes, self.sizes[1:], strict=False))
        self.forth = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.back = None if tied else nn.ModuleList(nn.Linear(*pair[::-1], bias=False) for pair in pairs)
        self.readout = nn.Linear(classes, classes)

    # The network

    def recurrent(self) -> Tensor:
        """R (units, units): row i holds what unit i hears."""
        forth = [layer.weight for layer in self.forth]
        back = [weight.T for weight in forth] if self.back is None else [layer.weight for layer in self.back]
        rows = []
        for place, size in enumerate(self.sizes):
            blocks = [forth[0].new_zeros(size, other) for other in self.sizes]
            if place:
                blocks[place - 1] = forth[place - 1]
            if place < len(back):
                blocks[place + 1] = back[place]
            rows.append(torch.cat(blocks, 1))
        return torch.cat(rows)

    def drive(self, x: Tensor) -> Tensor:
        """x (B, ...) -> W x + b (B, units)."""
        biases = [layer.bias.expand(len(x), -1) for layer in self.forth]
        return torch.cat([self.inward(x.flatten(1)), *biases], 1)

    def slope(self, s: Tensor, target: Tensor) -> Tensor:
        """dL/ds (..., B, units) at s, zero but for the output's units; target one-hot (B, classes)."""
        weight, bias = self.readout.weight.to(s.dtype), self.readout.bias.to(s.dtype)
        g = (softmax(s[..., -target.shape[1] :] @ weight.T + bias) - target) @ weight
        return F.pad(g, (s.shape[-1] - target.shape[1], 0))

    def settle(
        self, R: Tensor, drive: Tensor, u: Tensor, steps: int, beta: Tensor | None = None, target=None
    ) -> Tensor:
        """`steps` of the dynamics from u (..., B, units), with nudges beta (..., 1, 1) or none."""
        R = R.to(u.dtype).T
        for _ in range(steps):
            s = activation(u)
            u = drive + s @ R
            if beta is not None and target is not None:
                u = u + beta * self.slope(s, target)
        return u

    # The errors

    def response(self, R: Tensor, s: Tensor, g: Tensor) -> Tensor:
        """(D^-1 - R)^-1 g (B, units) at activities s (B, units)."""
        slopes = 4 * s * (1 - s)
        system = torch.eye(len(R), dtype=R.dtype, device=R.device) - slopes[:, :, None] * R
        return torch.linalg.solve(system, slopes * g)

    def nudged(self, R: Tensor, drive: Tensor, u: Tensor, target: Tensor) -> Tensor:
        """delta (B, units) from the fixed point u (B, units) and its nudges."""
        if self.phases == 0:
            s = activation(u)
            return self.response(R, s, self.slope(s, target))
        signs = torch.tensor([1.0, -1.0] if self.phases % 2 == 0 else [1.0], dtype=u.dtype, device=u.device)
        ends = self.moved(R, drive, u, target, signs)
        if self.phases == 1:
            return (ends[0] - activation(u)) / self.beta
        total = (signs[:, None, None] * ends).sum(0)
        if self.phases > 2:  # the upper half of the circle, without its real ends
            turn = torch.arange(1, (self.phases + 1) // 2, device=u.device).to(u.dtype) * 2 * math.pi / self.phases
            circle = torch.complex(turn.cos(), turn.sin())
            total = total + 2 * (self.moved(R, drive, u, target, circle) * circle.conj()[:, None, None]).real.sum(0)
        return torch.nan_to_num(total / (self.phases * self.beta))  # as in the code, for nudges that ran away

    def moved(self, R: Tensor, drive: Tensor, u: Tensor, target: Tensor, places: Tensor) -> Tensor:
        """Activities (K, B, units) that nudges beta * places (K,) lead to from the fixed point u (B, units)."""
        start = u.to(places.dtype).expand(len(places), *u.shape)
        return activation(self.settle(R, drive, start, self.nudged_steps, self.beta * places[:, None, None], target))

    def error(self, R: Tensor, drive: Tensor, u: Tensor, target: Tensor) -> Tensor:
        """The errors (B, units) that the weights learn from."""
        if self.errors == "nudge":
            return self.nudged(R, drive, u, target)
        s = activation(u)
        return self.response(R.T, s, self.slope(s, target))

    def loss(self, batch: Labelled) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, enabled=False):  # a fixed point in bfloat16 is none
            x = batch.x.to(self.readout.weight.dtype)
            R, drive = self.recurrent(), self.drive(x)
            with torch.no_grad():
                u = self.settle(R, drive, torch.zeros_like(drive), self.free_steps)
                target = F.one_hot(batch.y, self.sizes[-1]).to(u.dtype)
                delta, s = self.error(R, drive, u, target), activation(u)
            push = (delta * (drive + s @ R.T)).sum() / len(x)
            value = F.cross_entropy(self.readout(s[:, -self.sizes[-1] :]), batch.y)
            terms = {"cross_entropy": value + (push - push.detach())}
            if self.homeostasis and self.back is not None:
                terms["homeostasis"] = self.homeostasis * asymmetry(R, self.draws)
        return terms

    @torch.no_grad()
    def alignment(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, ...), y int64 (B,) -> cosine of the errors and backpropagation's, per layer (B, depth + 1)."""
        R, drive = self.recurrent(), self.drive(x)
        u = self.settle(R, drive, torch.zeros_like(drive), self.free_steps)
        target, s = F.one_hot(y, self.sizes[-1]).to(u.dtype), activation(u)
        own = self.error(R, drive, u, target).split(self.sizes, 1)
        true = self.response(R.T, s, self.slope(s, target)).split(self.sizes, 1)
        return torch.stack([F.cosine_similarity(*pair, eps=1e-30) for pair in zip(own, true, strict=True)], 1)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, classes)."""
        drive = self.drive(x)
        u = self.settle(self.recurrent(), drive, torch.zeros_like(drive), self.free_steps)
        return self.readout(activation(u)[:, -self.sizes[-1] :]).float().log_softmax(1)


def asymmetry(R: Tensor, draws: int) -> Tensor:
    """An unbiased estimate of |R - R'|^2 / (2 units) of R (units, units), from products with normal draws."""
    eps = torch.randn(draws, len(R), dtype=R.dtype, device=R.device)
    once = eps @ R.T
    return (once.square().sum(1) - (eps * (once @ R.T)).sum(1)).mean() / len(R)
