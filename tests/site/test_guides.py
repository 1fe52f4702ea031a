"""The commands and examples in docs, run as far as they go without training."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import compare
import train
from compendium.claims.claim import Claim
from compendium.claims.plan import plan
from compendium.compose import compose
from compendium.config import ROOT
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from tests.command import here
from tests.compendium.claims import test_statistics

PAGES = [
    ROOT / "docs/index.md",
    *sorted((ROOT / "docs/guides").glob("*.md")),
    *sorted((ROOT / "docs/rooms").glob("*.md")),
]
GUIDES = ROOT / "docs/guides"


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.S)


def commands() -> list[str]:
    """Every line of a bash block in docs, once."""
    text = "".join(block.replace("\\\n", " ") for path in PAGES for block in blocks(path, "bash"))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return list(dict.fromkeys(part for line in lines for part in re.split(r"\s*&&\s*", line) if part))


COMMANDS = commands()
PROGRAMS = {"python train.py": train, "python compare.py": compare}
OURS = [command for command in COMMANDS if command.startswith(tuple(PROGRAMS))]


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """A working folder with the files that the guides speak of."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{i % 7},{i * 3 % 11 + 0.5},{'ab'[i % 2]}" for i in range(60)]
    Path("table.csv").write_text("\n".join(["length,width,species", *rows]) + "\n")
    numeric = [f"{i % 7},{i * 3 % 11 + 0.5}" for i in range(60)]
    Path("numbers.csv").write_text("\n".join(["length,width", *numeric]) + "\n")
    draw = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        Path("photos", name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(draw.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(f"photos/{name}/{i}.png")
    np.savez("arrays.npz", x=draw.random((40, 8, 8)).astype("float32"), y=np.arange(40) % 2)
    Path("notes.txt").write_text("All that is written here is text. " * 200)
    pair = '{{"prompt": "What is {0} + 1?", "chosen": "It is {1}.", "rejected": "{0}"}}\n'
    Path("pairs.jsonl").write_text("".join(pair.format(number, number + 1) for number in range(60)))
    Path("notes.jsonl").write_text('{"text": "All that is written here is text."}\n' * 200)


@pytest.mark.parametrize("command", OURS, ids=lambda command: command[:80])
def test_every_command_is_valid(capfd, own_data, command):
    program = PROGRAMS[" ".join(shlex.split(command)[:2])]
    arguments = shlex.split(command)[2:]
    if "data=hub" in arguments:  # the hub is out of reach in a test: composing is as far as it goes
        assert compose(arguments).choices["data"] == "hub"
        return
    if "scale=paper" in arguments:
        name = next(one.partition("=")[2] for one in arguments if one.startswith("claim="))
        assert plan(Claim.stored(name, "paper")).jobs
        return
    outcome = here(capfd, *arguments, *(() if "dry=true" in arguments else ("dry=true",)), program=program)
    assert outcome.code == 0, outcome


def test_other_commands_are_there():
    others = [command for command in COMMANDS if command not in OURS]
    for command in others:
        words = shlex.split(command)
        if words[0] == "sbatch":
            inner = shlex.split(words[-1])
            assert inner[:3] == ["srun", "python", "train.py"]
            compose(inner[3:])
        elif words[:2] == ["python", "-m"]:
            module = ROOT / words[2].replace(".", "/")
            assert module.with_suffix(".py").exists(), command
        else:
            assert words[:2] == ["pip", "install"], command


@pytest.mark.parametrize("arguments", [shlex.split(one)[3:] for one in COMMANDS if "compendium.jobs" in one])
def test_commands_about_jobs_parse(arguments):
    from compendium.jobs import parser

    asked = parser().parse_intermixed_args(arguments)
    assert asked.command in arguments


def test_the_claim_of_the_guide_is_one():
    (block,) = blocks(GUIDES / "claim.md", "yaml")
    written = yaml.safe_load(block)
    claim = Claim.of(written, "room/author2024smoothing", "the guide")
    kinds = {check.kind for check in claim.parsed}
    assert kinds == {"better", "bound", "identity", "trend", "reach"}
    assert {name for name in Claim.__dataclass_fields__ if name not in ("name", "scaled")} == set(written)
    planned = plan(claim)
    assert len(planned.jobs) == 6 * 5
    Claim.of(written | written["scale"]["paper"], "room/author2024smoothing", "the guide", "paper")


def test_the_table_of_checks_has_every_kind():
    from compendium.claims.checks import parse

    text = (GUIDES / "claim.md").read_text(encoding="utf-8").partition("## Checks")[2]
    written = [cell.replace("\\|", "|") for cell in re.findall(r"^\| `(.*?)` \|", text, re.M)]
    found = [parse(yaml.safe_load(one) if one.startswith("{") else one.replace("KEY", "data.n")) for one in written]
    assert {check.kind for check in found} == {"better", "bound", "identity", "trend", "reach", "rate"}


def test_the_method_of_the_guide_is_the_cross_entropy_at_gamma_zero():
    (block,) = blocks(GUIDES / "method.md", "python")
    names: dict = {"__name__": "focal"}
    exec(block, names)
    spec = DataSpec(name="three", kind="vector", shape=(3,), target="class", classes=("a", "b", "c"))
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]], dtype=torch.float64)
    batch = Labelled(logits, torch.tensor([0, 2]))
    loss = {gamma: names["Focal"](spec, gamma, net=torch.nn.Identity()).loss(batch) for gamma in (0.0, 2.0)}
    torch.testing.assert_close(
        loss[0.0].double(), torch.nn.functional.cross_entropy(logits, batch.y), atol=1e-6, rtol=0
    )
    p = logits.softmax(1).gather(1, batch.y[:, None]).squeeze(1)
    torch.testing.assert_close(loss[2.0].double(), -((1 - p) ** 2 * p.log()).mean(), atol=1e-6, rtol=0)
    (config,) = blocks(GUIDES / "method.md", "yaml")
    written = yaml.safe_load(config)
    assert written["model"] == {"_target_": "modules.supervised.focal.Focal", "gamma": 2.0}
    assert config.startswith("# @package _global_\n# ")


def test_extras_that_are_named_are_there():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for path in PAGES for extra in re.findall(r"'\.\[(\w+)\]'", path.read_text(encoding="utf-8"))}
    assert named
    assert named <= set(extras)


@pytest.mark.slow
def test_the_rates_of_the_guide_are_what_the_command_prints(capsys):
    test_statistics.main()
    printed = [line for line in capsys.readouterr().out.splitlines()[1:] if line]
    text = (GUIDES / "statistics.md").read_text(encoding="utf-8")
    for line in printed:
        law, *numbers = re.split(r"\s{2,}", line.strip())
        assert f"| {law} | {' | '.join(numbers)} |" in text
