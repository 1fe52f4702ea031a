"""DeepZero: gradients coordinate by coordinate, of a few weights at a time, from evaluations alone."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from compendium.errors import UserError
from compendium.seeding import generator
from modules.method import total
from modules.networks.stages import staged
from modules.optimization.asking import EvaluatingOptimizer, differentiated, mean_over_processes, restore, states
from modules.optimization.stacked import check_at_least_zero, check_count, check_share

ESTIMATORS = ("cge", "rge")
PRUNINGS = ("zo_grasp", "uniform")
LARGEST = 2**24
"""Most numbers of the changed copies of weights that are evaluated together."""


class DeepZero(EvaluatingOptimizer):
    """Momentum SGD on an estimate of the gradient from values of the loss l. With unit vectors e_i and u_j ~ N(0, I):

        cge    g_i = (l(theta + mu e_i) - l(theta)) / mu     for i in S, 0 elsewhere: |S| + 1 evaluations
        rge    g = 1/q sum_j u_j (l(theta + mu u_j) - l(theta)) / mu             q + 1 evaluations

    S holds a share 1 - sparsity of the entries of matrices and kernels, drawn anew at every `refresh`-th step, and all
    biases and the like: weights stay dense, their changes are sparse. How many entries each tensor has in S is settled
    before the first step. `zo_grasp` keeps, over all tensors, those of the largest |s|,

        s = -theta * (h(theta + mu h(theta)) - h(theta)) / mu        h: rge with q = probes;

    `uniform` gives each tensor the same share.

    Evaluations are of many changed copies of the weights at once, by torch.func.vmap. In a network in stages
    (`modules.networks.stages`) whose loss calls it once, an entry of a stage is changed where the state before that
    stage is known (feature reuse): neither it nor the gradient changes. `queries` and `passes` in the parameter groups
    count evaluations of the loss, and of stages; parts that no change touches count once for all copies.

    Chen et al. 2024, "DeepZero: Scaling up Zeroth-Order Optimization for Deep Model Training", and its code
    (OPTML-Group/DeepZero): estimators, ZO-GraSP and layer-wise random masks, feature reuse and parallel evaluations.

    Deviations: (1) u is not made a unit vector per tensor, as in the code, which also multiplies by mu; with q
    directions the mean of g is that of the Gaussian-smoothed gradient. (2) Both h take the same directions, so that
    their difference is that of gradients. (3) Copies are stacked on one device, where the authors have processes. (4)
    Masks are renewed after a number of steps, theirs after five epochs.

    Args:
        params: as in any torch optimizer.
        lr: learning rate; 0.1 as in the code, like momentum, weight_decay, mu, sparsity and probes.
        momentum: as in torch's SGD.
        weight_decay: as in torch's SGD, added to the gradient.
        mu: how far an entry moves.
        estimator: `cge` or `rge`.
        sparsity: share of the entries of matrices that a step leaves out; in [0, 1).
        pruning: `zo_grasp` or `uniform`.
        probes: directions of ZO-GraSP.
        refresh: steps from one S to the next.
        queries: q of `rge`; None: as many as `cge` would take.
        reuse: whether states are reused.
        copies: most copies of the weights at once; 1 changes them in place, as is done, with a warning, for losses that
            torch.func cannot take.
        seed: of S and of directions.

    Raises:
        UserError: a value out of range; batch normalisation, whose averages evaluations would change.
    """

    papers = ("chen2024deepzero",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        mu: float = 5e-3,
        estimator: str = "cge",
        sparsity: float = 0.9,
        pruning: str = "zo_grasp",
        probes: int = 192,
        refresh: int = 100,
        queries: int | None = None,
        reuse: bool = True,
        copies: int = 64,
        seed: int = 0,
    ) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay)
        check_share(momentum=momentum, sparsity=sparsity)
        check_count(probes=probes, refresh=refresh, copies=copies, **({} if queries is None else {"queries": queries}))
        if not mu > 0:
            raise UserError(f"optimizer.mu={mu}: it is above 0.")
        for name, value, known in (("estimator", estimator, ESTIMATORS), ("pruning", pruning, PRUNINGS)):
            if value not in known:
                raise UserError(f"optimizer.{name}={value} is unknown.", f"one of {', '.join(known)}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.mu, self.estimator, self.sparsity, self.pruning = mu, estimator, sparsity, pruning
        self.probes, self.refresh, self.directions, self.reuse = probes, refresh, queries, reuse
        self.copies, self.seed = copies, seed
        self.loss: Loss | None = None
        self.memory: Memory | None = None
        self.names: dict[int, list[str]] = {}
        for group in self.param_groups:
            group["queries"] = group["passes"] = 0

    def watch(self, method: Any) -> None:
        """Take a method whose loss can be evaluated at many weights at once.

        Raises:
            UserError: batch normalisation.
        """
        if any(getattr(part, "running_mean", None) is not None for part in method.modules()):
            raise UserError("an evaluation would change averages of batch normalisation.", "net.norm=null")
        self.loss = Loss(method)
        # Every place of a weight, and each once: torch.func leaves a module changed that is reached by two names.
        self.names = defaultdict(list)
        for path, module in self.loss.named_modules():
            for name, parameter in module.named_parameters(path, recurse=False):
                self.names[id(parameter)].append(name)
        nets = staged(method)
        self.memory = Memory(nets[0]) if len(nets) == 1 else None

    # One step

    def descend(self, evaluate: Callable[[], Tensor]) -> Tensor:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        step = self.state[parameters[0]].get("step", 0)
        base = self.remembered(evaluate)
        if step == 0:
            for parameter, count in zip(parameters, self.kept(parameters, base, evaluate), strict=True):
                self.state[parameter]["kept"] = count
        trained = [(place, parameter) for place, parameter in enumerate(parameters) if parameter.requires_grad]
        if self.estimator == "cge":
            gradients = [self.slopes(place, p, step, base, evaluate) for place, p in trained]
        else:
            count = self.directions or sum(self.state[p]["kept"] for _, p in trained)
            gradients = self.along_directions([p for _, p in trained], count, ("rge", step), base, evaluate)
        found = iter(gradients)
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.requires_grad]
            if moved:
                self._move(moved, group, [next(found) for _ in moved])
        for parameter in parameters:
            self.state[parameter]["step"] = step + 1
        return base

    def _move(self, parameters: list[Tensor], group: Mapping[str, Any], gradients: list[Tensor]) -> None:
        along = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        if group["momentum"]:
            before = [self.state[p].get("momentum") for p in parameters]
            carried = [torch.zeros_like(a) if m is None else m for a, m in zip(along, before, strict=True)]
            along = torch._foreach_add(along, torch._foreach_mul(carried, group["momentum"]))
            for parameter, momentum in zip(parameters, along, strict=True):
                self.state[parameter]["momentum"] = momentum
        torch._foreach_add_(parameters, along, alpha=-group["lr"])

    # Which entries

    def kept(self, parameters: list[Tensor], base: Tensor, evaluate: Callable[[], Tensor]) -> list[int]:
        """How many entries of each tensor S has."""
        pruned = [p for p in parameters if p.dim() > 1] if self.sparsity else []
        total = sum(p.numel() for p in pruned)
        if self.pruning == "uniform" or not pruned or self.estimator == "rge":
            shares = {id(p): 1 - self.sparsity for p in pruned}
        else:
            scores = self.grasp(pruned, base, evaluate)
            flat = torch.cat([score.abs().flatten() for score in scores])
            least = flat.topk(max(1, round((1 - self.sparsity) * total))).values[-1]
            shares = {id(p): float((s.abs() >= least).double().mean()) for p, s in zip(pruned, scores, strict=True)}
        return [max(1, round(shares.get(id(p), 1.0) * p.numel())) if p.numel() else 0 for p in parameters]

    def grasp(self, pruned: list[Tensor], base: Tensor, evaluate: Callable[[], Tensor]) -> list[Tensor]:
        """Scores s of the entries of tensors."""
        here = self.along_directions(pruned, self.probes, ("grasp",), base, evaluate)
        start = [p.clone() for p in pruned]
        torch._foreach_add_(pruned, here, alpha=self.mu)
        there = self.along_directions(pruned, self.probes, ("grasp",), self.remembered(evaluate), evaluate)
        torch._foreach_copy_(pruned, start)
        self.remembered(evaluate)
        curved = torch._foreach_div(torch._foreach_sub(there, here), self.mu)
        return [-p * c for p, c in zip(pruned, curved, strict=True)]

    def entries(self, place: int, parameter: Tensor, step: int) -> Tensor:
        """S of a tensor at a step: positions int64 (kept,)."""
        draw = generator(self.seed, "mask", step // self.refresh, place)
        order = torch.randperm(parameter.numel(), generator=draw)[: self.state[parameter]["kept"]]
        return order.sort().values.to(parameter.device)

    # Estimates

    def slopes(self, place: int, parameter: Tensor, step: int, base: Tensor, evaluate: Callable[[], Tensor]) -> Tensor:
        """g of a tensor by coordinates."""
        gradient = torch.zeros_like(parameter)
        for positions in self.entries(place, parameter, step).split(self.together(parameter.numel())):
            changed = parameter.detach().flatten().repeat(len(positions), 1)
            changed[torch.arange(len(positions)), positions] += self.mu
            values = self.at([parameter], [changed.view(-1, *parameter.shape)], evaluate)
            gradient.view(-1)[positions] = ((values - base) / self.mu).to(gradient)
        return gradient

    def along_directions(
        self,
        parameters: list[Tensor],
        count: int,
        stream: tuple[int | str, ...],
        base: Tensor,
        evaluate: Callable[[], Tensor],
    ) -> list[Tensor]:
        """g of tensors from so many random directions."""
        gradients = [torch.zeros_like(parameter) for parameter in parameters]
        together = self.together(sum(parameter.numel() for parameter in parameters))
        for first in range(0, count, together):
            number = min(together, count - first)
            draw = generator(self.seed, *stream, first)
            u = [torch.randn(number, *p.shape, generator=draw, dtype=p.dtype).to(p.device) for p in parameters]
            values = self.at(parameters, torch._foreach_add(torch._foreach_mul(u, self.mu), parameters), evaluate)
            slopes = ((values - base) / (self.mu * count)).to(gradients[0])
            for gradient, directions in zip(gradients, u, strict=True):
                gradient += torch.tensordot(slopes, directions, dims=1)
        return gradients

    # Evaluations

    def together(self, size: int) -> int:
        """How many copies of so many weights are evaluated at once."""
        return max(1, min(self.copies, LARGEST // max(1, size)))

    def remembered(self, evaluate: Callable[[], Tensor]) -> Tensor:
        """The loss where the weights are, and the states of the network on the way."""
        number = len(self.evaluations.batches) if self.evaluations is not None else 0
        if self.memory is not None:
            self.memory.begin()
        value = evaluate()
        if self.memory is not None:
            batches = len(self.evaluations.batches) if self.evaluations is not None else 1
            # Lightning's own evaluation comes first, and is of the last batch.
            self.memory.end(batches if self.reuse else -1, turned=batches > number)
        self.tally(1, self.memory.parts if self.memory is not None else 1)
        return mean_over_processes(value)

    def at(self, parameters: list[Tensor], values: list[Tensor], evaluate: Callable[[], Tensor]) -> Tensor:
        """Losses (B,) where each of some tensors has the values (B, ...)."""
        number, memory = len(values[0]), self.memory
        touched = min(map(memory.place, parameters)) if memory is not None else 0
        start = touched if memory is not None and memory.known else 0
        if memory is not None:
            memory.start = start
        parts = memory.parts if memory is not None else 1
        found = self._stacked(parameters, values) if self.copies > 1 and self.evaluations is not None else None
        if found is None:
            found = self._in_place(parameters, values, evaluate)
        self.tally(number, (touched - start) * (number if self.copies == 1 else 1) + (parts - touched) * number)
        if memory is not None:
            memory.start = None
        return mean_over_processes(found)

    def _stacked(self, parameters: list[Tensor], values: list[Tensor]) -> Tensor | None:
        """All at once; None, from then on, for a loss that torch.func cannot take."""
        assert self.loss is not None
        assert self.evaluations is not None
        changed = {name: value for p, value in zip(parameters, values, strict=True) for name in self.names[id(p)]}
        losses = []
        for number, (batch, drawn) in enumerate(self.evaluations.batches):
            restore(drawn)
            if self.memory is not None:
                self.memory.at = number

            def one(weights: dict[str, Tensor], batch: Any = batch) -> Tensor:
                return functional_call(self.loss, weights, (batch,), tie_weights=False)  # type: ignore[arg-type]

            try:
                with self.evaluations.context(), sdpa_kernel(SDPBackend.MATH):  # the one that vmap can batch
                    losses.append(vmap(one, randomness="same")(changed))
            except RuntimeError as error:
                self.copies = 1
                line = str(error).strip().splitlines()[0]
                warnings.warn(
                    f"weights are changed one copy at a time: torch.func refused this loss ({line})", stacklevel=2
                )
                return None
        return torch.stack(losses).mean(0)

    def _in_place(self, parameters: list[Tensor], values: list[Tensor], evaluate: Callable[[], Tensor]) -> Tensor:
        before = [parameter.clone() for parameter in parameters]
        losses = []
        for copy in range(len(values[0])):
            torch._foreach_copy_(parameters, [value[copy] for value in values])
            if self.memory is not None:
                self.memory.at = 0
            losses.append(evaluate().detach())
        torch._foreach_copy_(parameters, before)
        return torch.stack(losses)

    def tally(self, queries: int, passes: int) -> None:
        """Count evaluations."""
        self.param_groups[0]["queries"] += queries
        self.param_groups[0]["passes"] += passes


class Loss(nn.Module):
    """A method's loss as a module's forward pass, which is what torch.func calls."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Any) -> Tensor:
        return total(self.method.loss(batch))


class Memory:
    """States of a network in stages: kept in one evaluation, begun from in others.

    Args:
        net: a `Staged` network, whose forward pass it stands in for.

    Attributes:
        parts: `enter`, the stages, `leave`: part 0 to parts - 1.
        known: whether there are states to begin from.
        start: the part to begin with in evaluations now; None: the network is on its own.
        at: which call of the network, counted by itself, comes next.
    """

    def __init__(self, net: Any) -> None:
        self.net = net
        self.stages = {id(p): n for n, stage in enumerate(net.stages(), 1) for m in stage for p in m.parameters()}
        self.parts = len(net.stages()) + 2
        self.leaving: set[int] | None = None
        self.kept: list[list[tuple[Any, list[Tensor]]]] = []
        self.known = self.keeping = False
        self.start: int | None = None
        self.at = 0
        self.forward, net.forward = net.forward, self.pass_through

    def place(self, parameter: Tensor) -> int:
        """The first part that a weight changes; 0 for those of another network."""
        last = self.parts - 1 if self.leaving and id(parameter) in self.leaving else 0
        return self.stages.get(id(parameter), last)

    def begin(self) -> None:
        """Keep states from now on."""
        self.kept, self.keeping, self.start = [], True, None

    def end(self, calls: int, turned: bool) -> None:
        """Enough was kept: so many calls, of which the first is of the last batch."""
        self.keeping, self.known = False, len(self.kept) == calls
        if turned and self.known:
            self.kept = [*self.kept[1:], self.kept[0]]

    def pass_through(self, *inputs: Any, **named: Any) -> Any:
        """The network's output."""
        if self.keeping and not differentiated():
            return self._keep(inputs, named)
        if not self.start:
            return self.forward(*inputs, **named)
        state, drawn = self.kept[self.at][self.start - 1]
        self.at += 1
        restore(drawn)
        for stage in range(self.start - 1, self.parts - 2):
            state = self.net.through(stage, state)
        return self.net.leave(state)

    def _keep(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        if self.leaving is None:
            drawn = states()
            self.leaving = {id(p) for p in self._outside() if not self._enters(p, inputs, named)}
            restore(drawn)
        state = self.net.enter(*inputs, **named)
        kept = [(state, states())]
        for stage in range(self.parts - 2):
            state = self.net.through(stage, state)
            kept.append((state, states()))
        self.kept.append(kept)
        return self.net.leave(state)

    def _outside(self) -> list[Tensor]:
        return [p for p in self.net.parameters() if id(p) not in self.stages]

    def _enters(self, parameter: Tensor, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
        """Whether the state before the first stage depends on a weight: whether it is NaN where the weight is."""
        before = parameter.detach().clone()
        parameter.data.fill_(torch.nan)
        state = self.net.enter(*inputs, **named)
        parameter.data.copy_(before)
        leaves = state if isinstance(state, tuple | list) else (state,)
        return any(isinstance(leaf, Tensor) and bool(leaf.isnan().any()) for leaf in leaves)
