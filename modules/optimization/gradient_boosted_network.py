"""Gradient boosted neural network: a hidden layer that is trained a few units at a time, each on what is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import SolvedMethod
from modules.networks.layered import ACTIVATIONS


class GradientBoostedNetwork(SolvedMethod):
    """One hidden layer of T blocks of J units, added block by block along the gradient of the loss.

    F_0 is the constant of least loss. Each pass over the records adds one block, for t = 1..T:

        r = -dL/dF at F_{t-1}                                          (N, outputs)
        g = argmin over networks of J hidden units of mean |g(x) - r|^2 / 2 + decay |weights|^2 / (2 N)
        F_t = F_{t-1} + shrinkage rho g

    on a random share of the records in the second line. For classes L = -log softmax(F)_y, r = onehot(y) - p, and rho
    is the Newton step sum(g r) / sum(g^2 p (1 - p)); for a real target L is the squared error, r = y - F and rho = 1,
    its exact minimiser for a g that fits. The blocks side by side are one network, `network()`, and its last units can
    be left out: F_k is there for every k.

    Emami and Martínez-Muñoz 2023, "Sequential Training of Neural Networks with Gradient Boosting"; pseudo-residuals,
    Newton steps, decay and the whole network as in the authors' code (GAA-UAM/GBNN).

    Deviations: (1) two classes are treated as more are, by a softmax; (2) F_0 is the log frequency of classes, as the
    paper's text has it and its code not; (3) a real target is in units of its standard deviation, and its predictive
    law is a normal one around F with the training error's; (4) blocks are fitted in float64.

    Args:
        spec: labelled data.
        blocks: T, as many as there are passes: trainer.max_epochs.
        units: J, of a block.
        shrinkage: share of each step that is taken, in (0, 1].
        subsample: share of the records that a block is fitted on, in (0, 1] (the code: 0.5).
        activation: of the hidden units, see `Layered` (the code: the logistic function).
        decay: of a block's weights (scikit-learn's, which the code fits blocks with: 1e-4).
        iterations: of L-BFGS per block (the code: 200).
        keep: blocks that are in use; None: all that there are.
        parts: see `Method`.

    Raises:
        UserError: numbers out of range, an unknown activation.
    """

    inward: Tensor
    inward_bias: Tensor
    outward: Tensor
    biases: Tensor
    constant: Tensor
    error: Tensor
    unit: Tensor
    fitted: Tensor
    seed: Tensor
    x: Tensor
    y: Tensor
    seen: Tensor

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class", "real")
    papers = ("emami2019sequential",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        blocks: int = 20,
        units: int = 10,
        shrinkage: float = 0.5,
        subsample: float = 0.5,
        activation: str = "sigmoid",
        decay: float = 1e-4,
        iterations: int = 200,
        keep: int | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if min(blocks, units, iterations) < 1 or decay < 0:
            raise UserError(
                f"model.blocks={blocks} units={units} iterations={iterations} decay={decay}: at least 1; decay, 0."
            )
        if not (0 < shrinkage <= 1 and 0 < subsample <= 1):
            raise UserError(f"model.shrinkage={shrinkage} model.subsample={subsample}: shares, in (0, 1].")
        if activation not in ACTIVATIONS:
            raise UserError(f"model.activation={activation}: there is none.", f"one of {', '.join(ACTIVATIONS)}")
        if keep is not None and not 1 <= keep <= blocks:
            raise UserError(f"model.keep={keep}: from 1 to {blocks} blocks can be in use.")
        self.blocks, self.units, self.shrinkage, self.subsample = blocks, units, shrinkage, subsample
        self.decay, self.iterations, self.keep = decay, iterations, keep
        self.activation = activation
        inputs, outputs, total = self.spec.dimensions, max(len(self.spec.classes), 1), blocks * units
        for name, shape in (
            ("inward", (inputs, total)),
            ("inward_bias", (total,)),
            ("outward", (total, outputs)),
            ("biases", (blocks, outputs)),
            ("constant", (outputs,)),
            ("error", ()),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.long))
        self.register_buffer("seed", torch.randint(2**31, ()))  # the same in every process, whatever it draws later
        records = self.spec.sizes.get("train", 0)
        self.register_buffer("x", torch.zeros(records, inputs))
        self.register_buffer("y", torch.zeros(records, dtype=torch.long if self.spec.classes else torch.float32))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    # Learning

    def accumulate(self, batch: Labelled) -> None:
        x, y = self.rows_of_all(batch.x.flatten(1)), self.rows_of_all(batch.y[:, None])[:, 0]
        first = int(self.seen)
        self.x[first : first + len(x)], self.y[first : first + len(x)] = x, y
        self.seen += len(x)

    def solve(self) -> None:
        x, y = self.x[: int(self.seen)].double(), self.y[: int(self.seen)]
        self.seen.zero_()
        block = int(self.fitted)
        if block == 0:
            self.begin(y)
        if block < self.blocks:
            self.add(block, x, y)
        self.error.copy_((self.targets_of(y) - self.score(x)).square().mean().sqrt())

    def begin(self, y: Tensor) -> None:
        """F_0, and the unit of a real target."""
        if self.spec.classes:
            counts = torch.bincount(y, minlength=len(self.spec.classes)).double().clamp_min(0.5)
            self.constant.copy_((counts / counts.sum()).log())
        else:
            self.unit.copy_(y.double().std(correction=0).clamp_min(1e-12))
            self.constant.copy_(y.double().mean() / self.unit)

    def targets_of(self, y: Tensor) -> Tensor:
        """y (N,) -> one-hot classes, or the target in its unit (N, outputs)."""
        if self.spec.classes:
            return F.one_hot(y, len(self.spec.classes)).double()
        return (y.double() / self.unit)[:, None]

    def add(self, block: int, x: Tensor, y: Tensor) -> None:
        """One block, on the pseudo-residuals that the blocks before it leave."""
        score, target = self.score(x, block), self.targets_of(y)
        p = score.softmax(1) if self.spec.classes else score
        residual = target - p
        draw = torch.Generator().manual_seed(int(self.seed) + block)
        chosen = torch.randperm(len(x), generator=draw)[: max(round(self.subsample * len(x)), 1)].to(x.device)
        inward, inward_bias, outward, bias = self.fit_block(x[chosen], residual[chosen], draw)
        g = ACTIVATIONS[self.activation][0](x @ inward + inward_bias) @ outward + bias
        rho = self.shrinkage
        if self.spec.classes:
            rho = rho * float((g * residual).sum() / (g.square() * p * (1 - p)).sum().clamp_min(1e-30))
        place = slice(block * self.units, (block + 1) * self.units)
        self.inward[:, place], self.inward_bias[place] = inward, inward_bias
        self.outward[place], self.biases[block] = rho * outward, rho * bias
        self.fitted += 1

    def fit_block(self, x: Tensor, residual: Tensor, draw: torch.Generator) -> list[Tensor]:
        """Weights of a network of J hidden units by L-BFGS: (inputs, J), (J,), (J, outputs), (outputs,)."""
        inputs, outputs = x.shape[1], residual.shape[1]
        bounds = [(6 / (inputs + self.units)) ** 0.5, (6 / (self.units + outputs)) ** 0.5]  # Glorot and Bengio's
        shapes = [((inputs, self.units), bounds[0]), ((self.units,), bounds[0])]
        shapes += [((self.units, outputs), bounds[1]), ((outputs,), bounds[1])]
        weights = [
            ((2 * torch.rand(shape, generator=draw, dtype=torch.float64) - 1) * k).to(x.device).requires_grad_()
            for shape, k in shapes
        ]
        solver = torch.optim.LBFGS(
            weights, max_iter=self.iterations, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
        )

        def closure() -> Tensor:
            solver.zero_grad()
            hidden = ACTIVATIONS[self.activation][0](x @ weights[0] + weights[1])
            value = (hidden @ weights[2] + weights[3] - residual).square().mean() / 2
            value = value + self.decay / (2 * len(x)) * (weights[0].square().sum() + weights[2].square().sum())
            value.backward()
            return value

        with torch.enable_grad():
            solver.step(closure)
        return [weight.detach() for weight in weights]

    # Use

    def score(self, x: Tensor, blocks: int | None = None) -> Tensor:
        """x (B, D) float64 -> F of the first `blocks` blocks (B, outputs); None: of those in use."""
        count = self.in_use if blocks is None else blocks
        last = count * self.units
        hidden = ACTIVATIONS[self.activation][0](x @ self.inward[:, :last] + self.inward_bias[:last])
        return hidden @ self.outward[:last] + (self.biases[:count].sum(0) + self.constant)

    @property
    def in_use(self) -> int:
        """Blocks that predictions are made with."""
        fitted = int(self.fitted)
        return fitted if self.keep is None else min(self.keep, fitted)

    def network(self) -> nn.Sequential:
        """The blocks in use as one plain network, x (B, D) float64 -> F (B, outputs)."""
        last, count = self.in_use * self.units, self.in_use
        bare = {"dtype": torch.float64, "device": self.inward.device}
        inward = nn.utils.skip_init(nn.Linear, self.spec.dimensions, last, **bare)
        outward = nn.utils.skip_init(nn.Linear, last, len(self.constant), **bare)
        with torch.no_grad():
            inward.weight.copy_(self.inward[:, :last].T)
            inward.bias.copy_(self.inward_bias[:last])
            outward.weight.copy_(self.outward[:last].T)
            outward.bias.copy_(self.biases[:count].sum(0) + self.constant)
        return nn.Sequential(inward, Activation(self.activation), outward)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, classes)."""
        return self.score(x.flatten(1).double()).log_softmax(1)

    def predict_distribution(self, x: Tensor) -> Normal:
        """x (B, ...) -> Normal with batch shape (B,), in the target's own units."""
        mean = self.score(x.flatten(1).double())[:, 0] * self.unit
        return Normal(mean, (self.error * self.unit).clamp_min(1e-12), validate_args=False)


class Activation(nn.Module):
    """An activation of `Layered` by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, a: Tensor) -> Tensor:
        return ACTIVATIONS[self.name][0](a)
