"""What needs no computation is answered without torch: help, completion, mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from compendium.config import ROOT, choices, summary

HEAVY = ("torch", "lightning", "torchmetrics", "sklearn", "matplotlib", "numpy", "pandas", "wandb", "rich")

WITH_A_LIST_OF_MODULES = f"""
import atexit, runpy, sys
atexit.register(lambda: print("IMPORTED", *(m for m in {HEAVY} if m in sys.modules), file=sys.stderr))
sys.argv = ["train.py", *sys.argv[1:]]
sys.path.insert(0, {str(ROOT)!r})
runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
"""


@dataclass
class Answer:
    """What a command printed, its exit code, and which of the heavy packages it had imported by then."""

    code: int
    out: str
    err: str
    imported: list[str]


def ask(*arguments: str, **environment: str) -> Answer:
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_LIST_OF_MODULES, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        check=False,
    )
    err, _, imported = done.stderr.rpartition("IMPORTED")
    return Answer(done.returncode, done.stdout, err, imported.split())


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--help"], 0, "Own data in one command"),
        (["-h"], 0, "resume=auto|never|PATH"),
        (["model=supervised/clasifier"], 2, "did you mean supervised/classifier"),
        (["model=supervised/classifier", "optimizer.rl=1"], 2, "did you mean optimizer.lr"),
        (["model=supervised/classifier", "data=csv"], 2, "data.path has no value"),
        (["trainer.max_epochs=many"], 2, "expected a whole number"),
        (["model._target_=os.system"], 2, "COMPENDIUM_ALLOW"),
        (["++data.token=x"], 2, "holds a secret"),
        (["--modle"], 2, "is not understood"),
        (["model=supervised/classifier", "--cfg", "job"], 0, "label_smoothing"),
    ],
    ids=lambda part: part[-1] if isinstance(part, list) else "",
)
def test_it_is_answered_without_a_heavy_import(arguments, code, says):
    answer = ask(*arguments)
    assert answer.code == code, answer.err
    assert says in answer.out + answer.err
    assert answer.imported == []


def test_the_list_of_modules_sees_what_a_run_imports(tmp_path):
    answer = ask("model=supervised/classifier", "run=trian", f"runs={tmp_path}")
    assert answer.code == 2
    assert "torch" in answer.imported


def test_help_has_a_line_for_every_model_and_data():
    lines = ask("--help").out.splitlines()
    for group in ("model", "data"):
        for name, path in choices(group).items():
            text, _ = summary(path)
            assert any(line.split()[:1] == [name] and text in line for line in lines), name


def test_help_has_every_choice_of_the_other_groups():
    screen = ask("--help").out
    for group in ("net", "optimizer", "schedule", "trainer", "logger", "datamodule"):
        line = next(line for line in screen.splitlines() if line.startswith(f"{group}="))
        assert set(line.split()[1:]) == set(choices(group))


def complete(line: str) -> list[str]:
    """What bash would offer after TAB."""
    answer = ask("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert answer.code == 0, answer.err
    assert answer.imported == []
    return answer.out.split()


class TestCompletion:
    def test_of_the_models(self):
        assert complete("python train.py model=") == [f"model={name}" for name in choices("model")]

    def test_of_a_begun_model(self):
        assert complete("python train.py seed=1 model=supervised/cl") == ["model=supervised/classifier"]

    def test_fish_wants_a_line_each(self):
        answer = ask("-sc", "query=fish", COMP_LINE="train.py model=supervised/")
        there = [f"model={name}" for name in sorted(choices("model")) if name.startswith("supervised/")]
        assert answer.out.splitlines() == there

    def test_of_another_group(self):
        assert {f"optimizer={name}" for name in choices("optimizer")} <= set(complete("python train.py optimizer="))

    def test_of_a_key(self):
        assert "trainer.max_epochs=" in " ".join(complete("python train.py trainer.max_ep"))

    def test_of_a_key_of_the_chosen_model(self):
        offered = complete("python train.py model=supervised/classifier model.label")
        assert any(word.startswith("model.label_smoothing=") for word in offered)

    def test_bash_can_read_what_it_is_told_to_install(self):
        script = ask("-sc", "install=bash").out
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "complete " in script
