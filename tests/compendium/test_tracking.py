"""The metric log is the truth; trackers mirror it, and can neither stop nor delay a run."""

from __future__ import annotations

import csv
import glob
import json
import re
import time

import pytest

from compendium import tracking
from compendium.config import CONF
from compendium.run import Run, read_log
from compendium.tracking import CSV, Mirror, RunLogger
from tests.command import apart, here
from tests.compendium.quick import CLASSIFIER, only_folder


class Broken(Mirror):
    """Raises in one of its calls."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.calls: list[str] = []

    def _maybe(self, call: str) -> None:
        self.calls.append(call)
        if call == self.call:
            raise RuntimeError("the tracker's server is on fire\nwith details")

    def open(self, run, first_step):
        self._maybe("open")

    def write(self, metrics, step):
        self._maybe("write")

    def close(self, state):
        self._maybe(f"close {state}" if self.call != "close" else "close")


class Hanging(Mirror):
    """Never comes back from one of its calls."""

    def __init__(self, call: str) -> None:
        self.call = call

    def _maybe(self, call: str) -> None:
        if call == self.call:
            time.sleep(100)

    def open(self, run, first_step):
        self._maybe("open")

    def write(self, metrics, step):
        self._maybe("write")

    def close(self, state):
        self._maybe("close")


class Recording(Mirror):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list = []

    def open(self, run, first_step):
        self.shown.append(("open", first_step))

    def write(self, metrics, step):
        self.shown.append((step, dict(metrics)))

    def close(self, state):
        self.shown.append(("close", state))


def logger(tmp_path, *mirrors: Mirror) -> RunLogger:
    return RunLogger(Run({"run": "fit", "choices": {"model": "m", "data": "d"}, "seed": 0}, tmp_path), mirrors)


class TestTheLog:
    def test_it_keeps_every_bit_of_a_figure(self, tmp_path):
        values = {"a": 0.1 + 0.2, "b": 1e-300, "c": 2**53 + 1.0, "d": 1 / 3}
        logger(tmp_path).log_metrics(values, step=4)
        (line,) = read_log(tmp_path / "metrics.jsonl")
        assert line == {"step": 4} | values

    def test_it_leaves_out_the_epoch_and_empty_lines(self, tmp_path):
        log = logger(tmp_path)
        log.log_metrics({"epoch": 1.0}, step=1)
        log.log_metrics({"epoch": 1.0, "a": 1.0}, step=2)
        assert read_log(log.path) == [{"step": 2, "a": 1.0}]

    def test_what_came_after_a_checkpoint_is_forgotten(self, tmp_path):
        log = logger(tmp_path)
        log.log_metrics({"a": 1.0}, step=1)
        offset = log.offset
        log.log_metrics({"a": 2.0}, step=2)
        log.rewind(offset)
        log.log_metrics({"a": 3.0}, step=2)
        assert [line["a"] for line in read_log(log.path)] == [1.0, 3.0]
        log.rewind(10**6)
        assert len(read_log(log.path)) == 2

    def test_a_line_that_was_cut_short_is_left_out(self, tmp_path):
        log = logger(tmp_path)
        log.log_metrics({"a": 1.0}, step=1)
        with open(log.path, "a") as file:
            file.write('{"step": 2, "a"')
        assert read_log(log.path) == [{"step": 1, "a": 1.0}]

    def test_figures_that_are_no_numbers_stay_readable(self, tmp_path):
        log = logger(tmp_path)
        log.log_metrics({"a": float("nan"), "b": float("inf")}, step=1)
        (line,) = read_log(log.path)
        assert line["a"] != line["a"]
        assert line["b"] == float("inf")


class TestMirrors:
    def test_they_are_shown_every_line(self, tmp_path):
        mirror = Recording()
        log = logger(tmp_path, mirror)
        for step in range(3, 40):
            log.log_metrics({"a": step / 7}, step=step)
        log.end("done")
        assert mirror.shown == [("open", 3), *((step, {"a": step / 7}) for step in range(3, 40)), ("close", "done")]

    @pytest.mark.parametrize("call", ["open", "write", "close"])
    def test_one_that_raises_is_switched_off_and_the_others_go_on(self, call, tmp_path, capfd):
        broken, good = Broken(call), Recording()
        log = logger(tmp_path, broken, good)
        for step in range(5):
            log.log_metrics({"a": float(step)}, step=step)
        log.end("done")
        out = capfd.readouterr().out
        assert "tracker Broken is switched off: the tracker's server is on fire" in out
        assert "details" not in out
        assert broken.calls.count(call) == 1
        assert broken.calls[-1] == call, "it is not called again"
        assert len(good.shown) == 7
        assert len(read_log(log.path)) == 5

    @pytest.mark.parametrize("call", ["open", "write", "close"])
    def test_one_that_hangs_delays_nothing_but_the_end_a_little(self, call, tmp_path, monkeypatch):
        monkeypatch.setattr(tracking, "CLOSING_SECONDS", 0.3)
        log = logger(tmp_path, Hanging(call))
        started = time.monotonic()
        for step in range(1000):
            log.log_metrics({"a": float(step)}, step=step)
        assert time.monotonic() - started < 50, "it hangs for 100"
        with pytest.warns(UserWarning, match=r"metrics\.jsonl is complete"):
            log.end("done")
        assert time.monotonic() - started < 50, "it hangs for 100"
        assert len(read_log(log.path)) == 1000

    def test_a_run_with_a_broken_mirror_gives_its_figures(self, tmp_path, capfd, monkeypatch):
        monkeypatch.setenv("COMPENDIUM_ALLOW", "tests")
        broken = ("++logger.broken._target_=tests.compendium.test_tracking.Broken", "++logger.broken.call=open")
        outcome = here(capfd, *CLASSIFIER, f"runs={tmp_path}", "logger=none", *broken)
        assert outcome.code == 0, outcome.err
        assert "tracker Broken is switched off" in outcome.out
        assert "test/accuracy" in outcome.out

    def test_a_tracker_that_is_missing_is_one_line_with_the_command(self, tmp_path, capfd, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
        outcome = here(capfd, *CLASSIFIER, f"runs={tmp_path}", "logger=tensorboard")
        assert outcome.code == 2
        assert "pip install -e '.[tensorboard]'" in outcome.err


def test_csv_holds_what_the_log_holds(tmp_path, capfd):
    assert here(capfd, *CLASSIFIER, f"runs={tmp_path}", "logger=csv").code == 0
    folder = only_folder(tmp_path)
    logged = {
        (int(line["step"]), name): value
        for line in read_log(folder / "metrics.jsonl")
        for name, value in line.items()
        if name != "step"
    }
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = {
        (int(row["step"]), name): float(value)
        for row in rows
        for name, value in row.items()
        if name != "step" and value
    }
    assert shown == logged
    assert len({row["step"] for row in rows}) == len(rows)


def test_csv_is_written_from_the_log_while_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(CSV, "SECONDS", 0.0)
    log = logger(tmp_path, CSV())
    log.log_metrics({"a": 0.5}, step=1)
    for _ in range(200):
        if (tmp_path / "metrics.csv").exists():
            break
        time.sleep(0.01)
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,a", "1,0.5"]
    log.end("done")


def test_tensorboard_reads_what_the_log_holds(tmp_path, capfd):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert here(capfd, *CLASSIFIER, f"runs={tmp_path}", "logger=tensorboard").code == 0
    folder = only_folder(tmp_path)
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    for line in read_log(folder / "metrics.jsonl"):
        for name in line.keys() - {"step"}:
            at = {event.step: event.value for event in events.Scalars(name)}
            assert at[line["step"]] == pytest.approx(line[name], rel=1e-6), name


class FakeWandB:
    """Stands for the package: keeps what it is asked for."""

    def __init__(self) -> None:
        self.asked: list = []

    def Settings(self, **settings) -> dict:
        return settings

    def init(self, **arguments):
        self.asked.append(arguments)
        return self

    def define_metric(self, *names, **options) -> None:
        pass

    def log(self, metrics) -> None:
        self.asked.append(metrics)

    def mark_preempting(self) -> None:
        self.asked.append("preempting")

    def finish(self, exit_code=0, **options) -> None:
        self.asked.append(exit_code)


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandB()
    monkeypatch.setitem(__import__("sys").modules, "wandb", fake)
    return fake


class TestWandB:
    def test_it_is_told_what_the_run_is(self, wandb, tmp_path, capfd):
        assert here(capfd, *CLASSIFIER, f"runs={tmp_path}", "logger=wandb", "seed=4").code == 0
        asked = next(call for call in wandb.asked if isinstance(call, dict) and "project" in call)
        assert asked["name"] == "supervised/classifier/wine/4"
        assert asked["group"] == "supervised/classifier/wine"
        assert asked["mode"] == "offline"
        assert asked["project"] == "compendium"
        assert asked["config"]["seed"] == 4
        assert asked["dir"] == str(only_folder(tmp_path))
        assert wandb.asked[-1] == 0, "a run that is done exits with 0"

    def test_it_is_shown_what_the_log_holds(self, wandb, tmp_path, capfd):
        here(capfd, *CLASSIFIER, f"runs={tmp_path}", "logger=wandb")
        shown = [call for call in wandb.asked if isinstance(call, dict) and "trainer/step" in call]
        logged = read_log(only_folder(tmp_path) / "metrics.jsonl")
        assert [{("step" if k == "trainer/step" else k): v for k, v in call.items()} for call in shown] == logged

    def test_a_continued_run_is_the_same_run_there(self, wandb, tmp_path):
        for _ in range(2):
            log = logger(tmp_path, tracking.WandB())
            log.log_metrics({"a": 1.0}, step=1)
            log.end("preempted")
        opened = [call for call in wandb.asked if isinstance(call, dict) and "project" in call]
        assert [call["id"] for call in opened] == 2 * [(tmp_path / "wandb-id").read_text().strip()]
        assert re.fullmatch(r"\w{6,}", opened[0]["id"])
        assert {call["resume"] for call in opened} == {"allow"}
        assert wandb.asked.count("preempting") == 2

    @pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 1), ("preempted", 1)])
    def test_it_is_told_how_the_run_ended(self, wandb, state, code, tmp_path):
        log = logger(tmp_path, tracking.WandB())
        log.log_metrics({"a": 1.0}, step=1)
        log.end(state)
        assert wandb.asked[-1] == code

    def test_a_config_that_holds_a_secret_is_not_uploaded(self, wandb, tmp_path):
        config = {"run": "fit", "choices": {"model": "m", "data": "d"}, "seed": 0, "data": {"token": "s3cret"}}
        log = RunLogger(Run(config, tmp_path), [tracking.WandB()])
        log.log_metrics({"a": 1.0}, step=1)
        log.end("done")
        assert "s3cret" not in str(wandb.asked)

    def test_the_real_one_offline_holds_no_secret(self, tmp_path):
        """One run with the real package: its folder, its id, and no planted secret in any file."""
        planted = {"WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567", "HF_TOKEN": "hf_" + "q" * 34}
        outcome = apart(*CLASSIFIER, f"runs={tmp_path}", "logger=wandb", **planted)
        assert outcome.code == 0, outcome.err
        folder = only_folder(tmp_path)
        (offline,) = glob.glob(f"{folder}/wandb/offline-run-*")
        assert offline.endswith((folder / "wandb-id").read_text().strip())
        assert glob.glob(f"{offline}/*.wandb")
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                for secret in planted.values():
                    assert secret.encode() not in content, path
        assert "switched off" not in outcome.out + outcome.err


def test_every_logger_config_names_a_mirror():
    import yaml

    from compendium.config import locate

    for path in (CONF / "logger").glob("*.yaml"):
        for node in (yaml.safe_load(path.read_text()) or {}).values():
            if isinstance(node, dict):
                assert issubclass(locate(node["_target_"]), Mirror)


def test_a_later_test_leaves_no_line_in_the_log(tmp_path, capfd):
    here(capfd, *CLASSIFIER, f"runs={tmp_path}", "logger=csv")
    folder = only_folder(tmp_path)
    before = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "metrics.csv")}
    assert here(capfd, *CLASSIFIER, f"runs={tmp_path}", "logger=csv", "run=test").code == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
