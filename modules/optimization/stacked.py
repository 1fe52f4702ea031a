"""What optimizers share that step many tensors at once: lists of them, or stacks of those of equal shape."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from compendium.errors import UserError


class BatchedOptimizer(Optimizer):
    """Parent of `ListedOptimizer` and `StackedOptimizer`, which step groups of tensors that are alike.

    State is computed and kept in float32, in float64 for weights in float64; it holds tensors and plain integers. It
    changes in place, as in torch's optimizers: a `state_dict` is a view of it, and loading one copies it. Tensors
    without a gradient wait, and have a count of steps of their own. Sparse gradients are made dense.

    Args:
        params: tensors, or groups of them with arguments of their own.
        defaults: arguments of groups that have none of their own.
    """

    most: ClassVar[int] = 2**26
    """Most numbers that are stepped at once: 256 MB in float32, beyond which a batch only costs memory."""
    most_on_host: ClassVar[int]
    """The same on a CPU, where one operation after the other on all tensors finds none of them in the cache then."""

    def __init__(self, params: Iterable[Any], **defaults: Any) -> None:
        super().__init__(params, defaults)

    @abstractmethod
    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One step of tensors that are alike."""

    def _likeness(self, parameter: Tensor) -> Hashable:
        """What tensors have in common that step together, beside their age."""
        return parameter.dtype, parameter.device

    def _prepare(self) -> None:
        """What comes between the gradients and the first group's step."""

    def _gradient(self, parameter: Tensor) -> Tensor:
        """The gradient of a tensor that has one, with all its entries."""
        gradient = parameter.grad
        assert gradient is not None
        return gradient if gradient.layout == torch.strided else gradient.to_dense()

    # What torch and Lightning call

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step on all tensors that have a gradient; the closure's value, if there is a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._prepare()
        for group in self.param_groups:
            for parameters in self._alike(group["params"]):
                self._update(parameters, group)
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # type: ignore[override]
        """As torch's, which would round the state to the type of the weights, and go on in the tensors it was given."""
        super().load_state_dict(dict(state_dict))
        names = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for name, parameter in zip(names, parameters, strict=True):
            for key, value in state_dict["state"].get(name, {}).items():
                if isinstance(value, Tensor):
                    self.state[parameter][key] = value.to(parameter.device, copy=True)

    def _alike(self, parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
        """Tensors with a gradient, those together that are alike and of one age, as many as pay at once."""
        alike = defaultdict(list)
        for parameter in parameters:
            if parameter.grad is not None:
                age = self.state[parameter].get("step", 0)
                alike[self._likeness(parameter), age].append(parameter)
        for together in alike.values():
            yield from portions(together, self.most_on_host if together[0].device.type == "cpu" else self.most)


class ListedOptimizer(BatchedOptimizer):
    """Parent of optimizers that work entry by entry, beside a norm per tensor: a step is torch's operations on lists.

    A subclass overrides `start` and `direction`. Each step is theta <- (1 - lr * weight_decay) theta - lr * direction,
    with decoupled decay in the order of AdamW; without the factor where `decouples` is False.

    Lists copy nothing. For tensors of one transformer a step takes about the time of torch's AdamW(foreach=True), where
    stacks take 1.5 to 2.5 times as long; only for hundreds of tensors below 10,000 entries would stacks be faster.
    """

    most_on_host = 2**17
    decouples: ClassVar[bool] = True
    """Whether the parent shrinks the weights by lr * weight_decay."""

    # What a subclass overrides

    def start(self, gradients: list[Tensor], group: Mapping[str, Any]) -> dict[str, list[Tensor]]:
        """Gradients of the first step -> the state before it, by name, a tensor per gradient."""
        raise NotImplementedError

    def direction(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        state: dict[str, list[Tensor]],
        step: int,
        group: Mapping[str, Any],
    ) -> list[Tensor] | Scaled:
        """Weights and gradients of step 1, 2, ... -> what is subtracted; renews the state, in place or with new lists.

        Neither the weights nor the gradients may change in place. Tensors of the state may be what is subtracted.
        """
        raise NotImplementedError

    def entrywise(self, group: Mapping[str, Any]) -> bool:
        """Whether each entry steps by itself, and the state changes in place: large tensors go in pieces on a CPU."""
        return False

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        dtype = parameters[0].dtype
        precise = torch.promote_types(dtype, torch.float32)
        gradients, weights = [self._gradient(parameter) for parameter in parameters], parameters
        if dtype != precise:  # asking thirty tensors that are so already takes a fifth of Lion's step
            gradients, weights = ([each.to(precise) for each in tensors] for tensors in (gradients, weights))
        step = states[0].get("step", 0) + 1
        if step == 1:
            lists = self.start(gradients, group)
        else:
            lists = {name: [state[name] for state in states] for name in states[0] if name != "step"}
        before = {} if step == 1 else dict(lists)
        if self.entrywise(group) and parameters[0].device.type == "cpu":
            whole = [parameters, weights, gradients, *lists.values()]
            for some, there, slopes, *kept in pieces(whole, self.most_on_host):
                views = dict(zip(lists, kept, strict=True))
                self._move(some, self.direction(there, slopes, views, step, group), group)
        else:
            self._move(parameters, self.direction(weights, gradients, lists, step, group), group)
        renewed = {name: values for name, values in lists.items() if values is not before.get(name)}
        for index, state in enumerate(states):
            state["step"] = step
            for name, values in renewed.items():
                state[name] = values[index]

    def _move(self, parameters: list[Tensor], direction: list[Tensor] | Scaled, group: Mapping[str, Any]) -> None:
        """Decay weights and step along a direction."""
        if self.decouples and group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        if isinstance(direction, Scaled):
            direction.added_to(parameters, -group["lr"])
            return
        if direction[0].dtype != parameters[0].dtype:
            direction = [each.to(parameters[0].dtype) for each in direction]
        torch._foreach_add_(parameters, direction, alpha=-group["lr"])


class StackedOptimizer(BatchedOptimizer):
    """Parent of optimizers that decompose or multiply matrices: tensors of equal shape are stacked, in one batch.

    A subclass overrides `start` and `direction`, or `directions`. Each step is theta <- (1 - lr * weight_decay) theta -
    lr * direction, with decoupled decay in the order of AdamW.
    """

    most_on_host = 2**20

    # What a subclass overrides

    def start(self, gradients: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        """Gradients (B, ...) of the first step -> the state before it, by name, (B, ...) each."""
        raise NotImplementedError

    def direction(
        self, gradients: Tensor, state: dict[str, Tensor], step: int, group: Mapping[str, Any]
    ) -> Tensor | None:
        """Gradients (B, ...) of step 1, 2, ... -> what is subtracted (B, ...), None for no step; renews the state."""
        raise NotImplementedError

    def directions(
        self, gradients: list[Tensor], state: dict[str, Tensor], step: int, group: Mapping[str, Any]
    ) -> Tensor | Product | None:
        """The same of gradients that do not lie in a stack yet, for those that can do without its copy."""
        return self.direction(stack(gradients), state, step, group)

    def _likeness(self, parameter: Tensor) -> Hashable:
        return parameter.shape, parameter.dtype, parameter.device

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[parameter] for parameter in parameters]
        dtype = parameters[0].dtype
        precise = torch.promote_types(dtype, torch.float32)
        gradients = [self._gradient(parameter).to(precise) for parameter in parameters]
        step = states[0].get("step", 0) + 1
        stacked = self.start(stack(gradients), group) if step == 1 else self._stacked(parameters, states)
        direction = self.directions(gradients, stacked, step, group)
        self._keep(stacked, step, parameters, states)
        if direction is None:
            return
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        if isinstance(direction, Product):
            direction.added_to(parameters, -group["lr"])
        else:
            torch._foreach_add_(parameters, list(direction.to(dtype).unbind()), alpha=-group["lr"])

    def _stacked(self, parameters: list[Tensor], states: list[dict[str, Any]]) -> dict[str, Tensor]:
        """State by name (B, ...): the stacks of the step before, if the tensors' states are still their rows."""
        known = self.__dict__.setdefault("_stacks", {}).get(tuple(map(id, parameters)))
        if known is not None and all(
            state.get(name) is row for name, (_, rows) in known.items() for state, row in zip(states, rows, strict=True)
        ):
            return {name: whole for name, (whole, _) in known.items()}
        return {name: stack([state[name] for state in states]) for name in states[0] if name != "step"}

    def _keep(
        self, stacked: dict[str, Tensor], step: int, parameters: list[Tensor], states: list[dict[str, Any]]
    ) -> None:
        """Make each tensor's state its rows of the stacks, and remember the stacks for the next step."""
        key = tuple(map(id, parameters))
        known = self.__dict__.setdefault("_stacks", {})
        before = known.get(key, {})
        if key not in known:  # tensors go into one stack: those that had another one leave it
            for other in [other for other in known if not set(key).isdisjoint(other)]:
                del known[other]
        kept = known[key] = {}
        for name, whole in stacked.items():
            same = name in before and before[name][0] is whole
            rows = before[name][1] if same else whole.unbind()
            kept[name] = whole, rows
            for state, row in zip(states, rows, strict=True):
                state[name] = row
        for state in states:
            state["step"] = step


@dataclass(frozen=True)
class Scaled:
    """Tensors, each times a number of its own, or all times one.

    Attributes:
        tensors: (...) each.
        by: a number, or a tensor () for each.
    """

    tensors: list[Tensor]
    by: float | list[Tensor]

    def added_to(self, tensors: list[Tensor], times: float) -> None:
        """Add this, so many times, to tensors of the same shapes, in place."""
        if self.tensors[0].dtype != tensors[0].dtype:
            products = torch._foreach_mul(self.tensors, self.by)  # type: ignore[arg-type]
            torch._foreach_add_(tensors, [each.to(tensors[0].dtype) for each in products], alpha=times)
        elif isinstance(self.by, list):
            torch._foreach_addcmul_(tensors, self.tensors, self.by, value=times)
        else:
            torch._foreach_add_(tensors, self.tensors, alpha=times * self.by)


@dataclass(frozen=True)
class Product:
    """Matrices (B, m, n) as the product of thin ones.

    Attributes:
        left: (B, m, r).
        right: (B, r, n).
        factor: of the product.
    """

    left: Tensor
    right: Tensor
    factor: float = 1.0

    def added_to(self, tensors: list[Tensor], times: float) -> None:
        """Add this, so many times, to B tensors of m n numbers, in place."""
        alpha = times * self.factor
        first = tensors[0]
        if first.device.type == "cpu" and first.dtype == self.left.dtype and all(map(Tensor.is_contiguous, tensors)):
            # One by one, as a product that is added where it belongs spares writing it down and reading it again.
            for tensor, left, right in zip(tensors, self.left, self.right, strict=True):
                tensor.view(len(left), -1).addmm_(left, right, alpha=alpha)
            return
        whole = (self.left @ self.right).to(first.dtype).view(-1, *first.shape)
        torch._foreach_add_(tensors, list(whole.unbind()), alpha=alpha)


def portions(tensors: list[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Tensors in their order, together those with `most` numbers; one at least."""
    portion: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if portion and size + tensor.numel() > most:
            yield portion
            portion, size = [], 0
        portion.append(tensor)
        size += tensor.numel()
    yield portion


def pieces(lists: list[list[Tensor]], most: int) -> Iterator[list[list[Tensor]]]:
    """Lists of tensors of equal shapes -> the same; one tensor of more than `most` numbers in pieces, as views.

    What does not lie in one piece of memory stays whole.
    """
    small = len(lists[0]) > 1 or lists[0][0].numel() <= most
    if small or not all(tensor.is_contiguous() for (tensor,) in lists):
        yield lists
        return
    for some in zip(*(tensor.view(-1).split(most // 2) for (tensor,) in lists), strict=True):
        yield [[piece] for piece in some]


def stack(tensors: list[Tensor]) -> Tensor:
    """Tensors (...) -> (B, ...), without a copy of a single one."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def check_at_least_zero(**values: float) -> None:
    """Refuse arguments below 0, and NaN.

    Raises:
        UserError: names the first of them.
    """
    for name, value in values.items():
        if not value >= 0:
            raise UserError(f"optimizer.{name}={value}: it is at least 0.")


def check_betas(betas: Sequence[float], name: str = "betas") -> tuple[float, ...]:
    """Refuse what is no pair of decays.

    Raises:
        UserError: another number of them, or one outside [0, 1).
    """
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"optimizer.{name}={list(betas)}: two numbers in [0, 1).")
    return tuple(betas)


def check_share(**values: float) -> None:
    """Refuse decays outside [0, 1).

    Raises:
        UserError: names the first of them.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"optimizer.{name}={value}: it lies in [0, 1).")


def check_count(**values: int) -> None:
    """Refuse numbers of steps, ranks and the like below 1.

    Raises:
        UserError: names the first of them.
    """
    for name, value in values.items():
        if value < 1:
            raise UserError(f"optimizer.{name}={value}: it is at least 1.")
