"""From a command line to a config: every choice of every group composes, and agrees with what it calls."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from compendium.compose import compose, expand_path, leaves, targets
from compendium.config import CONF, allowed, choices, choices_tagged, locate, signature, summary
from compendium.errors import UserError, UserErrors, did_you_mean
from compendium.secrecy import secrets, without_secrets
from tests.command import here


def values(*arguments: str) -> dict:
    return compose(list(arguments)).values


class TestPrecedence:
    """The command line wins over the model's config, which wins over the groups' own."""

    def test_a_model_brings_its_own_data_and_budget(self):
        composed = compose(["model=supervised/regressor"])
        assert composed.choices["data"] == "diabetes"
        assert composed.values["datamodule"]["batch_size"] == 64
        assert composed.values["optimizer"]["weight_decay"] == 0.1

    def test_the_rate_of_a_models_own_optimizer_does_not_follow_to_one_that_searches_its_steps(self):
        model = "model=generative/completion_cvae"  # of Adam, at 0.001
        assert values(model, "optimizer=sgd")["optimizer"]["lr"] == 0.001
        assert values(model, "optimizer=cubic_newton")["optimizer"]["lr"] == 1
        assert values(model, "optimizer=cubic_newton", "optimizer.lr=0.5")["optimizer"]["lr"] == 0.5

    def test_the_command_line_wins_over_the_model(self):
        composed = compose(
            ["model=supervised/regressor", "data=wine", "datamodule.batch_size=7", "optimizer.weight_decay=0.5"]
        )
        assert composed.choices["data"] == "wine"
        assert composed.values["datamodule"]["batch_size"] == 7
        assert composed.values["optimizer"]["weight_decay"] == 0.5

    def test_the_order_on_the_command_line_does_not_matter(self):
        one = ["data=wine", "model=supervised/regressor", "trainer.max_epochs=2", "trainer=cpu"]
        assert compose(one) == compose(one[::-1])

    def test_what_a_model_does_not_say_comes_from_the_groups(self):
        assert values("model=supervised/regressor")["optimizer"]["lr"] == 1e-3
        assert values("model=supervised/classifier")["trainer"]["max_epochs"] == 30
        assert values("model=supervised/classifier", "trainer=cpu")["trainer"]["max_epochs"] == 30

    def test_what_a_model_says_of_its_own_optimizer_does_not_follow_to_another(self):
        """The regressor's file has a weight decay for AdamW, which is also SGD's; Polyak's step takes none."""
        assert "weight_decay" not in values("model=supervised/regressor", "optimizer=polyak")["optimizer"]
        assert values("model=supervised/regressor", "optimizer=sgd")["optimizer"]["weight_decay"] == 0.1
        assert values("model=supervised/regressor", "optimizer=polyak", "++optimizer.weight_decay=1")["optimizer"][
            "weight_decay"
        ]

    def test_a_mapping_with_a_target_takes_the_place_of_the_old_one(self):
        file = "{_target_: datamodules.sources.npz.Npz, path: a.npz}"
        assert values("data=some_classes", f"data.source={file}")["data"]["source"] == {
            "_target_": "datamodules.sources.npz.Npz",
            "path": "a.npz",
        }

    def test_the_seed_reaches_the_data(self):
        assert values("seed=5")["datamodule"]["seed"] == 5
        assert values("seed=5", "datamodule.seed=1")["datamodule"]["seed"] == 1


class TestOwnData:
    @pytest.mark.parametrize(
        ("name", "choice"),
        [
            ("t.csv", "csv"),
            ("t.tsv", "csv"),
            ("t.CSV", "csv"),
            ("t.parquet", "parquet"),
            ("t.npz", "npz"),
            ("t.txt", "text"),
            ("t.jsonl", "jsonl"),
        ],
    )
    def test_a_file_is_spelled_out(self, name, choice):
        assert expand_path(f"data={name}") == [f"data={choice}", f"data.path={name}"]

    def test_a_folder_is_one_of_images(self, tmp_path):
        assert expand_path(f"data={tmp_path}") == ["data=image_folder", f"data.path={tmp_path}"]

    def test_choices_and_sweeps_are_left_alone(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "digits").mkdir()  # a folder of that name does not hide the choice
        for argument in ("data=digits", "data=digits,wine", "data=nothing", "seed=1", "data.path=a.csv"):
            assert expand_path(argument) == [argument]

    def test_it_reaches_the_config(self, tmp_path):
        path = tmp_path / "my.npz"
        np.savez(path, x=np.zeros((4, 2)))
        composed = compose(["model=supervised/classifier", f"data={path}"])
        assert composed.choices["data"] == "npz"
        assert composed.values["data"]["path"] == str(path)


# Every choice of every group. A value without a default is filled in; a model that goes with the choice is looked up.

MODELS = sorted(choices("model"))
GROUPS = sorted(
    folder.relative_to(CONF).as_posix()
    for folder in CONF.rglob("*")
    if folder.is_dir() and any(not path.name.startswith("_") for path in folder.glob("*.yaml"))
)
TOP = {group.split("/")[0] for group in GROUPS} - {"hydra", "claim", "experiment", "model"}
CHOICES = sorted((group, name) for group in TOP for name in choices(group) if not name.startswith("evaluation/"))
EVALUATIONS = sorted(choices("callbacks/evaluation"))


def missing(path: Path) -> list[str]:
    """Keys without a default in one config file."""
    return [key for key, value in (yaml.safe_load(path.read_text()) or {}).items() if value == "???"]


def arguments_for(group: str, name: str) -> list[str]:
    path = choices(group)[name]
    package = re.match(r"# @package (\S+)", path.read_text())
    place = package[1] if package and package[1] != "_global_" else group
    filled = [f"{place}.{key}=something" for key in missing(path)]
    return [f"{group}={name}", *filled]


def model_with(group: str) -> str:
    """The first model that adds a group which not all have, or the classifier."""
    own = (name for name, path in choices("model").items() if f"  - /{group}: " in path.read_text())
    return next(own, "supervised/classifier")


@cache
def agreeing(target: str) -> tuple[frozenset[str], frozenset[str], bool]:
    names, required, open_ended = signature(locate(target))
    return frozenset(names), frozenset(required), open_ended


GIVEN = {  # what the framework itself hands over
    "model": {"spec", "net", "optimizer", "schedule"},
    "datamodule": {"source"},
    "datamodule.augmentations": {"size"},
    "net": {"in_shape", "out_shape"},
    "net.norm": {"channels"},
    "model.decoder": {"in_shape", "out_shape"},
    "model.discriminator": {"in_shape", "out_shape"},
    "model.calibrator": {"classes", "records"},
    "optimizer": {"params"},
    "schedule": {"optimizer", "steps"},
    "trainer": set(),
}


def disagreements(composed: dict) -> list[str]:
    """Keys that a `_target_` does not take, and arguments without default that no key gives."""
    found = []
    for path, target in targets(composed):
        where = path.removesuffix("._target_")
        node = composed
        for part in where.replace("[", ".[").split("."):
            node = node[int(part[1:-1])] if part.startswith("[") else node[part]
        takes, required, open_ended = agreeing(target)
        keys = {key for key in node if not key.startswith("_")}
        given = set().union(*(names for prefix, names in GIVEN.items() if f"{where}.".startswith(f"{prefix}.")))
        if not open_ended:
            found += [f"{where}.{key} is unknown to {target}" for key in sorted(keys - takes)]
        found += [f"{where} lacks {key} of {target}" for key in sorted(required - keys - given - {"self"})]
    return found


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=lambda part: part)
def test_every_choice_composes_and_agrees_with_what_it_calls(group, name):
    composed = compose([f"model={model_with(group)}", *arguments_for(group, name)])
    assert composed.choices[group] == name
    assert not disagreements(composed.values)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_composes_and_agrees_with_what_it_calls(model):
    assert not disagreements(values(f"model={model}"))


def test_every_evaluation_can_be_picked():
    """All by name in one list: composing takes half a second, and there are many of them."""
    composed = values("model=supervised/classifier", f"callbacks/evaluation=[{','.join(EVALUATIONS)}]")
    own = [yaml.safe_load(choices("callbacks/evaluation")[name].read_text()) for name in EVALUATIONS]
    assert [composed["callbacks"]["evaluation"][name] for name in EVALUATIONS] == own  # each in its own place
    assert not disagreements(composed)


def test_an_evaluation_can_be_picked_alone():
    composed = values("model=supervised/classifier", "callbacks/evaluation=[selective]")
    assert list(composed["callbacks"]["evaluation"]) == ["selective"]


@pytest.mark.parametrize("name", sorted(choices("trainer")))
def test_every_trainer_takes_its_keys(name, monkeypatch):
    from lightning import Trainer

    names, _, _ = signature(Trainer)
    assert set(values(f"trainer={name}")["trainer"]) <= set(names)


def test_the_check_of_the_configs_sees_a_key_too_many_and_one_too_few():
    assert disagreements({"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1, "rate": 1}}) == [
        "optimizer.rate is unknown to torch.optim.AdamW"
    ]
    assert disagreements({"data": {"_target_": "datamodules.sources.npz.Npz"}}) == [
        "data lacks path of datamodules.sources.npz.Npz"
    ]


def test_every_config_says_what_it_is():
    silent = [
        path.relative_to(CONF).as_posix()
        for path in CONF.rglob("*.yaml")
        if not path.name.startswith("_") and not summary(path)[0]
    ]
    assert not silent


def test_every_data_is_tagged_and_found_by_its_tags():
    untagged = [name for name, path in choices("data").items() if not summary(path)[1]]
    assert not untagged
    assert {"digits", "npz"} <= set(choices_tagged("data", ("image",), ("class",)))
    assert "moons" not in choices_tagged("data", ("image", "vector"), ("class",))
    assert "moons" in choices_tagged("data", ("vector",), (None, "class"))


def test_every_target_is_in_a_package_that_configs_may_call():
    for path in CONF.rglob("*.yaml"):
        if path.is_relative_to(CONF / "hydra"):  # Hydra's own plugins, which Hydra calls
            continue
        for where, target in targets(yaml.safe_load(path.read_text())):
            assert allowed(target), f"{path}: {where}={target}"


class TestMistakes:
    @pytest.mark.parametrize(
        ("word", "known", "answer"),
        [
            ("clasifier", ["classifier", "regressor"], "did you mean classifier?"),
            ("rl", ["optimizer.lr", "net.width"], "there are: net.width, optimizer.lr"),
            ("optimizer.rl", ["optimizer.lr", "net.width"], "did you mean optimizer.lr?"),
            ("digits", ["image/digits", "text/books"], "did you mean image/digits?"),
            ("xyz", [f"choice{i}" for i in range(30)], ""),
            ("xyz", ["a", "b"], "there are: a, b"),
        ],
    )
    def test_near_words(self, word, known, answer):
        assert did_you_mean(word, known) == answer

    def test_an_interpolation_of_a_key_that_is_not_there(self):
        with pytest.raises(UserError, match=r"seed: .*nowhere"):
            compose(["seed=${nowhere}"])

    def test_an_interpolation_that_goes_round_in_circles(self):
        with pytest.raises(UserError, match="datamodule"):
            compose(
                [
                    "datamodule.batch_size=${datamodule.eval_batch_size}",
                    "datamodule.eval_batch_size=${datamodule.batch_size}",
                ]
            )

    def test_an_interpolation_of_the_environment(self, monkeypatch):
        monkeypatch.setenv("WIDTH", "17")
        composed = values("model=supervised/classifier", "net=mlp", 'net.width="${oc.decode:${oc.env:WIDTH}}"')
        assert composed["net"]["width"] == 17
        monkeypatch.delenv("WIDTH")
        with pytest.raises(UserError, match="WIDTH"):
            compose(["model=supervised/classifier", "net=mlp", "net.width=${oc.env:WIDTH}"])

    def test_all_missing_values_are_named(self):
        with pytest.raises(UserErrors) as found:
            compose(["model=supervised/classifier", "data=csv", "++net.width=???"])
        assert "data.path has no value" in str(found.value)
        assert "net.width has no value" in str(found.value)

    def test_several_values_are_no_run(self):
        with pytest.raises(UserErrors, match="gives several values"):
            compose(["seed=1,2"])

    def test_a_choice_in_the_middle_of_a_sweep_is_checked_by_itself(self, capfd):
        outcome = here(capfd, "seed=1,2", "optimizer.lr=0.1,0.2")
        assert outcome.code == 2
        assert outcome.err.count("gives several values") == 2
        assert "-m" in outcome.err


class TestSecrets:
    @pytest.mark.parametrize(
        "node",
        [
            {"a": {"token": "x"}},
            {"api_key": "x"},
            {"a": ["hf_" + "a" * 30]},
            {"b": "sk-" + "a" * 30},
            {"c": "ghp_" + "a" * 36},
            {"d": "https://me:pass@host/x"},
            {"wandb-password": "x"},
            {"credentials": "x"},
        ],
    )
    def test_they_are_seen_by_key_or_by_form(self, node):
        assert len(secrets(node)) == 1
        assert "***" in str(without_secrets(node))
        assert secrets(without_secrets(node)) == [] or "***" in str(without_secrets(node))

    @pytest.mark.parametrize(
        "node",
        [
            {"tokenizer": "byte"},
            {"tokens": 5},
            {"token": None},
            {"token": ""},
            {"data": {"path": "/home/me/tokens.txt"}},
            {"name": "sk-learn"},
            {"url": "https://host/a:b@c"},
        ],
    )
    def test_other_words_are_not(self, node):
        assert secrets(node) == []
        assert without_secrets(node) == node


def test_leaves_are_the_paths_of_all_values():
    from omegaconf import OmegaConf

    assert set(leaves(OmegaConf.create({"a": {"b": 1, "c": {}}, "d": None}))) == {"a", "a.b", "a.c", "d"}
