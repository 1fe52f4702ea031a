"""A run on disk: one folder per config and seed, nothing half-written, nothing lost."""

from __future__ import annotations

import fcntl
import json
import re

import numpy as np
import pytest
import torch

from compendium.build import build
from compendium.compose import compose
from compendium.errors import UserError
from compendium.run import STATES, Run, identity, make_folder, read_json, read_log, replacing, write_json
from modules.method import Method
from tests.command import here
from tests.compendium.quick import CLASSIFIER, only_folder
from tests.datamodules.fakes import source_of


def folder_of(*arguments: str):
    return Run.plan(compose([*CLASSIFIER, *arguments])).folder


class TestTheFolder:
    """It is a function of the resolved config and the seed."""

    @pytest.mark.parametrize(
        "argument",
        [
            "logger=wandb",
            "logger=tensorboard",
            "debug=true",
            "dry=true",
            "run=test",
            "resume=never",
            "ckpt=best",
            "trainer.enable_progress_bar=false",
            "trainer.profiler=simple",
        ],
    )
    def test_it_does_not_depend_on_how_a_run_is_made_or_watched(self, argument):
        assert folder_of(argument) == folder_of()

    @pytest.mark.parametrize(
        "argument",
        [
            "data=breast_cancer",
            "net.width=9",
            "optimizer.lr=0.002",
            "optimizer=adam",
            "schedule=constant",
            "model.label_smoothing=0.1",
            "datamodule.batch_size=17",
            "trainer.max_epochs=3",
            "trainer.precision=bf16-mixed",
            "callbacks.checkpoint.monitor=validate/nll",
            "++callbacks.ema._target_=callbacks.ema.EMA",
        ],
    )
    def test_it_depends_on_all_that_can_change_the_outcome(self, argument):
        assert folder_of(argument) != folder_of()

    def test_seeds_share_the_name_but_for_its_end(self):
        one, two = folder_of("seed=1"), folder_of("seed=2")
        assert one.parent == two.parent
        assert one.name.removesuffix("-s1") == two.name.removesuffix("-s2")
        assert one.name.endswith("-s1")

    def test_it_lies_below_model_and_data(self, tmp_path):
        folder = folder_of(f"runs={tmp_path}")
        assert folder.relative_to(tmp_path).parts[:-1] == ("supervised", "classifier", "wine")
        assert re.fullmatch(r"[0-9a-f]{8}-s0", folder.name)

    def test_the_order_of_the_arguments_does_not_matter(self):
        assert folder_of("optimizer.lr=0.1", "net.depth=2") == folder_of("net.depth=2", "optimizer.lr=0.1")

    def test_a_value_that_equals_the_default_changes_nothing(self):
        assert folder_of("optimizer.lr=0.001", "net=mlp") == folder_of()

    def test_a_new_default_evaluation_makes_no_new_run_and_a_changed_one_does(self):
        config = Run.plan(compose([])).config
        callbacks = config["callbacks"]
        fewer = {name: node for name, node in callbacks["evaluation"].items() if name != "samples"}
        assert identity(config | {"callbacks": callbacks | {"evaluation": fewer}}) == identity(config)
        changes = (
            ["callbacks.evaluation.samples.n=5"],
            ["callbacks.evaluation.samples=null"],
            ["callbacks/evaluation=samples"],
            ["callbacks=bare"],
            ["callbacks.evaluation=null"],
        )
        assert len({identity(Run.plan(compose(change)).config) for change in ([], *changes)}) == 6

    def test_identity_ignores_the_order_of_keys(self):
        config = Run.plan(compose(list(CLASSIFIER))).config
        turned = dict(reversed(config.items()))
        assert identity(turned) == identity(config)


class TestTheSameCommandAgain:
    def test_a_finished_run_says_so_and_trains_nothing(self, tmp_path, capfd):
        first = here(capfd, *CLASSIFIER, f"runs={tmp_path}")
        assert first.code == 0, first.err
        folder = only_folder(tmp_path)
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        again = here(capfd, *CLASSIFIER, f"runs={tmp_path}")
        assert again.code == 0
        assert "done already" in again.out
        assert "test/accuracy" in again.out
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before

    def test_starting_afresh_sets_aside_and_loses_nothing(self, tmp_path, capfd):
        arguments = (*CLASSIFIER, f"runs={tmp_path}")
        here(capfd, *arguments)
        folder = only_folder(tmp_path)
        old = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for number in (1, 2):
            assert here(capfd, *arguments, "resume=never").code == 0
            aside = folder.with_name(f"{folder.name}.old-{number}")
            kept = {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file()}
            assert kept.keys() == old.keys()
            if number == 1:
                assert kept == old
        assert (
            read_json(folder / "result.json")["figures"]
            == json.loads(old[next(k for k in old if k.name == "result.json")])["figures"]
        )

    def test_two_processes_at_one_run_are_refused_in_one_line(self, tmp_path, capfd):
        arguments = (*CLASSIFIER, f"runs={tmp_path}")
        run = Run.plan(compose(list(arguments)))
        make_folder(run.folder)
        with open(run.folder / "lock", "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            refused = here(capfd, *arguments)
            assert refused.code == 2
            assert "is being worked on by another process" in refused.err
            assert len(refused.err.strip().splitlines()) == 2
            assert not (run.folder / "metrics.jsonl").exists()
        assert here(capfd, *arguments).code == 0

    def test_a_finished_fit_without_a_result_only_tests_again(self, tmp_path, capfd):
        arguments = (*CLASSIFIER, f"runs={tmp_path}", "logger=none")
        here(capfd, *arguments)
        folder = only_folder(tmp_path)
        kept = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "checkpoints/last.ckpt")}
        figures = read_json(folder / "result.json")["figures"]
        (folder / "result.json").unlink()
        assert here(capfd, *arguments).code == 0
        assert {name: (folder / name).read_bytes() for name in kept} == kept
        assert read_json(folder / "result.json")["figures"] == figures


class TestFiles:
    def test_a_write_that_fails_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.json"
        write_json(path, {"old": 1})

        def half() -> None:
            with replacing(path) as temporary:
                temporary.write_text("half")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            half()
        assert read_json(path) == {"old": 1}
        assert [file.name for file in tmp_path.iterdir()] == ["a.json"]

    def test_values_that_json_cannot_hold_leave_the_old_file(self, tmp_path):
        path = tmp_path / "a.json"
        write_json(path, {"old": 1})
        circle: list = []
        circle.append(circle)
        with pytest.raises(ValueError, match="Circular"):
            write_json(path, circle)
        assert read_json(path) == {"old": 1}
        assert [file.name for file in tmp_path.iterdir()] == ["a.json"]

    def test_a_folder_that_cannot_be_written_to_is_one_line(self, tmp_path):
        with pytest.raises(UserError, match=r"cannot write .*No such file"):
            write_json(tmp_path / "missing" / "a.json", 1)

    @pytest.mark.parametrize("content", ["", "{", "\x00\x01", '{"state": '])
    def test_a_corrupt_file_is_one_line(self, tmp_path, content):
        path = tmp_path / "status.json"
        path.write_text(content)
        with pytest.raises(UserError, match=r"status\.json is corrupt"):
            read_json(path)

    def test_bytes_that_are_no_text_are_one_line(self, tmp_path):
        path = tmp_path / "status.json"
        path.write_bytes(b"\xff\xfe{")
        with pytest.raises(UserError, match=r"status\.json is corrupt"):
            read_json(path)

    @pytest.mark.parametrize("name", ["status.json", "result.json"])
    def test_a_corrupt_file_of_a_run_is_one_screen(self, name, tmp_path, capfd):
        here(capfd, *CLASSIFIER, f"runs={tmp_path}")
        folder = only_folder(tmp_path)
        (folder / name).write_text('{"state": ')
        if name == "status.json":
            (folder / "result.json").unlink()
        outcome = here(capfd, *CLASSIFIER, f"runs={tmp_path}")
        assert outcome.code == 2
        assert f"{name} is corrupt" in outcome.err
        assert "Remove it and run the same command again" in outcome.err
        (folder / name).unlink()
        assert here(capfd, *CLASSIFIER, f"runs={tmp_path}").code == 0

    def test_a_corrupt_frozen_config_is_one_screen(self, tmp_path, capfd):
        (tmp_path / "config.json").write_text("{")
        outcome = here(capfd, "--frozen", tmp_path)
        assert outcome.code == 2
        assert "config.json is corrupt" in outcome.err

    def test_runs_below_a_file_are_one_line(self, tmp_path, capfd):
        (tmp_path / "file").write_text("")
        outcome = here(capfd, *CLASSIFIER, f"runs={tmp_path}/file")
        assert outcome.code == 2
        assert "cannot create" in outcome.err
        assert "runs=FOLDER" in outcome.err


class TestStatus:
    def test_a_run_that_was_not_started_is_pending(self):
        assert Run({"run": "fit"}, Run.plan(compose(list(CLASSIFIER))).folder / "nowhere").status == {
            "state": "pending"
        }

    def test_a_run_says_what_it_is_doing(self, tmp_path):
        run = Run({"run": "fit"}, tmp_path)
        for state in STATES[1:]:
            run.mark(state)
            assert run.status["state"] == state
            assert {"host", "pid", "time", "attempts"} <= run.status.keys()
        run.mark("running")
        assert run.status["attempts"] == 2

    def test_a_later_look_leaves_no_mark(self, tmp_path):
        Run({"run": "test"}, tmp_path).mark("running")
        assert not list(tmp_path.iterdir())

    def test_a_fit_that_fails_says_why(self, tmp_path, capfd):
        arguments = (*CLASSIFIER, f"runs={tmp_path}", "optimizer=sgd", "optimizer.lr=1e30", "callbacks.log.every=1")
        assert here(capfd, *arguments, "trainer.max_epochs=4").code == 2
        run = Run.open(only_folder(tmp_path))
        assert run.status["state"] == "failed"
        assert "not finite at step" in run.status["reason"]

    def test_a_finished_run_is_done_and_says_what_came_out(self, tmp_path, capfd):
        here(capfd, *CLASSIFIER, f"runs={tmp_path}", "seed=3")
        run = Run.open(only_folder(tmp_path))
        assert run.status["state"] == "done"
        result = run.result
        assert result["run"] | {"model": "supervised/classifier", "data": "wine", "seed": 3} == result["run"]
        assert result["figures"].keys() == {"test/accuracy", "test/ece", "test/nll", "test/brier"}
        assert result["versions"]["torch"] == torch.__version__
        assert result["command"].startswith("python train.py model=supervised/classifier data=wine")
        assert 0 < result["seconds"] < 60
        logged = {name: value for line in read_log(run.folder / "metrics.jsonl") for name, value in line.items()}
        assert result["figures"] == {name: logged[name] for name in result["figures"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run that kept its best weights: (its `runs` folder, its arguments)."""
    import train

    runs = tmp_path_factory.mktemp("finished")
    arguments = (
        *CLASSIFIER,
        f"runs={runs}",
        "logger=none",
        "callbacks.checkpoint.monitor=validate/nll",
        "callbacks.checkpoint.mode=min",
    )
    assert train.main(list(arguments)) == 0
    return Run.open(only_folder(runs)), arguments


def shown(out: str) -> dict[str, str]:
    """The figures of the printed table."""
    return dict(re.findall(r"│ (\S+)\s+│\s+(\S+) │", out))


class TestALaterLook:
    def test_a_test_gives_the_figures_of_the_fit(self, finished, capfd):
        run, arguments = finished
        figures = {name: f"{value:.4g}" for name, value in run.result["figures"].items()}
        before = (run.folder / "metrics.jsonl").read_bytes()
        for ckpt in ((), ("ckpt=best",), (f"ckpt={run.checkpoints}/best.ckpt",)):
            outcome = here(capfd, *arguments, "run=test", *ckpt)
            assert outcome.code == 0, outcome.err
            assert shown(outcome.out) == figures
        assert run.status["state"] == "done"
        assert (run.folder / "metrics.jsonl").read_bytes() == before

    def test_last_and_best_are_told_apart(self, finished, capfd, tmp_path):
        """With a rate of 0 for the last weights they are the same; here best is swapped for other weights."""
        run, arguments = finished
        moved = tmp_path / "other.ckpt"
        checkpoint = torch.load(run.checkpoints / "last.ckpt", weights_only=True)
        for value in checkpoint["state_dict"].values():
            value.zero_()
        torch.save(checkpoint, moved)
        outcome = here(capfd, *arguments, "run=test", f"ckpt={moved}")
        assert float(shown(outcome.out)["test/nll"]) == pytest.approx(np.log(3), abs=1e-3)  # all classes alike
        last = here(capfd, *arguments, "run=test", "ckpt=last")
        assert float(shown(last.out)["test/nll"]) < np.log(3)

    def test_validation_gives_the_figures_of_the_last_validation(self, finished, capfd):
        run, arguments = finished
        lines = [line for line in read_log(run.folder / "metrics.jsonl") if "validate/nll" in line]
        best = min(lines, key=lambda line: line["validate/nll"])
        outcome = here(capfd, *arguments, "run=validate")
        assert shown(outcome.out) == {name: f"{value:.4g}" for name, value in best.items() if name != "step"}

    def test_the_fit_is_not_begun_again_by_a_test(self, finished, capfd):
        run, arguments = finished
        config = (run.folder / "config.json").read_bytes()
        here(capfd, *arguments, "run=test")
        assert (run.folder / "config.json").read_bytes() == config
        assert "done already" in here(capfd, *arguments).out

    def test_best_weights_are_no_training_state(self, finished, capfd, tmp_path):
        run, arguments = finished
        more = (f"resume={run.checkpoints}/best.ckpt", f"runs={tmp_path}")
        outcome = here(capfd, *arguments, *more)
        assert outcome.code == 2
        assert "no training state to continue from" in outcome.err

    def test_predictions_are_those_of_the_checkpoint_in_plain_python(self, finished, capfd):
        run, arguments = finished
        outcome = here(capfd, *arguments, "run=predict")
        assert outcome.code == 0, outcome.err
        assert "predictions of 36 records" in outcome.out
        predicted = np.load(run.folder / "predictions.npz")
        method = Method.load_from_checkpoint(run.checkpoints / "best.ckpt")
        records = source_of("wine").load()
        x, y = records.columns["x"], records.columns["y"]
        assert len(set(predicted["row"])) == 36
        assert (predicted["target"] == y[predicted["row"]].numpy()).all()
        train = torch.tensor(sorted(set(range(len(x))) - set(predicted["row"].tolist())))
        from compendium.build import build

        data = build(run).data  # standardised by the training rows, which the checkpoint does not hold
        assert not set(data.rows["train"].tolist()) & set(predicted["row"].tolist())
        assert set(data.rows["train"].tolist()) <= set(train.tolist())
        fitted = x[data.rows["train"]]
        z = (x[predicted["row"]] - fitted.mean(0)) / fitted.std(0, correction=0)
        with torch.no_grad():
            probability = method.predict_log_proba(z).exp()
        np.testing.assert_allclose(predicted["probability"], probability.numpy(), atol=2e-4)
        assert (predicted["class"] == predicted["probability"].argmax(1)).all()
        accuracy = (predicted["class"] == predicted["target"]).mean()
        assert accuracy == pytest.approx(run.result["figures"]["test/accuracy"], abs=1e-6)


class TestCitations:
    def test_they_are_the_papers_of_the_method_and_no_other(self, tmp_path, capfd):
        outcome = here(
            capfd, "model=continual/g_acil", "model.features=8", "trainer=cpu", "callbacks=bare", f"runs={tmp_path}"
        )
        assert outcome.code == 0, outcome.err
        text = (only_folder(tmp_path) / "citations.bib").read_text()
        assert re.findall(r"^@\w+\{([^,]+),", text, re.M) == ["zhuang2024gacil"]
        assert text.rstrip().endswith("}")

    def test_a_baseline_cites_what_its_schedule_and_optimizer_stand_on(self, tmp_path, capfd):
        here(capfd, *CLASSIFIER, f"runs={tmp_path}", "schedule=constant")
        text = (only_folder(tmp_path) / "citations.bib").read_text()
        assert "zhuang2024gacil" not in text


def test_products_are_taken_in_the_order_of_torch_alone(tmp_path, monkeypatch):
    """Where opt_einsum is installed torch would ask it, and last digits would be others."""
    monkeypatch.setattr(torch.backends.opt_einsum, "enabled", True)
    run = Run.plan(compose([*CLASSIFIER, f"runs={tmp_path}"]))
    run.freeze()
    build(run)
    assert not torch.backends.opt_einsum.enabled
