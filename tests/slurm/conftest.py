"""Tests on a real SLURM cluster of two nodes; `.ci/slurm` starts one on this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_configure(config):
    config.addinivalue_line("markers", "slurm: needs a SLURM cluster of two nodes; .ci/slurm starts one")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session", autouse=True)
def cluster():
    """Skip without a cluster, and say why; on CI, where `.ci/slurm` has to have started one, fail."""
    reason = no_cluster()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"no SLURM cluster on CI: {reason}")
    if reason:
        pytest.skip(f"{reason}; .ci/slurm starts one")


def no_cluster() -> str:
    """Why there is no cluster of two nodes; empty where there is one."""
    try:
        shown = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%N", "--partition=low,high", "--states=idle,mixed,allocated"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"sinfo does not answer ({error})"
    if shown.returncode:
        return f"sinfo does not answer ({shown.stderr.strip().splitlines()[-1]})"
    nodes = set(shown.stdout.split())
    return "" if len(nodes) > 1 else f"SLURM has {len(nodes)} nodes up that this needs two of"
