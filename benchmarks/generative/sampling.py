"""Wall time of sampling: samplers beside the schedulers of diffusers, and the adaptive one beside zuko's.

Same network, number of evaluations and draws. A scheduler of diffusers is called in the loop of its documentation.

    python -m benchmarks.generative.sampling [--pairs 15]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.generative.peers import PICTURES, VECTORS, method, peer, table
from datamodules.spec import DataSpec

STEPS = 20
CASES = {
    "MLP 64 x 2, plane, 500 draws": (VECTORS, ("net=mlp", "net.width=64", "net.depth=2"), 500),
    "U-Net, 8 x 8, 50 draws": (PICTURES, ("net=unet",), 50),
}
SCHEDULERS = {
    "ddim": ("DDIMScheduler", {}),
    "dpm_solver": ("DPMSolverMultistepScheduler", {}),
    "ddpm": ("DDPMScheduler", {"variance_type": "fixed_small"}),
}
"""sampler -> diffusers' scheduler of the same rule, and its arguments."""


def scheduled(scheduler: Any, net: Any, spec: DataSpec, n: int) -> Callable[[], Tensor]:
    """n draws by a scheduler of diffusers, of a network that predicts the noise."""

    @torch.no_grad()
    def run() -> Tensor:
        scheduler.set_timesteps(STEPS)
        x = torch.randn(n, *spec.shape)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, (t / 1000).expand(n)), t, x).prev_sample
        return x

    return run


def solved(zuko: Any, net: Any, spec: DataSpec, n: int) -> Callable[[], Tensor]:
    """n draws by zuko's adaptive solver, of a network that predicts the velocity."""

    @torch.no_grad()
    def run() -> Tensor:
        x = torch.randn(n, *spec.shape)
        return zuko.utils.odeint(lambda t, y: net(y, t.expand(n)), x, 1.0, 0.0, atol=1e-5, rtol=1e-5)

    return run


def main(pairs: int = 15) -> None:
    """Print the table."""
    diffusers, zuko = peer("diffusers"), peer("zuko")
    rows = {}
    for name, (spec, net, n) in CASES.items():
        for sampler, (scheduler, arguments) in SCHEDULERS.items() if diffusers is not None else ():
            chosen = (f"sampler={sampler}", f"model.timesteps.steps={STEPS}", "model.sampler.denoise=false")
            ours = method(spec, "path=vp", "timesteps=uniform", "model.target=noise", *chosen, *net).eval()
            # A net that is new predicts 0, and so does any other: only the time counts.
            made = getattr(diffusers, scheduler)(num_train_timesteps=1000, **arguments)
            theirs = scheduled(made, ours.net, spec, n)
            rows[f"{sampler}: {name}"] = (lambda model=ours, n=n: model.sample(n), theirs)
        if zuko is not None:
            ours = method(spec, "path=linear", "sampler=adaptive", "model.target=velocity", *net).eval()
            for parameter in ours.net.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
            rows[f"adaptive: {name}"] = (lambda model=ours, n=n: model.sample(n), solved(zuko, ours.net, spec, n))
    table(rows, pairs, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    main(parser.parse_args().pairs)
