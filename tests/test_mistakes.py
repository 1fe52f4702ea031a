"""A tour of wrong inputs: each gets one clear screen, a non-zero exit, and leaves nothing half-written."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.command import apart, here

CLASSIFIER = (
    "model=supervised/classifier",
    "trainer=cpu",
    "callbacks=bare",
    "net=mlp",
    "net.width=16",
    "trainer.max_epochs=1",
    "logger=none",
)


@pytest.fixture
def runs(tmp_path):
    """The folder of the run folders of one test."""
    return tmp_path / "runs"


@pytest.fixture
def mistake(capfd, runs):
    """Make a mistake; see that it is one screen without a traceback, exits with 2, and leaves no run folder."""

    def make(*arguments: object, says: tuple[str, ...], leaves: bool = False) -> str:
        outcome = here(capfd, *arguments, f"runs={runs}")
        assert outcome.code == 2, outcome
        assert "Traceback" not in outcome.err
        assert len(outcome.err.splitlines()) < 20
        for words in says:
            assert words in outcome.err, outcome.err
        assert leaves or not list(runs.rglob("config.json"))
        assert not list(runs.rglob("*.tmp"))
        return outcome.err

    return make


def test_all_unknown_keys_and_choices_are_named_at_once(mistake):
    mistake(
        "model=supervised/clasifier", "dta=digits", "optimizer.rl=0.1", "trainer.max_epoch=3",
        says=("did you mean supervised/classifier", "dta:", "did you mean data", "optimizer.rl", "trainer.max_epochs?"),
    )  # fmt: skip


def test_an_axis_that_the_model_does_not_have(mistake):
    says = ("the model has no sampler", "generative/diffusion")
    mistake("model=supervised/classifier", "sampler=ddim", says=says)


def test_a_new_key_close_to_a_known_one(mistake):
    mistake("+trainer.max_epoch=3", says=("+trainer.max_epoch", "did you mean trainer.max_epochs"))


def test_a_missing_value(mistake):
    mistake(*CLASSIFIER, "data=csv", says=("data.path has no value", "add data.path=VALUE"))


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("trainer.max_epochs=many", "expected a whole number"),
        ("trainer.max_epochs=1.5", "expected a whole number"),
        ("seed=abc", "expected a whole number"),
        ("optimizer.lr=fast", "expected a number"),
        ("dry=perhaps", "expected true or false"),
        ("optimizer.betas=0.9", "expected a list"),
    ],
)
def test_a_value_of_the_wrong_type(mistake, argument, says):
    mistake(*CLASSIFIER, argument, says=(argument, says))


def test_a_value_out_of_range(mistake):
    mistake(*CLASSIFIER, "optimizer.lr=-1", says=("Invalid learning rate",))
    mistake(*CLASSIFIER, "schedule=cosine", "schedule.warmup=7", says=("schedule.warmup=7", "between 0 and 1"))
    mistake(*CLASSIFIER, "datamodule.validation=0.9", "datamodule.test=0.5", says=("leave nothing to train on",))
    mistake(*CLASSIFIER, "seed=-1", says=("seed=-1", "at least 0"))
    mistake(*CLASSIFIER, "run=trian", says=("run=trian", "fit"))
    mistake(*CLASSIFIER, "trainer.precision=11", says=("trainer", "11"))


def test_data_that_does_not_fit_the_model(mistake):
    mistake(*CLASSIFIER, "data=diabetes", says=("diabetes", "supervised/regressor"))
    said = mistake(*CLASSIFIER, "data=standard_library", says=("text data", "data that would do", "digits", "wine"))
    assert "moons" not in said
    mistake(*CLASSIFIER, "datamodule=token_windows", "data=standard_library", says=("learns from Labelled", "labelled"))


def test_a_network_that_does_not_read_the_data(mistake):
    image_nets = [part for part in CLASSIFIER if not part.startswith("net")]
    for dry in ("dry=false", "dry=true"):
        mistake(
            *image_nets,
            "net=cnn",
            "data=wine",
            dry,
            says=("net: CNN reads image data", "would do: adversarial, dag, field, "),
        )
        mistake("net=unet", "data=moons", dry, says=("net: UNet reads image data", "mlp"))


def test_a_missing_extra_names_the_command(mistake, monkeypatch, tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    mistake(
        *CLASSIFIER,
        "data=parquet",
        f"data.path={tmp_path}/t.parquet",
        "data.target=y",
        says=("pyarrow", "pip install -e '.[tables]'"),
    )


def table(path: Path, rows: list[str], header: str = "a,b,label") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


GOOD = [f"{i},{i * 2 % 7},{'xy'[i % 2]}" for i in range(40)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([*GOOD[:5], "1,tall,x", *GOOD], ("'b'", "line 7", "tall")),
        ([*GOOD[:5], "1,,x", *GOOD], ("'b'", "line 7")),
        ([*GOOD[:5], "1,nan,x", *GOOD], ("'b'", "line 7")),
        ([row[:-1] + "x" for row in GOOD], ("one class",)),
        ([], ("no ",)),
        ([*GOOD[:5], "1,2", *GOOD], ("line 7",)),
    ],
    ids=["text", "missing", "nan", "one class", "empty", "ragged"],
)
def test_tables(mistake, tmp_path, rows, says):
    mistake(*CLASSIFIER, f"data={table(tmp_path / 't.csv', rows)}", "data.target=label", says=("t.csv", *says))


def test_a_table_without_the_target(mistake, tmp_path):
    mistake(
        *CLASSIFIER,
        f"data={table(tmp_path / 't.csv', GOOD)}",
        "data.target=lable",
        says=("lable", "did you mean label"),
    )


def test_files_that_are_missing_or_corrupt(mistake, tmp_path):
    table(tmp_path / "train.csv", GOOD)
    mistake(
        *CLASSIFIER,
        "data=csv",
        f"data.path={tmp_path}/trian.csv",
        "data.target=label",
        says=("trian.csv", "did you mean", "train.csv"),
    )
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    mistake(*CLASSIFIER, f"data={tmp_path}/broken.npz", says=("broken.npz",))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not a table")
    mistake(*CLASSIFIER, f"data={tmp_path}/broken.parquet", "data.target=y", says=("broken.parquet",))
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    mistake(*CLASSIFIER, f"data={tmp_path}/broken.jsonl", says=("broken.jsonl", "line 2"))


def test_an_image_that_does_not_decode(mistake, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((12, 12), 20 * i, np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
    (tmp_path / "images/dog/3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    mistake(*CLASSIFIER, f"data={tmp_path}/images", "data.size=8", says=("3.png",))


def test_nan_in_arrays(mistake, tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 3))
    x[17, 1] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(30) % 2)
    mistake(*CLASSIFIER, f"data={tmp_path}/a.npz", says=("a.npz", "17"))


def test_a_loss_that_becomes_nan_names_step_term_and_checkpoint(mistake):
    mistake(
        *CLASSIFIER, "optimizer=sgd", "optimizer.lr=1e30", "callbacks.checkpoint.every_steps=1", "trainer.max_epochs=3",
        says=("not finite at step", "loss=nan", "last good checkpoint"), leaves=True,
    )  # fmt: skip


def test_a_checkpoint_of_another_model_or_half_a_checkpoint(capfd, mistake, runs, tmp_path):
    other = here(
        capfd,
        "model=continual/g_acil",
        "trainer=cpu",
        "callbacks=bare",
        "model.features=16",
        "logger=none",
        f"runs={tmp_path}/other",
    )
    assert other.code == 0
    path = next((tmp_path / "other").rglob("last.ckpt"))
    for key in ("resume", "ckpt"):
        more = ("run=test",) if key == "ckpt" else ()
        mistake(*CLASSIFIER, *more, f"{key}={path}", says=("last.ckpt", "GACIL"))
    half = tmp_path / "half.ckpt"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    mistake(*CLASSIFIER, f"resume={half}", says=("half.ckpt", "truncated"))
    mistake(*CLASSIFIER, "run=test", f"ckpt={tmp_path}/none.ckpt", says=("there is no checkpoint",))
    mistake(*CLASSIFIER, "run=test", says=("no last checkpoint yet", "run=fit"))
    torch.save({"state_dict": {}, "code": print}, half)
    mistake(*CLASSIFIER, f"resume={half}", says=("half.ckpt", "not made here"))


def test_a_target_outside_of_the_allow_list(mistake):
    mistake(*CLASSIFIER, "model._target_=os.system", says=("model._target_=os.system", "COMPENDIUM_ALLOW=os"))
    mistake(*CLASSIFIER, "optimizer._target_=torch.optim.AdamX", says=("no 'AdamX'", "Adam"))


def test_a_secret_in_the_config(mistake):
    mistake(*CLASSIFIER, "++data.token=abc", says=("data.token", "environment"))


def test_words_that_are_no_override(mistake):
    mistake("--modle", "classifier", says=("'--modle' is not understood", "--help"))


def test_debug_shows_the_traceback():
    outcome = apart("data=dgits", "debug=true")
    assert outcome.code == 1
    assert "Traceback" in outcome.err


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    """The process may write no file above a size, as on a disk that fills up: the old checkpoint is still whole."""
    arguments = (*CLASSIFIER, f"runs={tmp_path}", "callbacks.checkpoint.every_steps=5")
    assert apart(*arguments).code == 0
    path = next(tmp_path.rglob("last.ckpt"))
    size = path.stat().st_size
    whole = path.read_bytes()
    (path.parent.parent / "result.json").unlink()

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    again = apart(*arguments, "resume=never", before=full)
    assert again.code == 2, again.err
    assert "cannot write" in again.err
    assert "Traceback" not in again.err
    assert not list(tmp_path.rglob("*.tmp"))
    kept = next(p for p in tmp_path.rglob("last.ckpt"))
    assert kept.read_bytes() == whole
