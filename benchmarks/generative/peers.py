"""What the benchmarks of this folder share: pairs of timings, and peers that may be missing."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from compendium.compose import compose
from compendium.config import locate
from datamodules.spec import DataSpec

INSTALL = {
    "torchcfm": "pip install --no-deps torchcfm",  # its dependencies pin what it does not import here
    "diffusers": "pip install diffusers",
    "pytorch_optimizer": "pip install 'pytorch-optimizer>=4.1,<5'",
    "zuko": "pip install 'compendium-ml[flows]'",
    "relplot": "pip install 'relplot>=1.0.3'",
    "crepes": "pip install 'crepes>=0.7'",
    "statsmodels": "pip install 'statsmodels>=0.14.4'",
}

VECTORS = DataSpec(name="plane", kind="vector", shape=(2,), sizes={"train": 10_000})
PICTURES = DataSpec(name="digits", kind="image", shape=(1, 8, 8), sizes={"train": 1_000})


def peer(name: str) -> Any:
    """The peer's module; None where it is not installed, with a line that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: {INSTALL[name.partition('.')[0]]}")
        return None


def method(spec: DataSpec, *choices: str) -> Any:
    """`generative/diffusion` of these choices, in training mode."""
    values = compose(["model=generative/diffusion", *choices]).values
    node = values["model"]
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    return locate(node["_target_"])(spec, net=values["net"], optimizer=values["optimizer"], **arguments)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(rows: Mapping[str, tuple[Callable[[], object], Callable[[], object]]], pairs: int, per: int) -> None:
    """Print the median time of ours and of the peer's, in ms per step or draw, and the median of the pairs' ratios."""
    torch.set_num_threads(1)
    print(f"{'':<34} {'Compendium':>12} {'peer':>12} {'ratio (median of pairs)':>24}")
    for name, (ours, theirs) in rows.items():
        ours(), theirs()  # not counted
        times = [(seconds(ours), seconds(theirs)) for _ in range(pairs)]
        mine, other = (statistics.median(column) / per for column in zip(*times, strict=True))
        ratio = statistics.median(a / b for a, b in times)
        print(f"{name:<34} {mine * 1e3:9.3f} ms {other * 1e3:9.3f} ms {ratio:24.3f}")
