"""One and two processes give the same figures."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.callbacks.evaluation import fakes

ROOT = Path(__file__).resolve().parents[3]


def test_figures_do_not_depend_on_the_number_of_processes(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", fakes.__name__, str(tmp_path), "2"]
    shared = {"PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [*command, str(rank)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    alone = fakes.all_figures(tmp_path / "alone")
    errors = [process.communicate(timeout=240)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], [error[-3000:] for error in errors]
    for rank in range(2):
        figures = json.loads((tmp_path / f"figures{rank}.json").read_text())
        assert figures.keys() == alone.keys()
        for run, expected in alone.items():
            assert figures[run] == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True), (rank, run)
    assert {"accuracy", "nll", "density_nll", "frechet", "mmd", "linear_probe", "knn"} <= alone["digits"].keys()
    assert alone["one"]["accuracy"] in (0, 1)
    assert math.isnan(alone["one"]["frechet"])  # of one record no covariance is known
    assert (tmp_path / "samples.png").stat().st_size > 5000
