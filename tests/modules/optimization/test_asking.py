"""What optimizers ask of a method arrives: in plain training, with accumulated batches, and where losses are random."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from compendium.compose import compose
from compendium.engine import build
from compendium.errors import UserError
from compendium.run import Run
from modules.optimization.asking import EvaluatingOptimizer, asked
from modules.supervised.classifier import SoftmaxClassifier
from tests.modules.test_contract import planned, trained

HERE = "tests.modules.optimization.test_asking"
FEW = ["model=supervised/classifier", "data=wine", "net=mlp", "net.width=8", "trainer=cpu", "callbacks=bare"]
FEW += ["logger=none", "optimizer=sgd", "optimizer.momentum=0", "schedule=constant", "datamodule.batch_size=16"]


class Descent(torch.optim.SGD):
    """SGD that notes the losses it is told."""

    asks = "loss"

    def step(self, closure=None):
        loss = super().step(closure)
        self.losses = [*getattr(self, "losses", []), loss]
        return loss


class GraphDescent(EvaluatingOptimizer):
    """SGD by gradients of its own; evaluates twice and notes both values."""

    def __init__(self, params, lr=0.1, momentum=0, nesterov=False, weight_decay=0.0, betas=()):
        super().__init__(params, {"lr": lr})
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def descend(self, evaluate: Callable[[], Tensor]) -> Tensor:
        with torch.enable_grad():
            first = evaluate()
        again = evaluate()
        assert not again.requires_grad
        self.pairs.append((first.detach(), again))
        for group in self.param_groups:
            for parameter, gradient in zip(group["params"], torch.autograd.grad(first, group["params"]), strict=True):
                parameter.sub_(gradient, alpha=group["lr"])
        return first


def fitted(folder, monkeypatch, target: str, *more: str):
    """The parts of a run of six batches."""
    monkeypatch.setenv("COMPENDIUM_ALLOW", "tests")
    steps = ["trainer.max_epochs=1", "trainer.limit_train_batches=6"]
    run = Run.plan(compose([*FEW, *steps, f"optimizer._target_={target}", f"runs={folder}", *more]))
    run.freeze()
    parts = build(run)
    parts.logger.rewind(0)
    parts.trainer.fit(parts.method, parts.data)
    return parts


@pytest.mark.parametrize("batches", [1, 3])
def test_the_loss_of_a_step_is_the_mean_over_its_batches(batches, tmp_path, monkeypatch):
    each: list[Tensor] = []
    loss = SoftmaxClassifier.loss
    monkeypatch.setattr(SoftmaxClassifier, "loss", lambda self, batch: each.append(loss(self, batch)) or each[-1])
    accumulated = f"trainer.accumulate_grad_batches={batches}"
    parts = fitted(tmp_path, monkeypatch, f"{HERE}.Descent", accumulated)
    found = torch.stack(parts.trainer.optimizers[0].losses)
    torch.testing.assert_close(found, torch.stack(each).detach().view(-1, batches).mean(1))


@pytest.mark.parametrize("batches", [1, 3])
def test_descending_the_evaluated_loss_is_descending_its_gradient(batches, tmp_path, monkeypatch):
    accumulated = f"trainer.accumulate_grad_batches={batches}"
    plain = fitted(tmp_path / "a", monkeypatch, "torch.optim.SGD", accumulated)
    asking = fitted(tmp_path / "b", monkeypatch, f"{HERE}.GraphDescent", accumulated)
    assert len(asking.trainer.optimizers[0].pairs) == 6 // batches
    for one, other in zip(plain.method.parameters(), asking.method.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_each_evaluation_of_a_step_makes_the_same_draws(tmp_path, monkeypatch):
    random = ["model=generative/diffusion", "data=ring", "optimizer=sgd", "optimizer.momentum=0"]
    parts = fitted(tmp_path, monkeypatch, f"{HERE}.GraphDescent", *random, "trainer.accumulate_grad_batches=2")
    pairs = parts.trainer.optimizers[0].pairs
    assert all(torch.equal(one, other) for one, other in pairs)
    assert len({float(one) for one, _ in pairs}) == len(pairs) == 3


def test_outside_of_a_trainer_any_closure_does():
    weight = torch.nn.Parameter(torch.tensor(3.0))
    optimizer = GraphDescent([weight], lr=0.25)
    assert optimizer.step(lambda: weight.square()) == 9
    assert weight == 1.5  # 3 - 0.25 * 6
    with pytest.raises(UserError, match="step\\(closure\\)"):
        optimizer.step()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["trainer.gradient_clip_val=1.0"], "no gradient to clip"),
        (["model=generative/r3gan", "data=ring", "optimizer=sgd", "optimizer.momentum=0"], "steps by itself"),
    ],
)
def test_what_cannot_be_given_is_said(more, message, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=message):
        fitted(tmp_path, monkeypatch, f"{HERE}.GraphDescent", *more)


def test_what_needs_a_closure_is_not_for_methods_that_step_by_themselves(tmp_path):
    parameters = [torch.nn.Parameter(torch.ones(2))]
    assert asked(torch.optim.LBFGS(parameters)) == "closure"
    assert asked(torch.optim.Adam(parameters)) == "gradients"
    with pytest.raises(UserError, match="LBFGS asks for a closure, and R3GAN steps by itself"):
        trained(planned("generative/r3gan", tmp_path, "data=ring", "optimizer=lbfgs"))
