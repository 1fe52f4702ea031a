"""The average of the weights is the recursion that its docstring states."""

from __future__ import annotations

import pytest
import torch
from lightning import Callback

from compendium.build import build
from compendium.compose import compose
from compendium.run import Run
from tests.compendium.quick import CLASSIFIER


class Weights(Callback):
    """Keeps the weights after every optimizer step, in float64."""

    def __init__(self) -> None:
        self.steps: dict[int, list[torch.Tensor]] = {}

    def on_train_start(self, trainer, pl_module):
        self.steps[0] = [p.detach().double().clone() for p in pl_module.parameters()]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.setdefault(trainer.global_step, [p.detach().double().clone() for p in pl_module.parameters()])


@pytest.mark.parametrize(("warmup", "accumulate"), [(0, 1), (3, 1), (0, 2)])
def test_the_average_is_the_recursion_in_float64(warmup, accumulate, tmp_path):
    decay = 0.8
    more = (
        "++callbacks.ema._target_=callbacks.ema.EMA",
        f"++callbacks.ema.decay={decay}",
        f"++callbacks.ema.warmup={warmup}",
        f"trainer.accumulate_grad_batches={accumulate}",
        "optimizer.lr=0.05",
        "logger=none",
        f"runs={tmp_path}",
    )
    run = Run.plan(compose([*CLASSIFIER, *more]))
    run.freeze()
    parts = build(run)
    watch = Weights()
    parts.trainer.callbacks.insert(0, watch)
    parts.trainer.fit(parts.method, parts.data)
    steps = list(watch.steps.values())
    assert len(steps) == 1 + (14 if accumulate == 1 else 8)
    average = steps[0]  # torch's AveragedModel copies the weights at its first update instead of averaging
    first = True
    for step, weights in enumerate(steps[1:]):
        if step < warmup:
            continue
        average = weights if first else [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
        first = False
    for got, want in zip(parts.method.parameters(), average, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(got.double(), w) for got, w in zip(parts.method.parameters(), steps[-1], strict=True))


def test_validation_sees_the_average_and_training_goes_on_from_its_own(tmp_path):
    """Evaluating often or never gives the same weights to the bit, also where they are averaged."""
    states = []
    for number, every in enumerate(("1", "100")):
        more = ("++callbacks.ema._target_=callbacks.ema.EMA", "++callbacks.ema.decay=0.7", "logger=none")
        run = Run.plan(
            compose([*CLASSIFIER, *more, f"runs={tmp_path}/{number}", f"trainer.check_val_every_n_epoch={every}"])
        )
        run.freeze()
        parts = build(run)
        parts.trainer.fit(parts.method, parts.data)
        states.append(parts.method.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
