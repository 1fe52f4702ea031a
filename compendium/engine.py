"""One run from its frozen config to its result: build the parts, fit, test, write down what came out."""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compendium import __version__, citations
from compendium.build import Parts, build, rank
from compendium.dry import check_only
from compendium.errors import UserError, report
from compendium.interruption import Interrupted, interruption, requeue, requeued, slurm_job, srun_step, started_by_srun
from compendium.protocol import code, protocol
from compendium.restore import checked_checkpoint, load_best, load_weights, resumable, start_from
from compendium.run import Run, short, write_json


def execute(run: Run) -> int:
    """Do the run, or continue it, or say that it is done.

    Returns:
        Exit code: 0 done, 2 a mistake, 128 + N stopped by signal N.
    """
    if rank():
        return follow(run)
    if run.config["dry"]:
        return check_only(run)
    if not requeued():  # a job that SLURM starts again goes on
        run = run.afresh()
    result = run.result
    if result is not None and run.trains and run.config["resume"] == "auto":
        show(run, result["figures"])
        print(f"done already, in {short(run.folder)}; resume=never starts again, seed= starts another")
        return 0
    fresh = not run.folder.exists()
    with run.locked():
        run.freeze()
        return guarded(run, fresh)


def follow(run: Run) -> int:
    """A process that the first one or SLURM started: the same work, without a word."""
    if not started_by_srun():
        end_with_parent()
    try:
        work(run)
    except Interrupted:
        return 0
    except UserError as error:
        print(f"[rank {rank()}]", file=sys.stderr)
        return report(error)
    return 0


def guarded(run: Run, fresh: bool) -> int:
    """Do the work and write down how it ended; a mistake before the first step leaves no new folder."""
    run.mark("running", job=slurm_job())
    if slurm_job():
        ours = "SIGUSR1 and SIGTERM are handled by Compendium alone (save, requeue, stop)"
        print(f"SLURM job {slurm_job()}, {srun_step()}: {ours}")
    started, asked = time.monotonic(), run.config.get("command") or command()  # `launch` replaces it
    try:
        figures, more = work(run)
    except Interrupted as stop:
        run.mark("preempted", signal=signal.Signals(stop.signum).name)
        how = requeue() if stop.signum != signal.SIGINT else "the same command continues"
        print(f"stopped by {signal.Signals(stop.signum).name} with everything saved; {how}", file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        run.mark("preempted", signal="SIGINT")
        print("stopped; the same command continues from the last checkpoint", file=sys.stderr)
        return 130
    except UserError as error:
        if run.config["debug"]:
            traceback.print_exc()
        if fresh and not run.begun:
            run.forget()
        else:
            run.mark("failed", reason=error.what)
        return report(error)
    except BaseException as error:
        (run.folder / "traceback.txt").write_text(traceback.format_exc())
        run.mark("failed", reason=f"{type(error).__name__}: {error}")
        raise
    if run.trains:
        citations.write(run, more["evaluations"])
        write_json(run.folder / "result.json", summary(run, figures, time.monotonic() - started, asked) | more)
    run.mark("done")
    show(run, figures)
    return 0


def work(run: Run) -> tuple[dict[str, float], dict[str, Any]]:
    """Build, fit, test; the same on every process.

    Returns:
        The figures of the last stage, and what else a result says of how they came about.
    """
    quiet()
    interruption.install()
    parts = build(run)
    stage = run.config["run"]
    state = "failed"
    more: dict[str, Any] = {}
    try:
        if stage == "fit":
            announce(parts)
            more["training"] = fit(run, parts)
            figures = evaluate(parts, "test")
            more |= {"protocol": protocol(run.config, parts.data), "code": code(), "evaluations": evaluated(parts)}
        elif stage == "predict":
            load_weights(run, parts)
            parts.trainer.predict(parts.method, parts.data, return_predictions=False)
            figures = {}
        else:
            load_weights(run, parts)
            figures = evaluate(parts, stage)
        state = "done"
        return figures, more
    except Interrupted:
        state = "preempted"
        raise
    finally:
        parts.logger.end(state)


def fit(run: Run, parts: Parts) -> dict[str, float]:
    """Train from where the run stands.

    Returns:
        `steps` of the whole training, and `seconds_per_step` of the part that was done now, validation included.
    """
    last = resumable(run)
    checkpoint = checked_checkpoint(parts.method, last) if last else None
    if checkpoint and checkpoint["finished"]:
        parts.method.restore(checkpoint["state_dict"], last)
        parts.trainer.fit_loop.load_state_dict(checkpoint["loops"]["fit_loop"])  # the test is logged at the last step
        parts.logger.rewind(
            next((state["offset"] for state in checkpoint["callbacks"].values() if "offset" in state), 0)
        )
        for one in evaluations(parts):  # what they have seen of the training
            if one.state_key in checkpoint["callbacks"]:
                one.load_state_dict(checkpoint["callbacks"][one.state_key])
        load_best(run, parts)
        return {"steps": checkpoint["global_step"]}
    if checkpoint is None:
        parts.logger.rewind(0)
        start_from(run, parts)
    if run.config["trainer"]["max_epochs"] == 0:
        return {"steps": 0}
    launch(run)
    first, started = checkpoint["global_step"] if checkpoint else 0, time.monotonic()
    parts.trainer.fit(parts.method, parts.data, ckpt_path=last, weights_only=True)
    seconds, steps = time.monotonic() - started, parts.trainer.global_step
    load_best(run, parts)
    return {"steps": steps} | ({"seconds_per_step": seconds / (steps - first)} if steps > first else {})


def evaluate(parts: Parts, stage: str) -> dict[str, float]:
    """One pass over the test or validation split.

    Returns:
        Its figures in full precision.
    """
    getattr(parts.trainer, stage)(parts.method, parts.data, verbose=False)
    return {
        name: value for one in evaluations(parts) for name, value in one.figures.items() if name.startswith(f"{stage}/")
    }


def evaluations(parts: Parts) -> list[Any]:
    """The evaluation callbacks, those that do not apply included."""
    from callbacks.evaluation.base import Evaluation

    return [callback for callback in parts.trainer.callbacks if isinstance(callback, Evaluation)]


def evaluated(parts: Parts) -> list[str]:
    """Names of the evaluations that apply."""
    return [one.name for one in evaluations(parts) if one.active]


def announce(parts: Parts) -> None:
    """One line on what will be evaluated and what will not, by reason."""
    if rank():
        return
    reasons = {cb.name: cb.why_not_on(parts.method, parts.data) for cb in evaluations(parts)}
    active = [name for name, reason in reasons.items() if reason is None]
    passive: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if reason is not None:
            passive.setdefault(reason, []).append(name)
    rest = [f"not {', '.join(names)} ({reason})" for reason, names in passive.items()]
    print("; ".join([f"evaluations: {', '.join(active) or 'none'}", *rest]))


def summary(run: Run, figures: Mapping[str, float], seconds: float, asked: str) -> dict[str, Any]:
    """What is kept of a finished run."""
    import lightning
    import torch

    return {
        "run": run.config["choices"] | {"seed": run.config["seed"]},
        "figures": dict(figures),
        "seconds": round(seconds, 3),
        "command": asked,
        "versions": {
            "compendium": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        },
    }


def command() -> str:
    """The command line, as typed."""
    import shlex

    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def show(run: Run, figures: Mapping[str, float]) -> None:
    """A small table of figures: of those of single degrees (NAME_3) only the one of all (NAME), where there is one."""
    from rich.console import Console
    from rich.table import Table

    if figures:
        table = Table(title=run.title, title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for name, value in figures.items():
            of_all, _, degree = name.rpartition("_")
            if not (len(degree) == 1 and degree.isdigit() and of_all in figures):
                table.add_row(name, f"{value:.4g}")
        Console().print(table)
    pictures = sorted(short(path) for path in run.folder.glob("*.png"))
    print("\n".join([f"folder   {short(run.folder)}", *(f"picture  {path}" for path in pictures)]))


def launch(run: Run) -> None:
    """Let the processes that Lightning starts begin from the frozen config, never from the command line."""
    from compendium.config import ROOT

    if not rank():
        sys.argv = [str(ROOT / "train.py"), "--frozen", str(run.frozen)]


def end_with_parent() -> None:
    """A process that was started by another ends with it, also when that one was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def quiet() -> None:
    """Drop the chatter of libraries that says nothing about this run."""
    import logging

    import lightning  # noqa: F401 (it sets its loggers' levels when it is imported)

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*`srun` command is available.*",
        ".*configure_optimizers` returned `None`.*",
        ".*smaller than the logging interval.*",
        ".*GPU available but not used.*",
        ".*isinstance.treespec, LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message)
