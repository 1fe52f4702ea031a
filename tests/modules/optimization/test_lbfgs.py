"""An optimizer that evaluates the loss by itself gets the closure for it."""

from __future__ import annotations

import copy

import torch

from compendium.compose import compose
from compendium.engine import build
from compendium.run import Run
from tests.modules.test_contract import planned, trained


def test_a_run_is_torchs_own_lbfgs_on_the_whole_batch(tmp_path):
    run = Run.plan(
        compose(
            [
                "model=supervised/classifier",
                "net=layered",
                "net.depth=1",
                "net.width=8",
                "optimizer=lbfgs",
                "optimizer.max_iter=5",
                "schedule=constant",
                "datamodule.batch_size=2000",
                "datamodule.drop_last=false",
                "trainer=cpu",
                "trainer.max_epochs=2",
                "callbacks=bare",
                "logger=none",
                f"runs={tmp_path}",
            ]
        )
    )
    run.freeze()
    parts = build(run)
    alone = copy.deepcopy(parts.method)
    parts.logger.rewind(0)
    parts.trainer.fit(parts.method, parts.data)
    solver = torch.optim.LBFGS(alone.parameters(), max_iter=5, history_size=10, line_search_fn="strong_wolfe")
    rows = parts.data.rows["train"]

    def closure():
        solver.zero_grad()
        batch = parts.data.present(parts.data.take(parts.data.columns, rows, "train"), "train")
        value = alone.loss(batch)
        value.backward()
        return value

    for _ in range(2):
        solver.step(closure)
    for one, other in zip(parts.method.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)  # the order of records differs, and so rounding


def test_accumulated_batches_are_one_whole_batch(tmp_path):
    """Every evaluation is of all of them, with the draws of the first."""
    few = ("data=digits", "net=mlp", "net.width=4", "optimizer=lbfgs", "optimizer.max_iter=5")
    more = ("schedule=constant", "trainer.max_epochs=1", "trainer.limit_train_batches=1.0")
    ended = []
    for size, batches in ((1258, 1), (629, 2)):
        sizes = (f"datamodule.batch_size={size}", f"trainer.accumulate_grad_batches={batches}")
        parts = trained(planned("supervised/classifier", tmp_path / str(size), *few, *more, *sizes))
        assert parts.trainer.global_step == 1
        ended.append(list(parts.method.parameters()))
    for one, other in zip(*ended, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
