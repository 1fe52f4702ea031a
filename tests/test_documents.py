"""The commands in README.md and CONTRIBUTING.md, run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import compare
from compendium import new_method
from compendium.compose import compose
from compendium.config import ROOT
from compendium.run import Run
from tests.command import here

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TINY = ("trainer.max_epochs=1", "trainer=cpu", "net=mlp", "logger=none")


def commands() -> list[str]:
    """Every command of the documents: lines of bash blocks, and inline code that begins like one."""
    found: dict[str, None] = {}
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
        lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
        inline = re.findall(
            r"`((?:python|pip|pytest|ruff|mypy|eval) [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S)
        )
        for line in [*lines, *inline]:
            for part in re.split(r"\s*&&\s*", line):
                found.setdefault(part)
    return [command for command in found if command]


COMMANDS = commands()
TRAIN = [command for command in COMMANDS if command.startswith("python train.py")]
COMPARE = [command for command in COMMANDS if command.startswith("python compare.py") and "lovelace" not in command]
"""Without the claim of the method that CONTRIBUTING.md makes up."""


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """A working folder with the table, the preferences and the pictures that the documents speak of."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{i % 7},{i * 3 % 11},{'ab'[i % 2]}" for i in range(60)]
    Path("table.csv").write_text("\n".join(["length,width,species", *rows]) + "\n")
    pair = '{{"prompt": "What is {0} + 1?", "chosen": "It is {1}.", "rejected": "{0}"}}\n'
    Path("pairs.jsonl").write_text("".join(pair.format(number, number + 1) for number in range(60)))
    for name in ("cats", "dogs"):
        Path("photos", name).mkdir(parents=True)
        for i in range(10):
            pixels = np.random.default_rng(i).integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/{name}/{i}.png")


def test_there_are_commands_to_test():
    assert len(TRAIN) >= 12
    kinds = (
        "python train.py",
        "python compare.py",
        "python -m",
        "pip install",
        "pytest",
        "ruff",
        "mypy",
        "sbatch",
        "eval",
        "source",
        "python",
    )
    assert not [command for command in COMMANDS if not command.startswith(kinds)]


@pytest.mark.parametrize("command", [c for c in TRAIN if not {"-m", "--help", "-sc"} & set(shlex.split(c))])
def test_runs_compose_and_check(capfd, own_data, command):
    arguments = shlex.split(command)[2:]
    if "data=hub" in arguments:  # the hub is out of reach in a test: composing is as far as it goes
        assert compose(arguments).choices["data"] == "hub"
        return
    outcome = here(capfd, *arguments, "dry=true")
    assert outcome.code == 0, outcome
    assert "folder   runs/" in outcome.out


def test_sweeps_list_their_jobs(capfd, own_data):
    sweeps = [shlex.split(command)[2:] for command in TRAIN if " -m " in command]
    assert sweeps
    for arguments in sweeps:
        outcome = here(capfd, *arguments, "dry=true")
        assert outcome.code == 0, outcome
        assert outcome.out.count("-s0 (pending)") >= 1


@pytest.mark.parametrize("command", [command for command in COMPARE if "--help" not in command])
def test_comparisons_validate(capfd, own_data, command):
    outcome = here(capfd, *shlex.split(command)[2:], "dry=true", program=compare)
    assert outcome.code == 0, outcome
    assert "all valid" in outcome.out


def test_help_and_completion(capfd):
    assert "generative/stochastic_interpolant" in here(capfd, "--help").out
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "-sc", "install=bash"], capture_output=True, text=True, check=True
    )
    assert "complete" in done.stdout


@pytest.mark.parametrize("arguments", [("data=table.csv", "data.target=species"), ("data=photos", "data.size=8")])
def test_own_data_is_trained_on_tested_and_predicted(capfd, own_data, arguments):
    base = ("model=supervised/classifier", *arguments, *TINY)
    assert "test/accuracy" in here(capfd, *base).out
    assert "test/accuracy" in here(capfd, *base, "run=test").out
    assert "predictions of" in here(capfd, *base, "run=predict").out
    assert len(np.load(next(Path("runs").rglob("predictions.npz")))["class"]) == (12 if "csv" in arguments[0] else 4)


def test_the_python_block_opens_the_run_that_the_page_trains(capfd, own_data):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    named = re.search(r'"(runs/.*?)"', block)[1]
    folder = Run.plan(compose(["model=supervised/classifier"])).folder
    assert named == str((folder / "checkpoints/last.ckpt").relative_to(Path.cwd())), "the hash in README.md is stale"
    assert here(capfd, "model=supervised/classifier", *TINY).code == 0
    trained = next(Path("runs").rglob("last.ckpt"))
    names = {"x": torch.randn(3, 1, 8, 8)}
    exec(block.replace(named, str(trained)), names)
    torch.testing.assert_close(names["probabilities"].sum(1), torch.ones(3))


def test_other_commands_are_there(capfd, own_data, tmp_path):
    for command in COMMANDS:
        words = shlex.split(command)
        if words[:2] == ["python", "-m"] and words[2] not in ("venv", "mkdocs"):
            assert (ROOT / Path(*words[2].split("."))).with_suffix(".py").exists() or (ROOT / words[2]).is_dir(), (
                command
            )
        if words[0] == "sbatch":
            inner = shlex.split(words[-1])
            assert inner[:3] == ["srun", "python", "train.py"]
            compose(inner[3:])
    jobs = subprocess.run([sys.executable, "-m", "compendium.jobs", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert all(word in jobs.stdout for word in ("status", "logs", "cancel", "collect"))


def test_every_extra_that_is_named_is_there():
    extras = PROJECT["optional-dependencies"]
    named = {extra for command in COMMANDS for extra in re.findall(r"\.\[(\w+)\]", command)}
    named |= set(re.findall(r"^\| `(\w+)` \| ", (ROOT / "README.md").read_text(), re.M))
    assert {"test", "dev", "vision", "slurm"} <= named <= set(extras)
    required = re.findall(r'require\([^)]*extra="(\w+)"', "".join(p.read_text() for p in ROOT.glob("[cdm]*/**/*.py")))
    assert set(required) <= set(extras)


def test_links_and_pictures_lead_somewhere():
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f"{name} points to {target}"


def test_a_new_method_is_written_and_fails_until_it_is_filled(tmp_path):
    command = next(command for command in COMMANDS if "new_method" in command)
    path, _, bibkey = shlex.split(command)[3:]
    files = new_method.create(path, bibkey, tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in files] == [
        f"modules/{path}.py",
        f"conf/model/{path}.yaml",
        "tests/modules/generative/test_my_method.py",
        f"conf/claim/generative/{bibkey}.yaml",
    ]
    for file in files:
        assert "TODO" in file.read_text()
        if file.suffix == ".py":
            compile(file.read_text(), str(file), "exec")
    stub = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "-c", "/dev/null", str(files[2])],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert stub.returncode == 1
    assert "TODO" in stub.stdout
    namespace: dict = {}
    exec(files[0].read_text(), namespace)
    assert namespace["MyMethod"].papers == (bibkey,)
