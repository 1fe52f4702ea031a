"""What optimizers share that precondition a layer by what goes into it and by the slopes of what comes out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn import functional as F

from compendium.collectives import distributed, sum_of_all
from compendium.errors import UserError
from modules.optimization.stacked import ListedOptimizer, check_at_least_zero, check_betas, check_count, check_share


class Layer:
    """A linear or convolutional layer, and what was seen of it since the last step.

    A row is what one output is computed from: a record, a position of a text, a place of a picture.

    Args:
        module: the layer, or one of several with the same weight.
        biased: whether its bias is trained by the same optimizer, as one more column of the weight.
        order: 1 for sums of the rows, 2 for sums of their outer products.
        group: number of the group of parameters that its weight is in.
    """

    def __init__(self, module: Any, biased: bool, order: int, group: int) -> None:
        self.weight = module.weight
        self.bias = module.bias if biased else None
        self.order, self.group = order, group
        self.forget()

    def forget(self) -> None:
        """Begin a new step."""
        self.rows = 0
        self.inputs: Tensor | float = 0.0
        self.outputs: Tensor | float = 0.0

    def takes(self, module: nn.Module, x: Tensor) -> None:
        """Inputs of a forward pass."""
        if isinstance(module, nn.Conv2d):
            settings = (module.kernel_size, module.dilation, module.padding, module.stride)
            x = F.unfold(x, *settings).mT  # type: ignore[arg-type]
        x = precise(x.detach()).reshape(-1, x.shape[-1])
        if self.bias is not None:
            x = F.pad(x, (0, 1), value=1.0)
        self.rows += len(x)
        self.inputs = self.inputs + (x.sum(0) if self.order == 1 else x.T @ x)

    def gives(self, module: nn.Module, slope: Tensor) -> None:
        """Slope of the loss in the outputs of a forward pass."""
        if isinstance(module, nn.Conv2d):
            slope = slope.movedim(1, -1)
        slope = precise(slope.detach()).reshape(-1, slope.shape[-1])
        self.outputs = self.outputs + (slope.sum(0) if self.order == 1 else slope.T @ slope)

    def seen(self) -> tuple[Tensor, Tensor] | None:
        """Means over the rows, of inputs and of slopes of each row's own loss; None if nothing was seen.

        The loss is a mean over the rows, so that the slope of a row's own loss is as many times as large as that seen.
        """
        if not isinstance(self.inputs, Tensor) or not isinstance(self.outputs, Tensor):
            return None
        return self.inputs / self.rows, self.outputs * (self.rows if self.order == 2 else 1)


class FactoredOptimizer(ListedOptimizer):
    """Parent of optimizers that replace the gradient G (out, in) of a layer by |G| D / |D| with D = L^-1 G R^-1.

    L is made of the slopes of the layer's outputs and R of its inputs, which the optimizer sees by `watch(method)`. The
    bias is a further column of G, with an input of 1. What comes out is the gradient that momentum or Adam (`backend`)
    is given, like the plain gradients of all other weights. A subclass overrides `order`, `begin` and `renew`.

    Layers are `nn.Linear` and `nn.Conv2d` without groups whose weights are trained as they are. Layers of equal shape
    are stacked. Over several processes what was seen is averaged, in one exchange per step.

    Args:
        params: tensors, or groups of them with arguments of their own.
        lr: learning rate.
        backend: `momentum` or `adam`.
        momentum: of `momentum`, as in torch's SGD.
        betas: of `adam`.
        eps: of `adam`.
        weight_decay: decoupled.
        every: steps from one change of L and R to the next.
        more: the subclass's own.

    Raises:
        UserError: a value out of range.
    """

    order: ClassVar[int]

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        backend: str,
        momentum: float,
        betas: Sequence[float],
        eps: float,
        weight_decay: float,
        every: int,
        **more: Any,
    ) -> None:
        check_at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay)
        check_share(momentum=momentum)
        check_count(every=every)
        if backend not in ("momentum", "adam"):
            raise UserError(f"optimizer.backend={backend}: it is momentum or adam.")
        self.layers: dict[Tensor, Layer] = {}
        self.fresh: dict[Tensor, Tensor] = {}
        super().__init__(
            params,
            lr=lr,
            backend=backend,
            momentum=momentum,
            betas=check_betas(betas),
            eps=eps,
            weight_decay=weight_decay,
            every=every,
            **more,
        )

    # What a subclass overrides

    def begin(self, sides: tuple[int, int], like: Tensor) -> dict[str, Tensor]:
        """Sizes (out, in) -> the state of a layer before its first step, of the type and place of a tensor."""
        raise NotImplementedError

    def renew(
        self, slopes: Tensor, inputs: Tensor, state: dict[str, Tensor], step: int, group: Mapping[str, Any]
    ) -> None:
        """Take in what was seen, (B, out) and (B, in), or (B, out, out) and (B, in, in) for an order of 2.

        The state, (B, ...) each, is replaced and not changed in place. `left` and `right` are L^-1 and R^-1.
        """
        raise NotImplementedError

    # What torch and methods call

    def watch(self, method: nn.Module) -> None:
        """See what goes into the layers of a method, and the slopes of what comes out.

        Raises:
            UserError: no such layer among the weights, or a loss that is scaled.
        """
        trainer = getattr(method, "_trainer", None)
        if trainer is not None and trainer.precision == "16-mixed":
            raise UserError(
                f"{type(self).__name__} needs slopes of the loss as it is, not scaled for float16.",
                "trainer.precision=bf16-mixed",
            )
        own = {one: place for place, group in enumerate(self.param_groups) for one in group["params"]}
        for module in method.modules():
            if whole(module) and module.weight in own:  # type: ignore[operator]
                if module.weight not in self.layers:
                    biased = own.get(module.bias, -1) == own[module.weight]
                    self.layers[module.weight] = Layer(module, biased, self.order, own[module.weight])
                module.register_forward_hook(self._see)
        if not self.layers:
            raise UserError(
                f"{type(self).__name__} finds no linear or convolutional layer among the trained weights.",
                "choose another with optimizer=...",
            )

    def _see(self, module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        layer = self.layers.get(module.weight)  # type: ignore[call-overload]
        if layer is None:
            return  # torch.func has the layer with another weight for a moment
        if module.training and out.requires_grad and self._due(layer):
            layer.takes(module, given[0])
            out.register_hook(lambda slope: layer.gives(module, slope))

    def _due(self, layer: Layer) -> bool:
        """Whether L and R change in the coming step of a layer."""
        group = self.param_groups[layer.group]
        return self._on(group) and self.state[layer.weight].get("step", 0) % group["every"] == 0

    def _on(self, group: Mapping[str, Any]) -> bool:
        """Whether layers are preconditioned."""
        return True

    def _prepare(self) -> None:
        """Precondition the gradients of all layers."""
        seen = self._seen()
        for group in self.param_groups:
            if not self._on(group):
                continue
            alike = defaultdict(list)
            for weight in group["params"]:
                layer = self.layers.get(weight)
                if layer and weight.grad is not None and (layer.bias is None or layer.bias.grad is not None):
                    key = (weight.shape, layer.bias is None, weight.dtype, weight.device)
                    alike[key, self.state[weight].get("step", 0), weight in seen].append(layer)
            for (_, age, new), layers in alike.items():
                self._precondition(layers, [seen[layer.weight] for layer in layers] if new else None, age + 1, group)

    def _seen(self) -> dict[Tensor, tuple[Tensor, Tensor]]:
        """What was seen of the layers since the last step, averaged over the processes, and forgotten."""
        seen = {weight: found for weight, layer in self.layers.items() if (found := layer.seen()) is not None}
        for layer in self.layers.values():
            layer.forget()
        if not distributed() or not seen:
            return seen
        parts = [part for pair in seen.values() for part in pair]
        mean = sum_of_all(torch.cat([part.flatten() for part in parts])) / torch.distributed.get_world_size()
        pieces = [
            piece.view_as(part) for piece, part in zip(mean.split([p.numel() for p in parts]), parts, strict=True)
        ]
        return dict(zip(seen, zip(pieces[::2], pieces[1::2], strict=True), strict=True))

    def _precondition(
        self, layers: list[Layer], seen: list[tuple[Tensor, Tensor]] | None, step: int, group: Mapping[str, Any]
    ) -> None:
        """Layers of one shape and age: renew their state and set their gradients."""
        gradients = torch.stack([self._matrix(layer) for layer in layers])
        if step == 1:
            begun = self.begin((gradients.shape[1], gradients.shape[2]), gradients)
            state = {name: value.expand(len(layers), *value.shape) for name, value in begun.items()}
        else:
            kept = [self.state[layer.weight] for layer in layers]
            state = {name: torch.stack([one[name] for one in kept]) for name in self.kept(kept[0])}
        if seen is not None:
            inputs, slopes = (torch.stack(part).to(gradients.dtype) for part in zip(*seen, strict=True))
            self.renew(slopes, inputs, state, step, group)
        directions = state["left"] @ gradients @ state["right"]
        lengths = vector_norm(directions, dim=(1, 2), keepdim=True).clamp(min=torch.finfo(directions.dtype).tiny)
        directions *= vector_norm(gradients, dim=(1, 2), keepdim=True) / lengths
        for index, layer in enumerate(layers):
            whole, width = directions[index], layer.weight.flatten(1).shape[1]
            self.fresh[layer.weight] = whole[:, :width].reshape(layer.weight.shape)
            if layer.bias is not None:
                self.fresh[layer.bias] = whole[:, width]
            new = {name: value[index] for name, value in state.items()}
            self.state[layer.weight] = self.state[layer.weight] | new

    def _matrix(self, layer: Layer) -> Tensor:
        """The gradient of a layer as a matrix, with that of its bias."""
        parts = [precise(super()._gradient(layer.weight)).flatten(1)]  # type: ignore[misc]
        if layer.bias is not None:
            parts.append(precise(super()._gradient(layer.bias))[:, None])  # type: ignore[misc]
        return torch.cat(parts, 1)

    @staticmethod
    def kept(state: Mapping[str, Any]) -> list[str]:
        """Names of the state that is of the layer, and not of momentum or Adam."""
        return [name for name in state if name not in ("step", "first", "second")]

    def _likeness(self, parameter: Tensor) -> Hashable:
        return parameter.dtype, parameter.device, tuple(self.kept(self.state[parameter]))

    def _gradient(self, parameter: Tensor) -> Tensor:
        fresh = self.fresh.pop(parameter, None)
        return super()._gradient(parameter) if fresh is None else fresh

    def start(self, gradients, group):
        names = ("first",) if group["backend"] == "momentum" else ("first", "second")
        return {name: [torch.zeros_like(gradient) for gradient in gradients] for name in names}

    def direction(self, weights, gradients, state, step, group):
        if group["backend"] == "momentum":
            state["first"] = torch._foreach_mul(state["first"], group["momentum"])
            torch._foreach_add_(state["first"], gradients)
            return state["first"]
        beta1, beta2 = group["betas"]
        state["first"] = torch._foreach_lerp(state["first"], gradients, 1 - beta1)
        state["second"] = torch._foreach_mul(state["second"], beta2)
        torch._foreach_addcmul_(state["second"], gradients, gradients, 1 - beta2)
        scale = torch._foreach_sqrt(state["second"])
        torch._foreach_div_(scale, math.sqrt(1 - beta2**step))
        torch._foreach_add_(scale, group["eps"])
        updates = torch._foreach_div(state["first"], 1 - beta1**step)
        torch._foreach_div_(updates, scale)
        return updates


def whole(module: nn.Module) -> bool:
    """Whether a module is a layer whose weight is one matrix, not a stack of those of an ensemble."""
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return plain and module.weight.dim() == 4
    return isinstance(module, nn.Linear) and module.weight.dim() == 2


def precise(x: Tensor) -> Tensor:
    """A tensor in float32, or in float64 where it was that before."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
