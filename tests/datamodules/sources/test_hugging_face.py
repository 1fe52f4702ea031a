"""Data sets in the hub's layout, from a local folder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.decoding import Pictures
from datamodules.sources.hugging_face import HuggingFace
from tests.datamodules.fakes import source_of

datasets = pytest.importorskip("datasets")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (14, 28, 28), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(14) % 10
CARD = """---
dataset_info:
  config_name: {config}
  features:
{features}
configs:
- config_name: {config}
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
"""


def encoded(pixels: np.ndarray) -> dict:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def class_label(name: str, names: list[str]) -> str:
    listed = "".join(f"          '{index}': {label}\n" for index, label in enumerate(names))
    return f"  - name: {name}\n    dtype:\n      class_label:\n        names:\n{listed}"


def hub_folder(root: Path, config: str, features: str, **columns) -> str:
    """Parquet files and a card as the hub has them; the last four rows are the test split."""
    (root / "data").mkdir(parents=True)
    columns = {name: list(values) for name, values in columns.items()}
    for split, part in {"train": slice(0, -4), "test": slice(-4, None)}.items():
        table = arrow.table({name: values[part] for name, values in columns.items()})
        parquet.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet")
    (root / "README.md").write_text(CARD.format(config=config, features=features.rstrip("\n")))
    return str(root)


@pytest.fixture
def mnist(tmp_path) -> str:
    features = "  - name: image\n    dtype: image\n" + class_label("label", [f"'{digit}'" for digit in range(10)])
    return hub_folder(tmp_path / "mnist", "mnist", features, image=map(encoded, GREY), label=LABELS.tolist())


@pytest.fixture
def cache(tmp_path) -> str:
    return str(tmp_path / "cache")


def test_mnist(mnist, cache):
    records = source_of("mnist", name=mnist, cache_dir=cache).load()
    spec = records.spec
    assert (spec.name, spec.kind, spec.shape, spec.levels) == ("mnist", "image", (1, 28, 28), 256)
    assert spec.classes == tuple("0123456789")
    assert torch.equal((records.columns["x"][:, 0] * 255).round().byte(), torch.from_numpy(GREY))
    assert records.columns["y"].tolist() == LABELS.tolist()
    assert {split: len(rows) for split, rows in records.splits.items()} == {"train": 10, "test": 4}


def test_cifar10(tmp_path, cache):
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    features = "  - name: img\n    dtype: image\n" + class_label("label", names)
    folder = hub_folder(tmp_path / "c", "plain_text", features, img=map(encoded, COLOUR), label=LABELS.tolist())
    records = source_of("cifar10", name=folder, cache_dir=cache).load()
    assert records.spec.classes == tuple(names)
    expected = torch.from_numpy(COLOUR).permute(0, 3, 1, 2)
    assert torch.equal((records.columns["x"] * 255).round().byte(), expected)
    grey = HuggingFace(folder, channels=1, size=8, cache_dir=cache).load()
    assert grey.columns["x"].shape == (14, 1, 8, 8)


def test_lines_of_wikitext_are_one_document(tmp_path, cache):
    lines = [f" line {index} \n" if index % 3 else "" for index in range(14)]
    folder = hub_folder(tmp_path / "w", "wikitext-2-raw-v1", "  - name: text\n    dtype: string\n", text=lines)
    joined = source_of("wikitext2", name=folder, cache_dir=cache).load()
    assert joined.documents == {"train": ["".join(lines[:10])], "test": ["".join(lines[10:])]}
    assert joined.spec.kind == "text"
    apart = HuggingFace(folder, cache_dir=cache).load()
    assert apart.documents["train"] == [line for line in lines[:10] if line]


def test_pictures_stay_encoded_beyond_the_memory_limit(mnist, cache):
    lazy = HuggingFace(mnist, memory_gb=1e-9, cache_dir=cache).load().columns["x"]
    assert isinstance(lazy, Pictures)
    rows = torch.tensor([12, 3])
    assert torch.equal((lazy[rows][:, 0] * 255).round().byte(), torch.from_numpy(GREY)[rows])


def test_splits_can_be_named_or_left_out(mnist, cache):
    assert HuggingFace(mnist, splits={"test": None}, cache_dir=cache).load().splits == {}
    swapped = HuggingFace(mnist, splits={"train": "test", "test": "train"}, cache_dir=cache).load()
    assert {split: len(rows) for split, rows in swapped.splits.items()} == {"train": 4, "test": 10}


def test_no_target_if_asked_so(mnist, cache):
    assert HuggingFace(mnist, label="none", cache_dir=cache).load().spec.target is None


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"config": "mnis"}, ["data.config=mnis", "does not load"]),
        ({"image": "img"}, ["data.image=img", "image"]),
        ({"label": "labl"}, ["data.label=labl", "did you mean label?"]),
        ({"splits": {"test": "tset"}}, ["data.splits.test=tset", "did you mean test?"]),
    ],
)
def test_wrong_names(mnist, cache, arguments, parts):
    with pytest.raises(UserError) as error:
        HuggingFace(mnist, cache_dir=cache, **arguments).load()
    assert all(part in str(error.value) for part in parts)


def test_a_folder_that_is_not_there(tmp_path):
    (tmp_path / "mnist").mkdir()
    with pytest.raises(UserError, match="did you mean mnist"):
        HuggingFace(str(tmp_path / "mnits")).load()


def test_no_network_is_one_line(monkeypatch, cache):
    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"data\.name=ylecun/mnist is not on this machine.*cannot be reached") as error:
        source_of("mnist", cache_dir=cache).load()
    assert "data.name=FOLDER" in error.value.mend


def test_missing_labels_and_broken_pictures_and_other_sizes(tmp_path, cache):
    features = "  - name: image\n    dtype: image\n" + class_label("label", ["a", "b"])
    labels = [0, 1] * 5 + [-1] * 4
    folder = hub_folder(tmp_path / "l", "c", features, image=map(encoded, GREY), label=labels)
    with pytest.raises(UserError, match="4 of 14 labels are missing") as error:
        HuggingFace(folder, cache_dir=cache).load()
    assert "data.splits.test=null" in error.value.mend

    pictures = [encoded(pixels) for pixels in GREY]
    pictures[11] = {"bytes": pictures[11]["bytes"][:70], "path": None}
    folder = hub_folder(tmp_path / "b", "c", features, image=pictures, label=[0, 1] * 7)
    with pytest.raises(UserError, match="split 'test', picture 1"):
        HuggingFace(folder, cache_dir=cache).load()

    pictures[11] = encoded(GREY[0, :20])
    folder = hub_folder(tmp_path / "s", "c", features, image=pictures, label=[0, 1] * 7)
    with pytest.raises(UserError, match="20 x 28 pixels, not 28 x 28"):
        HuggingFace(folder, cache_dir=cache).load()
    assert HuggingFace(folder, size=16, cache_dir=cache).load().spec.shape == (1, 16, 16)


def test_tables_and_several_text_columns_are_refused(tmp_path, cache):
    numbers = "  - name: a\n    dtype: int64\n"
    folder = hub_folder(tmp_path / "n", "c", numbers, a=range(14))
    with pytest.raises(UserError, match="neither pictures nor text"):
        HuggingFace(folder, cache_dir=cache).load()
    two = "  - name: q\n    dtype: string\n  - name: r\n    dtype: string\n"
    folder = hub_folder(tmp_path / "t", "c", two, q=["x"] * 14, r=["y"] * 14)
    with pytest.raises(UserError, match=r"several columns for data\.text: q, r"):
        HuggingFace(folder, cache_dir=cache).load()
    assert HuggingFace(folder, text="r", cache_dir=cache).load().documents["test"] == ["y"] * 4
