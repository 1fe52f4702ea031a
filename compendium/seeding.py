"""Randomness as a function of (seed, purpose, position), so that nothing about it has to be carried along.

Each training step, each evaluation and each augmented batch starts from a state that is derived from the run's seed
and from where in the run it stands. A run that was killed and continued therefore draws what it would have drawn, on
any rank, without a saved generator state.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *stream: int | str) -> int:
    """A 63-bit seed for one purpose, e.g. derive(0, "order", epoch). Distinct streams are independent."""
    text = "/".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *stream: int | str) -> torch.Generator:
    """A CPU generator of its own for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *stream))


def reseed(seed: int, *stream: int | str) -> None:
    """Put the global states of torch, NumPy and Python where `stream` begins."""
    value = derive(seed, *stream)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(value)
    np.random.seed(value & 0xFFFFFFFF)  # noqa: NPY002 (methods and libraries that use the legacy state are covered too)
    random.seed(value)


@contextmanager
def seeded(seed: int, *stream: int | str) -> Iterator[None]:
    """Draw from `stream` inside the block, on any device, and leave torch's states as they were."""
    state = torch.get_rng_state()
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    value = derive(seed, *stream)
    torch.default_generator.manual_seed(value)
    if on_devices:
        torch.cuda.manual_seed_all(value)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)
