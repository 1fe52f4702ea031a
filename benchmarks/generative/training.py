"""Wall time of a training step of flow matching: `model=generative/diffusion path=linear` beside torchcfm.

Same network, batch and optimizer, in the same loop, so that what differs is how the loss is made. What Lightning adds
to a loop is measured by `benchmarks.steps`.

    python -m benchmarks.generative.training [--pairs 15]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.generative.peers import PICTURES, VECTORS, method, peer, table
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec

FLOW = ("path=linear", "model.target=velocity", "model.weighting=velocity", "model.data_std=1.0")
CASES = {
    "MLP 256 x 4, plane, batch 256": (VECTORS, ("net=mlp", "net.width=256", "net.depth=4"), 256),
    "U-Net, 8 x 8, batch 64": (PICTURES, ("net=unet",), 64),
}
STEPS = 50


def loop(model: Any, loss: Callable[[Tensor], Tensor], spec: DataSpec, batch: int) -> Callable[[], None]:
    """`STEPS` steps of AdamW on random records."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x = torch.randn(batch, *spec.shape)

    def run() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss(x).backward()
            optimizer.step()

    return run


def main(pairs: int = 15) -> None:
    """Print the table."""
    flows = peer("torchcfm.conditional_flow_matching")
    if flows is None:
        return
    rows = {}
    for name, (spec, net, batch) in CASES.items():
        ours, theirs = method(spec, *FLOW, *net), method(spec, *FLOW, *net).net
        matcher = flows.ConditionalFlowMatcher(sigma=0.0)

        def matching(x: Tensor, matcher: Any = matcher, net: Any = theirs) -> Tensor:
            t, noisy, velocity = matcher.sample_location_and_conditional_flow(torch.randn_like(x), x)
            return (net(noisy, t) - velocity).square().mean()

        rows[name] = (
            loop(ours, lambda x, model=ours: model.loss(Unlabelled(x)), spec, batch),
            loop(theirs, matching, spec, batch),
        )
    table(rows, pairs, STEPS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    main(parser.parse_args().pairs)
