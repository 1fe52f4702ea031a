"""Axes that nobody put together: a random model, data, network, path, sampler, time steps and guidance either run, or
say what does not fit.

    python -m tests.modules.generative.test_axes 200 [seed]      draws more of them
"""

from __future__ import annotations

import random
import sys
import tempfile

import pytest
import torch

from compendium.compose import compose
from compendium.config import choices
from compendium.dry import check
from compendium.engine import build
from compendium.errors import UserError
from compendium.run import Run

AXES = ("path", "sampler", "timesteps", "guidance")
MODELS = [f"generative/{name}" for name in ("diffusion", "conditional_diffusion", "conservative_diffusion", "swycc")]
DATA = ("ring", "digits", "digits", "wine", "moons", "shades", "standard_library", "diabetes")
NETS = ("field", "field", "field", "mlp", "unet", "dit", "cnn", "transformer")
CHECKPOINTS = {"sampler": ("reflection", "teleportation"), "guidance": ("auto",)}
"""Choices that begin with a trained model of their own: their tests have one."""
SMALL = ("trainer=cpu", "trainer.max_steps=1", "callbacks=bare", "logger=none", "datamodule.batch_size=8")


def drawn(chance: random.Random) -> list[str]:
    """A command line of random choices."""
    model = chance.choice(MODELS)
    found = [f"model={model}", f"data={chance.choice(DATA)}", f"net={chance.choice(NETS)}"]
    text = choices("model")[model].read_text()
    for axis in AXES:
        if f"- /{axis}:" in text or chance.random() < 0.1:
            found += choice(axis, chance.choice(picked(axis)))
    return found


def picked(axis: str) -> list[str]:
    """The choices of an axis that need no other trained model."""
    return sorted(set(choices(axis)) - set(CHECKPOINTS.get(axis, ())))


def choice(axis: str, name: str) -> list[str]:
    """A choice, with the values that have no default."""
    return [f"{axis}={name}", *(["model.timesteps.values=[0.9,0.5,0.1]"] if name == "given" else [])]


def outcome(line: list[str], folder: str) -> str:
    """What comes of a command line: `ran`, or what does not fit; anything else is raised."""
    try:
        run = Run.plan(compose([*line, *SMALL, f"runs={folder}"]))
        if mistakes := check(run):
            return str(mistakes[0])
        run.freeze()
        parts = build(run)
        parts.logger.rewind(0)
        parts.trainer.fit(parts.method, parts.data)
        method = parts.method.eval()
        with torch.no_grad():
            draws = drawn_by(method)
        assert draws.shape == (2, *method.spec.shape)
    except UserError as error:
        return str(error)
    return "ran"


def drawn_by(method) -> torch.Tensor:
    """Two draws, of classes, of codes or of nothing."""
    if hasattr(method, "sample_of"):
        return method.sample_of(torch.tensor([0, 1]))
    if hasattr(method, "reconstruct"):
        return method.reconstruct(torch.rand(2, *method.spec.shape))
    return method.sample(2)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_combination_runs_or_says_why_not(seed, tmp_path):
    chance = random.Random(seed)
    said = {}
    for number in range(6):
        line = drawn(chance)
        said[" ".join(line)] = outcome(line, f"{tmp_path}/{number}")
    assert all(text.strip() for text in said.values())


def test_what_fits_runs(tmp_path):
    """One line per choice of each axis, with everything else at its default."""
    for number, axis in enumerate(AXES):
        for name in picked(axis):
            line = ["model=generative/diffusion", "data=ring", "net=mlp", *choice(axis, name)]
            said = outcome(line, f"{tmp_path}/{number}{name}")
            assert said == "ran" or "\n" in said, f"{axis}={name}: {said}"


if __name__ == "__main__":
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for number in range(int(sys.argv[1])):
        line = drawn(chance)
        with tempfile.TemporaryDirectory() as folder:
            try:
                said = outcome(line, folder)
            except Exception as error:
                said = f"BROKEN {type(error).__name__}: {error}"
        print(number, " ".join(line), "->", said.splitlines()[0][:150], flush=True)
