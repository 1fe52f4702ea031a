"""ProxyProx: few gradients of an expensive objective, and proximal steps on a cheaper proxy between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method, mean_of_all

RULES = ("proxy_prox", "objective", "proxy")


class ProxyProx(Method):
    """Minimises f, the loss on the validation split, with the help of h, the loss on the training split.

        w_{t+1} ~ argmin over w of <g_f(w_t) - grad h(w_t), w> + h(w) + |w - w_t|^2 / (2 eta)

    where g_f is a gradient of f on `objective_batch` of its records. Where f - h is delta-smooth, it converges with eta
    of the order of 1 / delta as stochastic gradient descent does on a delta-smooth objective, however smooth f is. The
    minimisation takes `inner` steps of the optimizer, each of which is a step of training on a batch of h's records, so
    that any optimizer and schedule can do it. The loss of a batch B is

        h_B(w) + <g_f(w_t) - grad h_B(w_t), w> + |w - w_t|^2 / (2 eta),

    whose gradient has the right mean, and at w_t no noise of B.

    Woodworth, Mishchenko and Bach 2023, "Two losses are better than one: faster optimization using a cheaper proxy":
    the abstract, and the name and the scheme from summaries; the subproblem was checked by its fixed points and rate on
    quadratics.

    Deviations: (1) the paper solves the subproblem up to a criterion on its gradient, and here a number of steps is
    given; (2) grad h(w_t) is of the same batch as h, where the paper has the whole proxy.

    Baselines on the same footing: `objective` is descent on f alone, with a gradient of f per step, and `proxy` descent
    on h alone.

    Args:
        spec: labelled data.
        rule: `proxy_prox`, `objective` or `proxy`.
        eta: of the proximal term; None: no such term.
        inner: steps on the proxy for each gradient of f.
        objective_batch: validation records per gradient of f, drawn with replacement; None: all.
        precise: whether to compute in float64.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown rule, or numbers out of range.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class", "real")
    papers = ("woodworth2023two",)

    anchor: Tensor
    slope: Tensor
    calls: Tensor
    moves: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        rule: str = "proxy_prox",
        eta: float | None = 1.0,
        inner: int = 10,
        objective_batch: int | None = None,
        precise: bool = False,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if rule not in RULES:
            raise UserError(f"model.rule={rule}: there is none of that name.", f"one of {', '.join(RULES)}")
        if (eta is not None and not eta > 0) or inner < 1 or (objective_batch is not None and objective_batch < 1):
            raise UserError(
                f"model.eta={eta} inner={inner} objective_batch={objective_batch}: eta above 0, the others at least 1."
            )
        self.rule, self.eta, self.inner, self.objective_batch = rule, eta, inner, objective_batch
        self.kept = torch.float64 if precise else torch.float32
        self.net = self.build(self.spec.shape, (max(len(self.spec.classes), 1),)).to(self.kept)
        weights = parameters_to_vector(self.net.parameters()).detach()
        self.register_buffer("anchor", weights.clone())
        self.register_buffer("slope", torch.zeros_like(weights))
        self.register_buffer("calls", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("moves", torch.zeros((), dtype=torch.long))
        self._objective: Any = None

    def on_fit_start(self) -> None:
        """Take all records of the objective."""
        objective = self.trainer.datamodule.records("validation")
        if not len(objective[0]):
            raise UserError("the objective is on the validation split, which has no record.", "datamodule.validation")
        self._objective = type(objective)(*(column.to(self.device) for column in objective))

    def objective_records(self) -> Any:
        """What a gradient of f sees: all of its records, or some of them."""
        if self.objective_batch is None or self._objective is None:
            return self._objective
        rows = torch.randint(len(self._objective[0]), (self.objective_batch,)).to(self._objective[0].device)
        return type(self._objective)(*(column[rows] for column in self._objective))

    def mean_loss(self, batch: Any, weights: Tensor | None = None) -> Tensor:
        """Cross-entropy, or half the squared error, at other weights (q,) or at the network's own, ()."""
        x = batch.x.to(self.kept)
        if weights is None:
            out = self.net(x)
        else:
            named = dict(self.net.named_parameters())
            parts = weights.split([weight.numel() for weight in named.values()])
            moved = {name: part.view_as(weight) for (name, weight), part in zip(named.items(), parts, strict=True)}
            out = torch.func.functional_call(self.net, moved, (x,))
        if self.spec.classes:
            return F.cross_entropy(out, batch.y)
        return 0.5 * (out[:, 0] - batch.y.to(out.dtype)).square().mean()

    def gradient(self, batch: Any, weights: Tensor) -> Tensor:
        """Of the loss of a batch at weights (q,), the mean over processes (q,)."""
        with torch.enable_grad():
            point = weights.detach().requires_grad_()
            found = torch.autograd.grad(self.mean_loss(batch, point), point)
        return mean_of_all(found)[0]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.rule == "objective":
            batch = self.objective_records()
            self.calls[0] += len(batch[0])
        elif self.rule == "proxy":
            self.calls[1] += len(batch[0])
        else:
            if self.moves % self.inner == 0:
                records = self.objective_records()
                self.anchor.copy_(parameters_to_vector(self.net.parameters()).detach())
                self.slope.copy_(self.gradient(records, self.anchor))
                self.calls[0] += len(records[0])
            self.calls[1] += 2 * len(batch[0])
            self.moves += 1
        value = super().training_step(batch, batch_idx)
        self.terms["objective_gradients"], self.terms["proxy_gradients"] = self.calls.clone().unbind()
        return value

    def loss(self, batch: Any) -> Tensor | dict[str, Tensor]:
        if self.rule != "proxy_prox":
            return self.mean_loss(batch)
        away = parameters_to_vector(self.net.parameters()) - self.anchor
        terms = {
            "proxy": self.mean_loss(batch),
            "turn": (self.slope - self.gradient(batch, self.anchor)) @ away,
        }
        if self.eta is not None:
            terms["proximity"] = away.square().sum() / (2 * self.eta)
        return terms

    @torch.no_grad()
    def proxied(self, objective: Any, proxy: Any) -> dict[str, float]:
        """Figures on all records of both, see the evaluation `ProxiedLoss`."""
        value = self.mean_loss(objective).double()
        return {
            "objective": float(value),
            "log_objective": float(value.clamp_min(1e-300).log10()),
            "proxy": float(self.mean_loss(proxy)),
            "objective_gradients": float(self.calls[0]),
            "proxy_gradients": float(self.calls[1]),
        }

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, classes)."""
        return self.net(x.to(self.kept)).log_softmax(1).float()

    def predict_distribution(self, x: Tensor) -> Normal:
        """x (B, ...) -> Normal of variance 1 with batch shape (B,), the law whose likelihood is the squared error."""
        return Normal(self.net(x.to(self.kept))[:, 0].float(), 1.0, validate_args=False)
