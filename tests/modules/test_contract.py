"""Every conf/model/**.yaml keeps the contract; nobody registers it here."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch

from compendium.compose import Composed, compose
from compendium.config import CONF, ROOT, choices, locate, scalars, signature
from compendium.engine import build, evaluate
from compendium.run import Run
from modules.method import Method, SolvedMethod
from tests.command import here

MODELS = sorted(choices("model"))
TINY = [
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "datamodule.batch_size=16",
    "callbacks=bare",
    "logger=none",
]

FEW = [
    f"callbacks.evaluation.{name}.{key}=40"
    for name, path in choices("callbacks/evaluation").items()
    for key in ("n", "limit")
    if re.search(rf"\n{key}: \d", path.read_text(encoding="utf-8"))
]
"""Default evaluations of 40 draws or records: of a thousand they take minutes on one core."""

LEAST = {"steps": 4, "likelihood_steps": 2, "bound_draws": 2, "draws": 32, "fakes": 32, "rounds": 2}
"""Arguments of models, and of their samplers, that only cost time: at most so many."""


def composed(model: str, *more: str) -> Composed:
    return compose([f"model={model}", *TINY, *more])


def planned(model: str, runs: Path, *more: str) -> Run:
    arguments = ((path, value, LEAST.get(path.rpartition(".")[2])) for path, value in scalars(composed(model).values))
    least = [
        f"{path}={most}"
        for path, value, most in arguments
        if path.startswith("model.") and most is not None and isinstance(value, int) and value > most
    ]
    run = Run.plan(composed(model, f"runs={runs}", *least, *more))
    run.freeze()
    return run


def trained(run: Run):
    """The parts of a run after two steps of training."""
    parts = build(run)
    parts.logger.rewind(0)
    parts.trainer.fit(parts.method, parts.data)
    return parts


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """Of the module, so that pytest runs all tests of a model one after the other, and trains once for them."""
    return request.param


@pytest.fixture(scope="module")
def once(model, tmp_path_factory):
    """The parts of a run, trained; they stay as they are."""
    return trained(planned(model, tmp_path_factory.mktemp("once")))


def test_a_step_of_fit_and_test_is_deterministic_and_reaches_every_parameter(model, once, tmp_path):
    first, second = once, trained(planned(model, tmp_path))
    for name, value in first.method.state_dict().items():
        torch.testing.assert_close(
            value, second.method.state_dict()[name], rtol=0, atol=0, msg=f"{name} is not reproducible"
        )
    if isinstance(first.method, SolvedMethod):
        start = build(planned(model, tmp_path / "start")).method
        assert any(not torch.equal(a, b) for a, b in zip(first.method.buffers(), start.buffers(), strict=True))
        return
    batch = next(iter(second.data.train_dataloader()))
    loss = second.method.loss(batch)
    total = torch.stack(tuple(loss.values())).sum() if isinstance(loss, dict) else loss
    total.backward()
    without = [
        name
        for name, p in second.method.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum())
    ]
    assert not without, f"no gradient reaches {without}"


def test_its_checkpoint_opens_in_plain_python(once):
    parts = once
    path = Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt"
    for kind in (type(parts.method), Method):
        again = kind.load_from_checkpoint(path)
        assert type(again) is type(parts.method)
        assert not again.training
        for name, value in parts.method.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name
        assert again.hparams == parts.method.hparams


def test_its_default_evaluations_give_figures(model, tmp_path):
    small = ("trainer.limit_test_batches=1", "datamodule.eval_batch_size=32", *FEW)
    run = planned(model, tmp_path, "callbacks=default", *small)
    parts = build(run)
    figures = evaluate(parts, "test")
    assert figures, "no evaluation attaches itself to this model"
    assert all(name.startswith("test/") for name in figures)


def test_its_config_says_what_it_is_and_names_every_argument(model):
    config = composed(model).values["model"]
    names, _, _ = signature(locate(config["_target_"]))
    own = set(names) - {"self", "spec", "net", "optimizer", "schedule"}
    assert set(config) - {"_target_"} == own, "the config and the constructor differ"
    assert (CONF / "model" / f"{model}.yaml").read_text().splitlines()[1].startswith("# ")


def test_it_lies_where_the_mirror_rule_says(model):
    module = importlib.import_module(f"modules.{model.replace('/', '.')}")
    target = composed(model).values["model"]["_target_"]
    assert target.startswith(f"{module.__name__}.")
    room, _, name = model.rpartition("/")
    assert (ROOT / "tests/modules" / room / f"test_{name}.py").is_file()


def test_every_method_has_a_config():
    texts = "".join(path.read_text(encoding="utf-8") for path in choices("model").values())
    targets = set(re.findall(r"^  _target_: (\S+)$", texts, re.MULTILINE))
    for path in (ROOT / "modules").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = importlib.import_module(name)
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, Method)
                and value.__module__ == name
                and name != "modules.method"
                and not inspect.isabstract(value)
            ):
                assert f"{name}.{value.__qualname__}" in targets, f"{value.__name__} has no config"


@pytest.mark.parametrize("experiment", sorted(choices("experiment")))
def test_an_experiment_is_a_whole_run(capfd, experiment, tmp_path):
    small = ("trainer=cpu", "trainer.max_steps=2", "logger=none", "callbacks=bare", "trainer.limit_val_batches=0")
    outcome = here(capfd, f"experiment={experiment}", *small, "trainer.limit_test_batches=0", f"runs={tmp_path}")
    assert outcome.code == 0, outcome
    assert len(list(tmp_path.rglob("result.json"))) == 1


def test_no_stub_is_left_unfilled():
    """`compendium.new_method` writes files with TODOs in them; none may land."""
    folders = ("modules", "conf", "callbacks", "datamodules")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml")]
    assert not [str(path.relative_to(ROOT)) for path in files if "TODO" in path.read_text(encoding="utf-8")]
