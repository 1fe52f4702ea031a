"""Every data config that needs nothing from the person: the records are what their spec and tags say."""

from __future__ import annotations

import inspect
import shlex
from itertools import chain
from pathlib import Path

import pytest
import torch
import yaml

from compendium.config import choices, locate, signature, summary
from compendium.errors import UserError
from datamodules.sources.pictures import FILES, PicturePatches, bands
from datamodules.sources.standard_library import StandardLibrary
from datamodules.sources.tables import Table
from tests.datamodules.fakes import source_of

HUB = "datamodules.sources.hugging_face.HuggingFace"
CONFIGS = {name: yaml.safe_load(path.read_text()) for name, path in choices("data").items()}
READY = [name for name, config in CONFIGS.items() if "???" not in config.values() and config["_target_"] != HUB]


@pytest.mark.parametrize("name", READY)
def test_records_are_what_spec_and_tags_say(name):
    records = source_of(name).load()
    spec, tags = records.spec, summary(choices("data")[name])[1]
    assert tags == {spec.kind} | ({spec.target} if spec.target else set())
    if records.dialogues is not None:
        found = records.dialogues
        assert all(isinstance(prompt, str) and prompt for prompt in found.prompts)
        assert all(isinstance(one, str) and one for answers in found.answers for one in answers)
        assert {len(answers) for answers in found.answers} == {2 if spec.target == "preference" else 1}
        assert sum(len(rows) for rows in records.splits.values()) == records.size
        return
    if spec.target == "preference" and spec.kind == "vector":
        assert all(column.isfinite().all() for column in records.columns.values())
        return
    if spec.target == "preference":
        numbers = records.columns.values()
        assert all(column.dtype == torch.int64 and 0 <= column.min() <= column.max() for column in numbers)
        assert {"prompt", "chosen", "rejected"} <= set(records.columns)
        return
    if spec.kind == "text":
        assert not records.columns
        assert all(isinstance(text, str) and text for texts in records.documents.values() for text in texts)
        return
    x = records.columns["x"]
    assert x.dtype == torch.float32
    assert tuple(x.shape[1:]) == spec.shape
    assert x.isfinite().all()
    if spec.bounds is not None:
        assert x.min() >= spec.bounds[0]
        assert x.max() <= spec.bounds[1]
    if spec.levels is not None:
        steps = x * (spec.levels - 1)
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
    if spec.features:
        assert len(spec.features) == spec.shape[0]
    if spec.target == "class":
        y = records.columns["y"]
        assert y.dtype == torch.int64
        assert y.unique().tolist() == list(range(len(spec.classes)))
    if spec.target == "real":
        assert records.columns["y"].dtype == torch.float32
    for rows in records.splits.values():
        assert rows.dtype == torch.int64
        assert len(rows)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_configs_name_every_argument_with_its_default(name):
    config = dict(CONFIGS[name])
    target = locate(config.pop("_target_"))
    names, required, _ = signature(target)
    assert set(config) == set(names)
    defaults = {
        parameter.name: parameter.default
        for owner in reversed(target.__mro__)
        if "__init__" in vars(owner)
        for parameter in inspect.signature(vars(owner)["__init__"]).parameters.values()
        if parameter.default is not parameter.empty
    }
    if target.__module__.endswith("hugging_face") and name != "hub":
        return  # ready-made choices of one source differ in their arguments
    for key, value in config.items():
        if key in required:
            # What nobody could guess stands there as an example.
            assert value == "???" or key == "name" or isinstance(value, list | dict)
        else:
            expected = list(defaults[key]) if isinstance(defaults[key], tuple) else defaults[key]
            assert value == expected or (value == {} and expected is None)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_configs_introduce_themselves(name):
    line, tags = summary(choices("data")[name])
    assert line.endswith(".")
    assert len(line) < 100
    assert tags <= {"image", "vector", "text", "class", "real", "mask", "points", "preference", "answer"}
    assert tags & {"image", "vector", "text"}


def test_diabetes_is_in_its_own_units():
    records = Table("diabetes").load()
    age = records.columns["x"][:, records.spec.features.index("age")]
    assert (age.min(), age.max()) == (19, 79)
    assert (records.columns["y"].min(), records.columns["y"].max()) == (25, 346)


def test_an_unknown_table_is_refused():
    with pytest.raises(UserError, match="there is no table 'vine'") as error:
        Table("vine")
    assert "wine" in error.value.mend


def test_patches_are_cut_from_their_picture():
    from skimage import data

    records = PicturePatches(patch=32, channels=3, pictures=["astronaut", "coffee"]).load()
    x, y = records.columns["x"], records.columns["y"]
    for label, (picture, across) in enumerate([(data.astronaut(), 16), (data.coffee(), 18)]):
        down = picture.shape[0] // 32
        whole = x[y == label].reshape(down, across, 3, 32, 32).permute(0, 3, 1, 4, 2).reshape(down * 32, across * 32, 3)
        expected = torch.from_numpy(picture[: down * 32, : across * 32].copy()) / 255
        torch.testing.assert_close(whole, expected)


def test_each_listed_picture_lies_in_the_installed_package():
    assert len(PicturePatches(patch=64, pictures=list(FILES)).load().spec.classes) == len(FILES)


def test_overlapping_patches_share_no_pixel_across_splits():
    records = PicturePatches(patch=16, stride=4, pictures=["coins", "text"]).load()
    assert set(records.splits) == {"train", "validation", "test"}
    assert len(torch.cat(list(records.splits.values())).unique()) == sum(map(len, records.splits.values()))
    extent = torch.tensor([[0.0, 0.1], [0.65, 0.72], [0.71, 0.79], [0.85, 0.95]])
    assert {split: rows.tolist() for split, rows in bands(extent).items()} == {
        "train": [0],
        "validation": [2],
        "test": [3],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pictures": ["astronaut", "cofee"]}, "no picture 'cofee'"),
        ({"pictures": ["astronaut"]}, "one class only"),
        ({"patch": 0}, "at least 1 pixel"),
        ({"channels": 2}, "data.channels=2"),
    ],
)
def test_wrong_pictures_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        PicturePatches(**arguments)


def test_a_patch_larger_than_a_picture_is_refused():
    with pytest.raises(UserError, match="'text' has only 172 x 448 pixels"):
        PicturePatches(patch=200, pictures=["astronaut", "text"]).load()


def test_standard_library_holds_whole_modules_out():
    documents = StandardLibrary().load().documents
    assert all(len(texts) >= 5 for texts in documents.values())
    everything = list(chain(*documents.values()))
    assert len(set(everything)) == len(everything)
    assert sum(map(len, everything)) > 1_500_000
    assert Path(shlex.__file__).read_text(encoding="utf-8") in documents["test"]
