"""An ensemble that grows member by member, each away from those that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.ensemble import checked
from modules.uncertainty.members import MembersClassifier


class GreedyEnsemble(MembersClassifier):
    """A deep ensemble whose member m is trained when members 1 ... m - 1 are done, and kept away from them.

        loss_m = mean_i -ln p_m(y_i|x_i) + ln sum_{j < m} exp(-(diversity / M) d(m, j))
        d(m, j) = E_x' |p_m(.|x') - p_j(.|x')|^2,      x' from N(mean, (width * std)^2)

    with p = softmax(f), M members, and mean and std of each component of the training records: distances of functions
    are measured on wide noise around the data. The first member is trained by cross-entropy alone. The second term is
    what the marginal gain of a member is in a lower bound on minus the divergence of a kernel density estimate in
    function space from the posterior; as that is submodular in the members, they are chosen greedily.

    The run's steps are divided equally among the members. Each has the whole learning rate schedule to itself, and the
    others stand still: without gradients, no optimizer moves them. Several processes need
    trainer.strategy=ddp_find_unused_parameters_true.

    Tiulpin and Blaschko 2022, "Greedy Bayesian Posterior Approximation with Deep Ensembles". The loss, its sign and
    width=5 are those of the authors' code (`gde/ensemble.py`, `gde/data/data_provider.py`); the derivation was not
    checked against the paper.
    Deviations: 1. x' is drawn anew at each step, where their code draws as many as there are records, once, and
    truncates those of pictures to whole grey levels. 2. Members are those of their last step, not of their best
    validation accuracy. 3. M is the number of members; the authors' code divides by a constant that their
    configuration does not set.

    Args:
        spec: labelled data with at least two classes.
        members: M; 5, see `DeepEnsemble`.
        diversity: weight of the second term, at least 0; 3, the first of those that the authors' README names.
        width: standard deviation of the noise, in those of the records, above 0; 5, as in the authors' configuration.
        parts: `net` (a config: each member is built from it), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no classes, a value out of range, a net that is no config, a schedule that cannot begin anew.
    """

    center: Tensor
    spread: Tensor
    begun: Tensor

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)
    papers = ("greedy2022bayesian",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        members: int = 5,
        diversity: float = 3.0,
        width: float = 5.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if diversity < 0 or width <= 0:
            raise UserError(f"model.diversity={diversity} model.width={width}: at least 0, and above 0.")
        if isinstance(self._net, nn.Module):
            raise UserError("each member is built from the config of a network.", "choose one with net=...")
        self.diversity, self.width = diversity, width
        self.members = nn.ModuleList(
            self.build(self.spec.shape, (len(self.spec.classes),)) for _ in range(checked(members))
        )
        self.register_buffer("center", torch.zeros(self.spec.shape))
        self.register_buffer("spread", torch.ones(self.spec.shape))
        self.register_buffer("begun", torch.ones((), dtype=torch.long))

    def on_fit_start(self) -> None:
        """Take mean and standard deviation of the training records; a continued run finds the same."""
        x = self.trainer.datamodule.records("train").x
        self.center.copy_(x.mean(0))
        self.spread.copy_(x.std(0, correction=0))

    def configure_optimizers(self) -> Any:
        self.members.requires_grad_(True)
        configured = super().configure_optimizers()
        if isinstance(configured, dict):
            begin_anew(configured["lr_scheduler"]["scheduler"], self.schedule_steps())
        return configured

    def schedule_steps(self) -> int:
        """The steps of each member."""
        return max(1, super().schedule_steps() // len(self.members))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Train one member alone; before the step, as some optimizers move weights before they ask for the loss."""
        self.begun.fill_(min(self.trainer.global_step // self.schedule_steps() + 1, len(self.members)))
        for place, net in enumerate(self.members, 1):
            net.requires_grad_(place == int(self.begun))

    def loss(self, batch: Labelled) -> dict[str, Tensor]:
        active = int(self.begun) - 1
        net = self.members[active]
        terms = {"cross_entropy": F.cross_entropy(net(batch.x), batch.y)}
        if active:
            wide = self.center + self.width * self.spread * torch.randn_like(batch.x)
            terms["diversity"] = repulsion(
                net(wide).softmax(1), self.logits(wide, active).softmax(2), self.diversity / len(self.members)
            )
        return terms

    @torch.no_grad()
    def logits(self, x: Tensor, count: int) -> Tensor:
        """x (B, ...) -> logits of the first `count` members (count, B, classes), in one batched call."""
        chosen = list(self.members)[:count]
        states = [dict(net.state_dict()) for net in chosen]
        stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}

        def one(state: dict[str, Tensor]) -> Tensor:
            return functional_call(chosen[0], state, (x,))

        return vmap(one, randomness="different")(stacked)

    def predict_members(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities of the members whose training has begun (K, B, classes)."""
        return self.logits(x, int(self.begun)).float().log_softmax(2)


def repulsion(own: Tensor, others: Tensor, weight: float) -> Tensor:
    """Probabilities (B, C), those of J others (J, B, C) -> ln sum_j exp(-weight mean_B |own - other_j|^2) ()."""
    return torch.logsumexp(-weight * (own - others).square().sum(2).mean(1), 0)


def begin_anew(schedule: Any, steps: int) -> None:
    """Make a schedule that was made for as many steps start again after them, in place.

    Raises:
        UserError: one that is no function of the step.
    """
    if not isinstance(schedule, LambdaLR):
        raise UserError("this schedule cannot begin anew with each member.", "schedule=cosine, linear or constant")
    schedule.lr_lambdas = [(lambda step, factor=factor: factor(step % steps)) for factor in schedule.lr_lambdas]
