"""SSO: one gradient with respect to a network's outputs pays for many steps of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from modules.optimization.asking import EvaluatingOptimizer, mean_over_processes, restore, states

TRIES = 100
"""Most trials of a line search, as in the authors' code."""


class SSO(EvaluatingOptimizer):
    """Descends a surrogate of the loss in the space of targets, the network's outputs z = f(theta), for n outputs z_i:

        g   = gradient of the loss with respect to z, at z_t = f(theta_t)               the only use of the loss
        q_t(theta) = <g, f(theta) - z_t> + |f(theta) - z_t|^2 / (2 eta n)
        `inner` times:  theta <- theta - a grad q_t(theta),  with the largest a of start, start b, start b^2, ...
                        that has q_t(theta - a grad) <= q_t(theta) - c a |grad|^2

    where `start` is `growth` times the last a. Where the loss is a mean of losses of z_i with a Hessian of at most
    1 / eta, q_t is above the change of the loss from theta_t for all theta, so that on whole batches no step raises the
    loss; and with outputs that move freely q_t is least at z_t - eta n g, a step of gradient descent in z.

    Lavington et al. 2023, "Target-based Surrogates for Stochastic Optimization", abstract and introduction, and the
    authors' optimizers `SGD_FMDOpt` and `LSOpt`.

    Deviations: (1) eta is the paper's, of the loss of one record; the code's is its inverse up to a factor of 2;
    (2) the line search's first a is 10 once, as the code's, whose a begins there again at every step; (3) its rate
    is kept from step to step; (4) a search that fails leaves the weights, where the code takes the smallest step.

    It asks for evaluations of the loss and watches the method: its `net`, whatever the method makes of the outputs. All
    that is trained belongs to that net. A dropout has the same mask in all evaluations of a step.

    Args:
        params: the weights of the watched network; one group.
        lr: eta, above 0: 1 / L of the loss by one output. Cross-entropy of a softmax has L = 1/2, of a sigmoid 1/4.
        inner: m, steps for each gradient with respect to the outputs; the authors try 1 to 100.
        growth: of the rate from one step to the next, at least 1; 1.8 as in the code.
        shrink: b, between 0 and 1; 0.9 as in the code.
        decrease: c, between 0 and 1; 0.5 as in the code.

    Raises:
        UserError: a value out of range, a method without a net, or weights outside of it.
    """

    papers = ("lavington2023target",)
    first = 10.0
    flat = 1e-6
    """Gradients of a norm below it end the inner steps, as in the code."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        inner: int = 10,
        growth: float = 1.8,
        shrink: float = 0.9,
        decrease: float = 0.5,
    ) -> None:
        if not lr > 0 or inner < 1 or growth < 1 or not 0 < shrink < 1 or not 0 < decrease < 1:
            raise UserError(
                f"optimizer.lr={lr} inner={inner} growth={growth} shrink={shrink} decrease={decrease}: "
                "above 0, at least 1, at least 1, and the others between 0 and 1."
            )
        super().__init__(params, {"lr": lr, "inner": inner, "growth": growth, "shrink": shrink, "decrease": decrease})
        if len(self.param_groups) > 1:
            raise UserError("SSO has one surrogate of one network, and so one group of weights.")
        self.net: nn.Module | None = None
        self.seen: list[Call] | None = None

    def watch(self, method: nn.Module) -> None:
        """Look at what a method's network gives out; a network may also be given by itself.

        Raises:
            UserError: no network, or weights outside of it.
        """
        net = getattr(method, "net", None if hasattr(method, "loss") else method)
        if not isinstance(net, nn.Module):
            raise UserError(f"SSO looks at the outputs of a network, and {type(method).__name__} has no net.")
        inside = {id(parameter) for parameter in net.parameters()}
        if any(id(parameter) not in inside for parameter in self.param_groups[0]["params"]):
            raise UserError(
                f"SSO moves the weights of one network, and {type(method).__name__} trains others beside its net.",
                "choose another with optimizer=...",
            )
        self.net = net
        net.register_forward_pre_hook(self._before, with_kwargs=True)
        net.register_forward_hook(self._after)

    def _before(self, net: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self.seen is not None and torch.is_grad_enabled():
            self.seen.append(Call(given, named))

    def _after(self, net: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if self.seen is not None and torch.is_grad_enabled():
            if not isinstance(output, Tensor):
                raise UserError(f"SSO takes a network that gives one tensor; {type(net).__name__} does not.")
            self.seen[-1].output = output

    def descend(self, evaluate: Callable[[], Tensor]) -> Tensor:
        if self.net is None:
            raise UserError("SSO looks at a network's outputs.", "optimizer.watch(method)")
        (group,) = self.param_groups
        params = [parameter for parameter in group["params"] if parameter.requires_grad]
        loss, calls = self._look(evaluate)
        outputs = sum(call.slope.numel() // call.slope.shape[-1] for call in calls)
        weight = 1 / (2 * group["lr"] * outputs)
        state = self.state[params[0]]
        rate = float(state["rate"]) if "rate" in state else self.first / group["growth"]
        for _ in range(group["inner"]):
            with torch.enable_grad():
                here = self._surrogate(calls, weight)
                slopes = torch.autograd.grad(here, params, allow_unused=True, materialize_grads=True)
            slopes = tuple(mean_over_processes(slope) for slope in slopes)
            square = float(torch.stack(torch._foreach_norm(slopes)).double().square().sum())
            if not square > self.flat**2:
                break
            value, start = float(mean_over_processes(here.detach())), [parameter.clone() for parameter in params]
            rate *= group["growth"]
            for _ in range(TRIES):
                torch._foreach_copy_(params, torch._foreach_sub(start, slopes, alpha=rate))
                if self.value(calls, weight) <= value - group["decrease"] * rate * square:
                    break
                rate *= group["shrink"]
            else:
                torch._foreach_copy_(params, start)
                break
        state["rate"] = torch.tensor(rate)
        return loss

    def value(self, calls: list[Call], weight: float) -> float:
        """q_t at the weights as they are, over all processes."""
        with torch.no_grad():
            return float(mean_over_processes(self._surrogate(calls, weight)))

    def _look(self, evaluate: Callable[[], Tensor]) -> tuple[Tensor, list[Call]]:
        """The loss (), and each call of the network with the slope of the loss with respect to its output."""
        self.seen = []
        try:
            with torch.enable_grad():
                loss = evaluate()
        finally:
            calls, self.seen = self.seen, None
        if not calls:
            raise UserError("SSO looks at a network's outputs, and the loss does not ask the network.")
        for call, slope in zip(
            calls,
            torch.autograd.grad(loss, [call.output for call in calls], allow_unused=True, materialize_grads=True),
            strict=True,
        ):
            call.slope, call.output = slope, call.output.detach()
        return loss.detach(), calls

    def _surrogate(self, calls: list[Call], weight: float) -> Tensor:
        """q_t (), with a graph where gradients are on."""
        parts = []
        for call in calls:
            moved = call.again(self.net) - call.output  # type: ignore[arg-type]
            parts.append((call.slope * moved).sum() + weight * moved.square().sum())
        return torch.stack(parts).sum()


class Call:
    """A network's call, to be made again with the same draws and in the same precision."""

    output: Tensor
    slope: Tensor

    def __init__(self, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.given, self.named, self.drawn = given, named, states()
        kind = next((each.device.type for each in given if isinstance(each, Tensor)), "cpu")
        self.precision = {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
        }

    def again(self, net: nn.Module) -> Tensor:
        """The output at the weights as they are now."""
        restore(self.drawn)
        with torch.autocast(**self.precision):
            return net(*self.given, **self.named)
