"""The person's own files: what they become, and that each mistake is named with where it is and how to mend it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from compendium.errors import MissingExtra, UserError
from datamodules.source import Source
from datamodules.sources.decoding import Pictures
from datamodules.sources.image_folder import ImageFolder
from datamodules.sources.npz import Npz
from datamodules.sources.table_file import Csv, Parquet
from datamodules.sources.text_file import JsonLines, TextFiles

Image = pytest.importorskip("PIL.Image")

TABLE = "width,height,count,kind\n1.5,2,7,a\n2.5,3,8,b\n-3,1e-2,9,a\n"


def written(path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def picture(path, value: int | np.ndarray, size: tuple[int, int] = (8, 8), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, np.ndarray):
        Image.fromarray(value).save(path)
    else:
        Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


def refused(source: Source, *parts: str) -> None:
    """Loading fails with a message that holds all parts."""
    with pytest.raises(UserError) as error:
        source.load()
    for part in parts:
        assert part in str(error.value)


# Tables


def test_csv_columns_become_features_and_target(tmp_path):
    path = written(tmp_path / "t.csv", TABLE)
    records = Csv(path, target="kind").load()
    expected = torch.tensor([[1.5, 2, 7], [2.5, 3, 8], [-3, 0.01, 9]])
    torch.testing.assert_close(records.columns["x"], expected)
    assert records.spec.features == ("width", "height", "count")
    assert records.spec.classes == ("a", "b")
    assert records.columns["y"].tolist() == [0, 1, 0]
    assert records.spec.name == "t"
    assert Csv(path, features=["height", "width"]).load().columns["x"][0].tolist() == [2, 1.5]


@pytest.mark.parametrize("target", ["kind", -1, 3])
def test_csv_target_by_name_or_index(tmp_path, target):
    assert Csv(written(tmp_path / "t.csv", TABLE), target=target).load().spec.classes == ("a", "b")


@pytest.mark.parametrize(
    ("cells", "task", "kind", "classes"),
    [
        (["3", "1", "3"], "auto", "class", ("1", "3")),
        (["10", "9", "10"], "auto", "class", ("9", "10")),
        (["3.0", "1", "3"], "auto", "real", ()),
        (["true", "False", "true"], "auto", "class", ("False", "True")),
        (["x", "y", "x"], "auto", "class", ("x", "y")),
        ([str(i) for i in range(21)], "auto", "real", ()),
        ([str(i) for i in range(21)], "class", "class", tuple(map(str, range(21)))),
        (["0.5", "1", "1"], "class", "class", ("0.5", "1")),
        (["3", "1", "3"], "real", "real", ()),
        (["x", "y", "x"], "none", None, ()),
    ],
)
def test_what_a_target_column_is(tmp_path, cells, task, kind, classes):
    lines = "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    spec = Csv(written(tmp_path / "t.csv", "x,y\n" + lines), target="y", task=task).load().spec
    assert (spec.target, spec.classes, spec.shape) == (kind, classes, (1,))


def test_csv_of_spreadsheets(tmp_path):
    text = '\ufeffa;b\r\n"1";" 2 "\r\n\r\n3;"4"\r\n'
    assert Csv(written(tmp_path / "t.csv", text), separator=";").load().columns["x"].tolist() == [[1, 2], [3, 4]]
    path = written(tmp_path / "l.csv", "größe,b\n1,2\n".encode("latin-1"))
    assert Csv(path, encoding="latin-1").load().spec.features == ("größe", "b")


@pytest.mark.parametrize(
    ("content", "arguments", "parts"),
    [
        ("", {}, ["holds no records"]),
        ("a,b\n", {}, ["holds no records"]),
        ("a,b\n1,2\n", {"target": "c"}, ["data.target=c", "there are: a, b"]),
        ("width,b\n1,2\n", {"target": "widht"}, ["data.target=widht", "did you mean width?"]),
        ("a,b\n1,2\n", {"features": ["z"]}, ["data.features=z"]),
        ("a,b\n1,2\n", {"target": "a", "features": ["a"]}, ["data.target=a is among data.features"]),
        ("a\n1\n", {"target": "a"}, ["no column beside the target"]),
        ("a,b\n1,2\n3,big\n", {}, ["line 3", "column 'b'", "'big'", "data.features=[a]"]),
        ('a,b\n"1\n",2\n3,big\n', {}, ["line 4", "'big'"]),
        ("a,b\n1,2\n3,\nNA,\n", {}, ["3 missing cells", "1 in 'a', 2 in 'b'", "'b' in line 3"]),
        ("a,b\n1,2\n3,?\n", {}, ["1 missing cells", "line 3"]),
        ("a,y\n1,u\n3,\n", {"target": "y"}, ["1 missing cells", "'y' in line 3"]),
        ("a,b\n1,2\n3,inf\n", {}, ["column 'b'", "1 infinite", "line 3"]),
        ("a,y\n1,u\n3,u\n", {"target": "y"}, ["one class only: u"]),
        ("a,y\n1,u\n3,v\n", {"target": "y", "task": "real"}, ["no number in line 2: 'u'", "data.task=class"]),
        ("a,b\n1,2\n3\n4,5,6\n", {}, ["line 3", "1 cells where there are 2 columns", "2 lines"]),
        ("1,2\n3,4\n", {}, ["first line holds numbers"]),
        ("a,a\n3,4\n", {}, ["empty or repeated: a"]),
        ("a,\n3,4\n", {}, ["empty or repeated: (empty)"]),
        ("a;b\n3;4\n", {}, ["single column", "data.separator=;"]),
        (b"a,b\n\xff,1\n", {}, ["is not utf-8", "byte 4", "data.encoding"]),
        ("a,b\n1,2\n", {"encoding": "utf-9"}, ["data.encoding=utf-9"]),
    ],
)
def test_wrong_csv(tmp_path, content, arguments, parts):
    refused(Csv(written(tmp_path / "t.csv", content), **arguments), *parts)


def test_wrong_arguments_of_tables(tmp_path):
    with pytest.raises(UserError, match="no task 'clas'"):
        Csv("t.csv", task="clas")
    with pytest.raises(UserError, match="no single character"):
        Csv("t.csv", separator="::")
    refused(Csv(str(tmp_path)), "is a folder")


def test_csv_of_100_000_rows_is_read_in_seconds_without_pandas(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    lines = "1.25,2,3.5,0\n4,5.5,6,1\n" * 50_000
    records = Csv(written(tmp_path / "t.csv", "a,b,c,y\n" + lines), target="y").load()
    assert records.columns["x"].sum(0).tolist() == [262_500, 375_000, 475_000]


def test_parquet_agrees_with_csv(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    kinds = arrow.array(["a", "b", "a"]).dictionary_encode()
    table = {"width": [1.5, 2.5, -3], "height": [2, 3, 1e-2], "count": [7, 8, 9], "kind": kinds}
    table["__index_level_0__"] = [5, 6, 7]
    parquet.write_table(arrow.table(table), tmp_path / "t.parquet")
    ours = Parquet(str(tmp_path / "t.parquet"), target="kind").load()
    theirs = Csv(written(tmp_path / "t.csv", TABLE), target="kind").load()
    assert ours.spec == theirs.spec
    assert torch.equal(ours.columns["x"], theirs.columns["x"])
    assert torch.equal(ours.columns["y"], theirs.columns["y"])


@pytest.mark.parametrize(
    ("table", "arguments", "parts"),
    [
        ({"a": [1, None, 3]}, {}, ["1 missing cells", "'a' in row 2"]),
        ({"a": [1.0, 2.0], "b": ["u", "v"]}, {}, ["row 1", "column 'b'", "'u'", "data.features=[a]"]),
        ({"a": [1.0, 2.0], "y": ["u", None]}, {"target": "y"}, ["1 missing cells", "'y' in row 2"]),
        ({"a": [1.0, float("inf")]}, {}, ["1 infinite", "row 2"]),
        ({"a": [1.0, 2.0], "y": [True, True]}, {"target": "y"}, ["one class only: True"]),
        ({}, {}, ["has no columns"]),
    ],
)
def test_wrong_parquet(tmp_path, table, arguments, parts):
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(table), tmp_path / "t.parquet")
    refused(Parquet(str(tmp_path / "t.parquet"), **arguments), *parts)


def test_a_file_that_is_no_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    refused(Parquet(written(tmp_path / "t.parquet", "a,b\n")), "is no Parquet file")


def test_parquet_without_pyarrow_is_one_line(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)

    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "pyarrow":
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    with pytest.raises(MissingExtra) as error:
        Parquet(written(tmp_path / "t.parquet", "")).load()
    assert "pip install -e '.[tables]'" in str(error.value)


# Any file


@pytest.mark.parametrize("source", [Csv, Parquet, Npz, TextFiles, JsonLines, ImageFolder])
def test_a_missing_path_names_its_nearest_siblings(tmp_path, source):
    written(tmp_path / "flowers.csv", "")
    refused(
        source(str(tmp_path / "flower.csv")), "there is no 'flower.csv'", str(tmp_path), "did you mean flowers.csv?"
    )
    refused(source(str(tmp_path / "sub" / "x.csv")), "there is no 'sub'", str(tmp_path))


# NumPy archives


@pytest.mark.parametrize(
    ("x", "shape", "kind", "levels"),
    [
        (np.arange(96, dtype=np.uint8).reshape(6, 4, 4), (1, 4, 4), "image", 256),
        (np.zeros((6, 3, 4, 4), np.uint8), (3, 4, 4), "image", 256),
        (np.full((6, 4, 4), 0.5), (1, 4, 4), "image", None),
        (np.zeros((6, 5)), (5,), "vector", None),
        (np.zeros((6, 5), np.int32), (5,), "vector", None),
    ],
)
def test_npz_shapes(tmp_path, x, shape, kind, levels):
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(6))
    records = Npz(str(tmp_path / "a.npz")).load()
    spec = records.spec
    assert (spec.shape, spec.kind, spec.levels, len(spec.classes)) == (shape, kind, levels, 6)
    if x.dtype == np.uint8:
        torch.testing.assert_close(records.columns["x"].flatten() * 255, torch.from_numpy(x.flatten()).float())


def test_npz_test_arrays_are_the_test_split(tmp_path):
    x = np.arange(10.0)[:, None]
    np.savez(tmp_path / "a.npz", x=x[:7], label=x[:7, 0], x_test=x[7:], label_test=x[7:, 0])
    records = Npz(str(tmp_path / "a.npz"), y="label", y_test="label_test").load()
    assert records.spec.target == "real"
    assert records.splits["test"].tolist() == [7, 8, 9]
    assert torch.equal(records.columns["y"], torch.arange(10.0))
    alone = Npz(str(tmp_path / "a.npz"), x_test=None).load()
    assert (alone.splits, alone.spec.target) == ({}, None)


def test_npz_channels_last(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x)
    loaded = Npz(str(tmp_path / "a.npz"), channels_last=True).load().columns["x"]
    assert torch.equal((loaded * 255).round().byte(), torch.from_numpy(x).permute(0, 3, 1, 2))
    refused(Npz(str(tmp_path / "a.npz")), "channels come last", "data.channels_last=true")


@pytest.mark.parametrize(
    ("arrays", "arguments", "parts"),
    [
        ({"images": np.zeros((2, 3))}, {}, ["data.x=x", "images"]),
        ({"x": np.zeros((2, 3))}, {"y": "labels"}, ["data.y=labels"]),
        ({"x": np.zeros((0, 3))}, {}, ["'x' holds no records"]),
        ({"x": np.zeros(3)}, {}, ["'x' is float64 of the shape (3,)"]),
        ({"x": np.array([[0.0], [np.nan], [np.inf]])}, {}, ["1 NaN and 1 infinite", "record 1"]),
        ({"x": np.full((2, 4, 4), 255.0)}, {}, ["from 255 to 255", "[0, 1]", "uint8"]),
        ({"x": np.zeros((2, 3)), "y": np.zeros(3)}, {}, ["'y' has the shape (3,)", "(2,)"]),
        ({"x": np.zeros((2, 3)), "y": np.zeros(2, int)}, {}, ["one class only: 0"]),
        ({"x": np.zeros((2, 3)), "y": np.arange(2), "x_test": np.zeros((2, 3))}, {}, ["test records without targets"]),
        ({"x": np.zeros((2, 3)), "x_test": np.zeros((2, 4))}, {}, ["'x_test' have the shape (4,)"]),
        ({"x": np.array([{}, {}], dtype=object)}, {}, ["pickled objects"]),
    ],
)
def test_wrong_npz(tmp_path, arrays, arguments, parts):
    np.savez(tmp_path / "a.npz", **arrays)
    refused(Npz(str(tmp_path / "a.npz"), **arguments), *parts)


def test_files_that_are_no_npz(tmp_path):
    refused(Npz(written(tmp_path / "a.npz", "words")), "is no .npz archive")
    np.save(tmp_path / "a.npy", np.zeros(3))
    refused(Npz(str(tmp_path / "a.npy")), "is no .npz archive", "np.savez")
    np.savez(tmp_path / "b.npz", x=np.zeros((50, 50)))
    refused(Npz(written(tmp_path / "c.npz", (tmp_path / "b.npz").read_bytes()[:-100])), "is no .npz archive")


# Text


def test_text_of_a_file_a_folder_and_a_pattern(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.txt", "d.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written(tmp_path / name, f"text of {name}")
    written(tmp_path / "empty.txt", " \n")
    assert TextFiles(str(tmp_path / "d.md")).load().documents == {"train": ["text of d.md"]}
    assert TextFiles(str(tmp_path)).load().documents == {
        "train": ["text of a.txt", "text of b.txt", "text of sub/c.txt"]
    }
    assert TextFiles(str(tmp_path / "*.md")).load().documents == {"train": ["text of d.md"]}


def test_text_in_folders_of_splits(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        written(tmp_path / split / "a.txt", split)
    documents = TextFiles(str(tmp_path)).load().documents
    assert documents == {"train": ["train"], "validation": ["val"], "test": ["test"]}


def test_wrong_text(tmp_path):
    refused(TextFiles(str(tmp_path)), "holds no records", "data.pattern")
    refused(TextFiles(str(tmp_path / "*.txt")), "No file fits the pattern")
    refused(TextFiles(written(tmp_path / "a.txt", "")), "The files are empty")
    refused(TextFiles(written(tmp_path / "b.txt", b"ab\xff")), "b.txt is not utf-8", "byte 2", "data.encoding=latin-1")


def test_json_lines(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"text": "one"}\n\n{"text": "two", "other": 1}\n')
    assert JsonLines(path).load().documents == {"train": ["one", "two"]}
    path = written(
        tmp_path / "b.jsonl", "".join(json.dumps({"v": [i, 0.5], "t": "ab"[i % 2]}) + "\n" for i in range(4))
    )
    records = JsonLines(path, x="v", y="t").load()
    assert records.columns["x"].tolist() == [[0, 0.5], [1, 0.5], [2, 0.5], [3, 0.5]]
    assert records.columns["y"].tolist() == [0, 1, 0, 1]
    assert records.spec.classes == ("a", "b")
    assert JsonLines(path, x="v").load().spec.target is None


@pytest.mark.parametrize(
    ("content", "arguments", "parts"),
    [
        ("", {}, ["holds no records"]),
        ('{"text": "a"}\n{"text": \n', {}, ["line 2", "no JSON"]),
        ('{"text": "a"}\n[1]\n', {}, ["line 2", "list"]),
        ('{"text": "a"}\n{"txt": "b"}\n', {}, ["line 2", "no field 'text'", "did you mean txt?"]),
        ('{"text": 3}\n', {}, ["line 1", "int, not a string"]),
        ('{"x": [1, 2]}\n{"x": [1]}\n', {"x": "x"}, ["line 2", "no list of 2 numbers"]),
        ('{"x": [1, 2]}\n{"x": [1, "b"]}\n', {"x": "x"}, ["line 2", "no list of 2 numbers"]),
        ('{"x": [1]}\n{"x": [NaN]}\n', {"x": "x"}, ["1 NaN", "line 2"]),
        ('{"x": [1], "y": 1}\n{"x": [2], "y": 1}\n', {"x": "x", "y": "y"}, ["one class only: 1"]),
        ('{"x": [1]}\n', {"x": "x", "y": "y"}, ["line 1", "no field 'y'"]),
    ],
)
def test_wrong_json_lines(tmp_path, content, arguments, parts):
    refused(JsonLines(written(tmp_path / "a.jsonl", content), **arguments), *parts)


# Folders of pictures


def test_pictures_in_class_folders(tmp_path):
    for name, value in {"dark/1.png": 0, "dark/2.png": 51, "light/deep/1.png": 255, "light/.hidden.png": 9}.items():
        picture(tmp_path / name, value)
    written(tmp_path / "dark" / "notes.txt", "")
    records = ImageFolder(str(tmp_path), size=4, channels=1).load()
    assert records.spec.classes == ("dark", "light")
    assert records.columns["y"].tolist() == [0, 0, 1]
    assert records.columns["x"].shape == (3, 1, 4, 4)
    torch.testing.assert_close(records.columns["x"].mean((1, 2, 3)), torch.tensor([0.0, 0.2, 1.0]))


def test_pictures_in_folders_of_splits(tmp_path):
    for split, value in {"train": 0, "valid": 100, "test": 200}.items():
        picture(tmp_path / split / "a" / "1.png", value)
        picture(tmp_path / split / "b" / "1.png", value)
    records = ImageFolder(str(tmp_path), size=8).load()
    assert {split: rows.tolist() for split, rows in records.splits.items()} == {
        "train": [0, 1], "validation": [2, 3], "test": [4, 5]
    }  # fmt: skip
    assert records.columns["y"].tolist() == [0, 1, 0, 1, 0, 1]
    assert records.spec.shape == (3, 8, 8)
    picture(tmp_path / "test" / "bb" / "1.png", 0)
    refused(ImageFolder(str(tmp_path)), "test split has the class 'bb'", "did you mean b?")


def test_pictures_without_classes_have_no_target(tmp_path):
    for index in range(3):
        picture(tmp_path / f"{index}.jpg", index, mode="RGB")
    spec = ImageFolder(str(tmp_path), size=8).load().spec
    assert (spec.target, spec.classes, spec.levels) == (None, (), 256)


def test_the_centre_is_cut_out_and_16_bits_keep_their_upper_half(tmp_path):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255
    picture(tmp_path / "1.png", wide)
    picture(tmp_path / "2.png", np.full((8, 8), 0x8040, np.uint16))
    x = ImageFolder(str(tmp_path), size=8, channels=1).load().columns["x"]
    assert (x[0] == 1).all()
    assert (x[1] * 255 == 0x80).all()


def test_pictures_beyond_the_memory_limit_are_decoded_when_asked_for(tmp_path):
    for index in range(6):
        picture(tmp_path / "ab"[index % 2] / f"{index}.png", index * 40)
    kept = ImageFolder(str(tmp_path), size=8).load().columns["x"]
    lazy = ImageFolder(str(tmp_path), size=8, memory_gb=1e-9).load().columns["x"]
    assert isinstance(kept, torch.Tensor)
    assert isinstance(lazy, Pictures)
    rows = torch.tensor([4, 0, 4])
    assert len(lazy) == 6
    assert torch.equal(lazy[rows], kept[rows])


def test_wrong_folders_of_pictures(tmp_path):
    refused(ImageFolder(str(tmp_path)), "holds no records", ".png")
    refused(ImageFolder(written(tmp_path / "a.txt", "")), "is a file")
    picture(tmp_path / "one" / "1.png", 0)
    refused(ImageFolder(str(tmp_path)), "one class only: one")
    picture(tmp_path / "0.png", 0)
    refused(ImageFolder(str(tmp_path)), "1 pictures beside folders", "0.png")
    with pytest.raises(UserError, match=r"data\.channels=4"):
        ImageFolder(str(tmp_path), channels=4)


def test_pictures_that_do_not_decode_are_counted_and_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    for index in range(4):
        picture(tmp_path / "ab"[index % 2] / f"{index}.png", noise)
    broken = tmp_path / "b" / "3.png"
    written(broken, broken.read_bytes()[:400])
    refused(ImageFolder(str(tmp_path)), "1 picture does not decode", str(broken))
    lazy = ImageFolder(str(tmp_path), memory_gb=1e-9).load().columns["x"]
    with pytest.raises(UserError, match="1 picture does not decode"):
        lazy[torch.arange(4)]
    written(tmp_path / "a" / "0.png", "no picture")
    refused(ImageFolder(str(tmp_path)), "0.png")
