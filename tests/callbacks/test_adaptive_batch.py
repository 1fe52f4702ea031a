"""The growth of a batch: its test against gradients of single records, its steps by hand, and its end after a kill."""

from __future__ import annotations

import math

import pytest
import torch
from lightning import Callback
from torch.nn.functional import cross_entropy

from callbacks.adaptive_batch import AdaptiveBatch, needed
from compendium.build import build
from compendium.compose import compose
from compendium.errors import UserError
from compendium.run import Run
from tests.compendium.quick import CLASSIFIER

ADAPTIVE = "++callbacks.adaptive_batch._target_=callbacks.adaptive_batch.AdaptiveBatch"


def parts_of(tmp_path, *more):
    run = Run.plan(compose([*CLASSIFIER, "logger=none", f"runs={tmp_path}", *more]))
    run.freeze()
    return build(run)


def per_record(net, x, y):
    """Gradients of single records by name, (B, ...) each."""
    weights = {name: value.detach() for name, value in net.named_parameters()}

    def loss(weights, x, y):
        return cross_entropy(torch.func.functional_call(net, weights, (x[None],)), y[None])

    return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, x, y)


@pytest.mark.parametrize("test", ["norm", "coordinate"])
def test_micro_batches_of_one_record_are_the_papers_test(test):
    """b records of a linear model: the sum of variances of their gradients over eta^2 |mean|^2, as the paper has it."""
    draw, eta, count = torch.Generator().manual_seed(0), 0.4, 12
    net = torch.nn.Linear(5, 3).double()
    x, y = torch.randn(count, 5, generator=draw, dtype=torch.float64), torch.randint(3, (count,), generator=draw)
    each = list(per_record(net, x, y).values())
    variances = torch.cat([g.var(0, correction=1).flatten() for g in each])
    means = torch.cat([g.mean(0).flatten() for g in each])
    if test == "norm":
        expected = variances.sum() / (eta**2 * means.square().sum())
    else:
        expected = (variances / (eta**2 * means.square())).max()
    found = needed([3 * g.sum(0) for g in each], [9 * g.square().sum(0) for g in each], count, eta, test)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)  # in whatever unit gradients come


def test_micro_batches_estimate_the_variance_of_records():
    """E V = variance of records / m: n micro-batches of m records ask for 1 / m of what n m records ask for, about."""
    draw = torch.Generator().manual_seed(1)
    records = 1 + 2 * torch.randn(4000, 8, 50, generator=draw, dtype=torch.float64)  # repeats, micro-batches, records
    means = records.mean(2)
    signal, noise = means.mean(1).square().mean(), means.var(1, correction=1).mean()
    assert float(noise) == pytest.approx(4 / 50, rel=0.02)
    found = needed([means[0].sum()], [means[0].square().sum()], 8, 1.0, "norm")
    assert float(found) == pytest.approx(float(means[0].var(correction=1) / means[0].mean().square()))
    assert float(signal) == pytest.approx(1 + 4 / 400, rel=0.01)


def test_no_noise_asks_for_nothing_and_no_signal_for_all():
    zero, one = torch.zeros(2), torch.ones(2)
    for test in ("norm", "coordinate"):
        assert float(needed([4 * one], [4 * one], 4, 0.1, test)) == 0
        assert float(needed([zero], [zero], 4, 0.1, test)) == 0
        assert float(needed([zero], [one], 4, 0.1, test)) == math.inf
    assert float(needed([torch.tensor([2.0, 0.0])], [torch.tensor([2.0, 1.0])], 2, 0.1, "coordinate")) == math.inf


class Watch(Callback):
    """The rows and the gradient of every step, as the optimizer gets it, and what stands at its end."""

    def __init__(self):
        self.steps, self.batches = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch)
        self.weights = {name: value.detach().clone() for name, value in pl_module.named_parameters()}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        gradient = torch.cat([p.grad.flatten() for p in pl_module.parameters()])
        self.steps.append((trainer.current_epoch, self.batches, self.weights, gradient.clone()))
        self.batches = []


def test_every_step_is_the_mean_of_its_records_and_sizes_go_up_divisor_by_divisor(tmp_path):
    """15 micro-batches an epoch that always want 12: 2, 2 -> 4, 4 -> 8, then what is left; then 12 and 3."""
    more = ("datamodule.batch_size=8", f"{ADAPTIVE}", "++callbacks.adaptive_batch.eta=1e-6",
            "++callbacks.adaptive_batch.largest=12", "optimizer=sgd")  # fmt: skip
    parts = parts_of(tmp_path, *more)
    watch = Watch()
    watch_at = next(i for i, c in enumerate(parts.trainer.callbacks) if isinstance(c, AdaptiveBatch)) + 1
    parts.trainer.callbacks.insert(watch_at, watch)
    parts.trainer.fit(parts.method, parts.data)
    assert [(epoch, len(batches)) for epoch, batches, *_ in watch.steps] == [
        (0, 2),
        (0, 2),
        (0, 4),
        (0, 7),
        (1, 12),
        (1, 3),
    ]
    assert parts.trainer.global_step == 6
    for epoch, batches, weights, gradient in watch.steps:
        x, y = torch.cat([batch.x for batch in batches]), torch.cat([batch.y for batch in batches])
        weights = {name: value.requires_grad_() for name, value in weights.items()}
        net = {name.removeprefix("net."): value for name, value in weights.items()}
        loss = cross_entropy(torch.func.functional_call(parts.method.net, net, (x,)), y)
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(weights.values()))])
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6, msg=f"epoch {epoch}")


def test_its_decisions_are_those_of_the_gradients_of_micro_batches(tmp_path, monkeypatch):
    """What a run asks for after its first step, from the gradients of its two micro-batches by themselves."""
    asked = []

    def noted(*arguments):
        asked.append(float(needed(*arguments)))
        return torch.tensor(asked[-1])

    monkeypatch.setattr("callbacks.adaptive_batch.needed", noted)
    more = ("datamodule.batch_size=8", ADAPTIVE, "++callbacks.adaptive_batch.eta=0.3", "trainer.max_steps=1")
    parts = parts_of(tmp_path, *more)
    batches = iter(parts.data.train_dataloader())
    each = []
    for _ in range(2):
        loss = parts.method.loss(next(batches))
        each.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(parts.method.parameters()))]))
    mean, variance = torch.stack(each).mean(0), torch.stack(each).var(0, correction=1)
    parts.trainer.fit(parts.method, parts.data)
    assert asked == [pytest.approx(float(variance.sum() / (0.3**2 * mean.square().sum())), rel=1e-3)]


@pytest.mark.parametrize("saved", [3])
def test_an_interrupted_run_ends_like_a_whole_one(saved, tmp_path):
    """Stopped before a step, its checkpoint continues: weights, steps made and the size of the batch are the same."""
    more = ("datamodule.batch_size=8", "++callbacks.adaptive_batch.eta=0.5", "trainer.max_epochs=3", ADAPTIVE,
            "optimizer=adagrad", "schedule=cosine")  # fmt: skip
    whole = parts_of(tmp_path / "whole", *more)
    whole.trainer.fit(whole.method, whole.data)
    first = parts_of(tmp_path / "part", *more)
    path = tmp_path / "part.ckpt"

    class Stop(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == saved:
                next(c for c in trainer.callbacks if hasattr(c, "last_saved")).on_train_batch_start(
                    trainer, pl_module, batch, batch_idx
                )
                trainer.save_checkpoint(path)
                raise KeyboardInterrupt

    place = next(i for i, c in enumerate(first.trainer.callbacks) if isinstance(c, AdaptiveBatch)) + 1
    first.trainer.callbacks.insert(place, Stop())
    with pytest.raises(SystemExit):
        first.trainer.fit(first.method, first.data)
    second = parts_of(tmp_path / "part", *more)
    second.trainer.fit(second.method, second.data, ckpt_path=path, weights_only=True)
    assert second.trainer.global_step == whole.trainer.global_step
    assert second.trainer.accumulate_grad_batches == whole.trainer.accumulate_grad_batches > 2
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, second.method.state_dict()[name]), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": 0.0}, r"eta=0"),
        ({"start": 1}, r"start=1"),
        ({"start": 9, "largest": 8}, r"largest=8"),
        ({"test": "angle"}, r"test=angle"),
        ({"every": 0}, r"every=0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        AdaptiveBatch(**arguments)


def test_an_accumulation_of_ones_own_is_refused(tmp_path):
    parts = parts_of(tmp_path, ADAPTIVE, "trainer.accumulate_grad_batches=2")
    with pytest.raises(UserError, match="sets trainer"):
        parts.trainer.fit(parts.method, parts.data)
