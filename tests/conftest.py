"""What every test shares."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Two tests side by side on two cores; more threads only make them wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """A feature cache of the session's own, not the user's."""
    os.environ.setdefault("COMPENDIUM_CACHE", str(tmp_path_factory.mktemp("cache")))
