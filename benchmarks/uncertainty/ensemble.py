"""Wall time of a run that trains an ensemble as one batched network, beside a run per member, one after another.

Same networks, records, epochs and optimizer, all in one process, so that no start of Python or import counts. What a
batch saves are the calls, of which there are as many for eight networks as for one. The arithmetic stays: products of
matrices, activations and steps of the weights are timed by themselves, one member after the other in memory that lies
in the cache, and no way of training takes less. Where they are most of the time already, an ensemble is no cheaper than
its members.

    python -m benchmarks.uncertainty.ensemble [--pairs 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.generative.peers import seconds
from compendium.compose import compose
from compendium.engine import build
from compendium.run import Run

MEMBERS = 8
EPOCHS = 10
WANTED = 0.4
"""Of the time of the runs in turn, at most."""
SHARED = ("trainer=cpu", f"trainer.max_epochs={EPOCHS}", "callbacks=bare", "logger=none", "trainer.limit_val_batches=0")
CASES = ((32, 2, 32), (64, 2, 64), (128, 2, 64), (256, 3, 128))
"""Width and depth of the perceptron, and records in a batch."""
PIXELS, DIGITS = 64, 10


def train(*choices: str) -> int:
    """One run on digits, from its config to its last step; how many steps it took."""
    with tempfile.TemporaryDirectory() as home, contextlib.redirect_stderr(io.StringIO()):
        run = Run.plan(compose([*SHARED, *choices, f"runs={Path(home)}"]))
        run.freeze()
        parts = build(run)
        parts.logger.rewind(0)
        parts.trainer.fit(parts.method, parts.data)
        return int(parts.trainer.global_step)


def alone(net: tuple[str, ...]) -> None:
    """A run per member."""
    for seed in range(MEMBERS):
        train("model=supervised/classifier", f"seed={seed}", *net)


def arithmetic(width: int, depth: int, batch: int, steps: int) -> None:
    """What any way of training the members for so many steps computes: products, activations and AdamW."""
    sizes = [PIXELS, *[width] * depth, DIGITS]
    inputs = [torch.randn(batch, size) for size in sizes]
    outward = [torch.randn(batch, size) for size in sizes]
    weights = [torch.randn(after, before) for before, after in pairwise(sizes)]
    gradients = [torch.empty_like(weight) for weight in weights]
    flat = torch.nn.Parameter(torch.zeros(sum(weight.numel() + len(weight) for weight in weights)))
    flat.grad = torch.ones_like(flat)
    optimizer = torch.optim.AdamW([flat], fused=True)
    for _ in range(MEMBERS * steps):
        for layer, weight in enumerate(weights):
            torch.mm(inputs[layer], weight.T, out=outward[layer + 1])
            torch.mm(outward[layer + 1].T, inputs[layer], out=gradients[layer])
            if layer:
                torch.mm(outward[layer + 1], weight, out=outward[layer])
                torch.nn.functional.silu(inputs[layer])
                torch.ops.aten.silu_backward(outward[layer], inputs[layer])
        optimizer.step()


def main(pairs: int = 5, threads: int = 1, cases: tuple[tuple[int, int, int], ...] = CASES) -> None:
    """Print a line per size: median times, the median of the pairs' ratios, and the arithmetic's share."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    print(
        f"an ensemble of {MEMBERS}, {EPOCHS} epochs of digits, {threads} thread{'s' if threads > 1 else ''}: one "
        f"batched run beside {MEMBERS} runs in turn, of whose time it is to take {WANTED} at most"
    )
    print(f"{'':<26} {'batched':>10} {'in turn':>10} {'ratio':>7} {'arithmetic alone':>17}")
    for width, depth, batch in cases:
        net = ("net=mlp", f"net.width={width}", f"net.depth={depth}", f"datamodule.batch_size={batch}")
        batched = partial(train, "model=uncertainty/ensemble", f"model.members={MEMBERS}", *net)
        work = (batched, partial(alone, net), partial(arithmetic, width, depth, batch, batched()))
        times = [[seconds(part) for part in work] for _ in range(pairs)]
        one, turn = (statistics.median(row[part] for row in times) for part in (0, 1))
        ratio, floor = (statistics.median(row[part] / row[1] for row in times) for part in (0, 2))
        share = f"{floor / ratio:.0%} of the batched run is arithmetic"
        verdict = "holds" if ratio <= WANTED else f"does not hold: {share}"
        name = f"MLP {width} x {depth}, batch {batch}"
        print(f"{name:<26} {one:8.2f} s {turn:8.2f} s {ratio:7.2f} {floor:17.2f}   {verdict}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.pairs, arguments.threads)
