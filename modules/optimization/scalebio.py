"""ScaleBiO: weights of data sources by gradients alone, from a minimax problem in three sets of variables."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from modules.method import Method
from modules.optimization.bilevel import LOWER, UPPER, BilevelMethod


class ScaleBiO(BilevelMethod):
    """Solves a bilevel problem as min over x and w, max over u, of

        F(x, w) + alpha (g(x, w) - g(x, u))

    by simultaneous steps on all three, whose gradients are those of one step's records: g of w and of u sees the same
    training records, and F a draw of validation records. u learns the training loss alone, w is drawn to what
    validation wants by 1 / alpha, and alpha times the difference of their slopes by x is the hypergradient's term. The
    problem is `reweighting` with the law `softmax`: x are the logits of the sources.

    Blocks (LISA): of the layers between the first and the last, only `layers` random ones are trained, drawn anew for w
    and for u every `period` steps; the first and the last always are.

    Pan et al. 2024, "ScaleBiO: scalable bilevel optimization for LLM data reweighting"; the minimax problem, the order
    of the steps, the weights per source and their normalisation within a batch, and the draw of blocks as in the
    authors' code (2003pro/ScaleBiO: minmax.py, samp_p.py).

    Deviations: (1) alpha is constant, as in the code's scripts (tau = 1); (2) one optimizer for all three with the same
    decay, where the code has none on x; (3) layers are those of `net`, on vectors or pictures.

    Args:
        alpha: of the penalty (the code's script for GPT-2: 10).
        ratio: rate of w and u over the rate of x (that script: 1e-5 over 1e-2).
        layers: how many inner layers are trained at a time (the code: 2); None: all, without blocks.
        period: steps between two draws of layers (the code's `lisa_step`).
        learn: whether x is learned; False leaves all sources at equal weight, and u out: uniform sampling.
        parts: see `BilevelMethod`; lower_rate, lower_steps and fresh have no meaning here.

    Raises:
        UserError: numbers out of range, fewer inner layers than are to be trained.
    """

    papers = ("pan2024scalebio",)

    active: Tensor
    seed: Tensor

    def __init__(
        self,
        *arguments: Any,
        alpha: float = 10.0,
        ratio: float = 0.1,
        layers: int | None = None,
        period: int = 5,
        learn: bool = True,
        **parts: Any,
    ) -> None:
        super().__init__(*arguments, **parts)
        if not alpha > 0 or not ratio > 0 or period < 1:
            raise UserError(f"model.alpha={alpha} ratio={ratio} period={period}: above 0, and at least one step.")
        self.alpha, self.ratio, self.period, self.learn, self.active_layers = alpha, ratio, period, learn, layers
        self.twin = copy.deepcopy(self.net)
        self.net.requires_grad_(True)
        self.twin.requires_grad_(learn)
        self.x.requires_grad_(learn)
        self.net.rate_scale = self.twin.rate_scale = ratio  # type: ignore[assignment]
        inner = len(self.blocks(self.net))
        if layers is not None and not 1 <= layers <= inner:
            raise UserError(
                f"model.layers={layers}: the network has {inner} layers between its first and its last.",
                "fewer, or null for no blocks",
            )
        self.register_buffer("active", torch.ones(2, inner, dtype=torch.bool))
        self.register_buffer("seed", torch.randint(2**31, ()))  # of draws that are the same in every process

    @staticmethod
    def blocks(net: nn.Module) -> list[nn.Module]:
        """The modules with weights of their own, without the first and the last."""
        return [module for module in net.modules() if list(module.parameters(recurse=False))][1:-1]

    def draw(self, step: int) -> None:
        """Layers to train from a step on until the next draw, of w and of u."""
        generator = torch.Generator().manual_seed(int(self.seed) + step)
        for row in self.active:
            row.fill_(False)[torch.randperm(len(row), generator=generator)[: self.active_layers]] = True

    def frozen(self) -> set[nn.Parameter]:
        """Weights that are not trained at the moment."""
        return {
            weight
            for net, row in zip((self.net, self.twin), self.active.tolist(), strict=True)
            for block, on in zip(self.blocks(net), row, strict=True)
            if not on
            for weight in block.parameters(recurse=False)
        }

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.active_layers is not None and self.trainer.global_step % self.period == 0:
            self.draw(self.trainer.global_step)
        value = Method.training_step(self, batch, batch_idx)
        used = len(batch[0]) * (2 if self.learn else 1) + (self.upper_batch or len(self._upper[0]))
        self.calls[0] += used
        self.terms["gradients"] = self.calls[0].clone()
        return value

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """The terms, whose gradient by u is that of a descent of g(x, u), as a maximiser's is.

        Its scale is alpha, as in the code.
        """
        batch, problem = self.prepared(batch), self.problem
        weights, twin = dict(self.net.named_parameters()), dict(self.twin.named_parameters())
        upper = batch if self._upper is None else self.upper_records()
        terms = {UPPER: problem.upper(self.x, weights, upper)}
        if not self.learn:
            return terms | {LOWER: self.alpha * problem.lower(self.x, weights, batch)}
        fixed = {name: weight.detach() for name, weight in twin.items()}
        gap = problem.lower(self.x, weights, batch) - problem.lower(self.x, fixed, batch)
        own = problem.lower(self.x.detach(), twin, batch)
        return terms | {"gap": self.alpha * gap, "twin": self.alpha * (own - own.detach())}

    def hypergradient(self, x: Tensor, batch: Any) -> Tensor:
        """alpha (grad_x g(x, w) - grad_x g(x, u)) + grad_x F(x, w) at w and u as they are (p,)."""
        u = torch.nn.utils.parameters_to_vector(self.twin.parameters())
        by_w, by_u = (self.gradients(LOWER, x, y, batch)[0] for y in (self.y, u))
        return self.gradients(UPPER, x, self.y, self.upper_records())[0] + self.alpha * (by_w - by_u)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        # A weight without a gradient keeps its value and its moments, as one that is frozen does in the code.
        closure = options.get("optimizer_closure", arguments[3] if len(arguments) > 3 else None)

        def masked() -> Any:
            value = closure()
            for weight in self.frozen():
                weight.grad = None
            return value

        if closure is not None:
            arguments = (*arguments[:3], masked)
            options.pop("optimizer_closure", None)
        super().optimizer_step(*arguments, **options)
