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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compendium import __version__, citations
from compendium.config import instantiate, locate
from compendium.errors import UserError, UserErrors, report
from compendium.interruption import Interrupted, interruption, requeue, requeued, slurm_job, srun_step, started_by_srun
from compendium.run import Run, short, write_json

STAGES = ("fit", "test", "validate", "predict")


@dataclass
class Parts:
    """What a run is made of."""

    method: Any
    data: Any
    trainer: Any
    logger: Any


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
    if result is not None and run.config["run"] == "fit" and run.config["resume"] == "auto":
        show(run, result["figures"])
        print(f"done already, in {short(run.folder)}; resume=never starts again, seed= starts another")
        return 0
    fresh = not (run.folder / "config.json").exists()
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
    """Do the work and write down how it ended, whatever happens. A mistake before the first step leaves no new folder."""
    run.mark("running", job=slurm_job())
    if slurm_job():
        ours = "SIGUSR1 and SIGTERM are handled by Compendium alone (save, requeue, stop)"
        print(f"SLURM job {slurm_job()}, {srun_step()}: {ours}")
    started, asked = time.monotonic(), run.config.get("command") or command()  # `launch` replaces it
    try:
        figures = work(run)
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
    if run.config["run"] == "fit":
        citations.write(run)
        write_json(run.folder / "result.json", summary(run, figures, time.monotonic() - started, asked))
        run.mark("done")
    show(run, figures)
    return 0


def work(run: Run) -> dict[str, float]:
    """Build, fit, test; the same on every process.

    Returns:
        The figures of the last stage.
    """
    quiet()
    interruption.install()
    parts = build(run)
    stage = run.config["run"]
    state = "failed"
    try:
        if stage == "fit":
            announce(parts)
            fit(run, parts)
            figures = evaluate(parts, "test")
        elif stage == "predict":
            load_weights(run, parts)
            parts.trainer.predict(parts.method, parts.data, return_predictions=False)
            figures = {}
        else:
            load_weights(run, parts)
            figures = evaluate(parts, stage)
        state = "done"
        return figures
    except Interrupted:
        state = "preempted"
        raise
    finally:
        parts.logger.end(state)


def build(run: Run) -> Parts:
    """Data, method and trainer from the frozen config.

    Raises:
        UserError: a pair that does not fit, an argument out of range, a package that is missing.
    """
    from compendium.seeding import reseed

    config = run.config
    if config["run"] not in STAGES:
        raise UserError(f"run={config['run']} is unknown.", f"there are: {', '.join(STAGES)}")
    kind = locate(config["model"]["_target_"], "model")
    check_pair(kind, locate(config["datamodule"]["_target_"], "datamodule"), config["choices"])
    data = instantiate(config["datamodule"], where="datamodule", source=config["data"])
    spec = data.spec
    reseed(config["seed"], "init")
    parts = {name: config[name] or None for name in ("net", "optimizer", "schedule")}
    method = instantiate(config["model"], where="model", spec=spec, **parts)
    logger = build_logger(run)
    return Parts(method, data, build_trainer(run, method, logger), logger)


def check_pair(kind: type, data: type, choices: Mapping[str, str]) -> None:
    """Refuse a presentation whose batches the method cannot learn from."""
    from compendium.config import choices as known
    from datamodules.batches import accepts

    wanted, given = kind.batch_type, data.batch_type  # type: ignore[attr-defined]
    if accepts(wanted, given):
        return
    fitting = [name for name in known("datamodule") if accepts(wanted, presentation(name).batch_type)]
    raise UserError(
        f"model={choices['model']} learns from {wanted.__name__} batches, but datamodule={choices['datamodule']} "
        f"yields {given.__name__}.",
        f"datamodules that would do: {', '.join(fitting)}",
    )


def presentation(name: str) -> Any:
    """The class behind a `datamodule=` choice."""
    from omegaconf import OmegaConf

    from compendium.config import choices

    return locate(str(OmegaConf.load(choices("datamodule")[name])["_target_"]), "datamodule")


def build_logger(run: Run) -> Any:
    from compendium.tracking import RunLogger

    nodes = (run.config["logger"] or {}) if not rank() else {}
    mirrors = [instantiate(node, where=f"logger.{name}") for name, node in nodes.items() if node]
    return RunLogger(run, mirrors)


def build_trainer(run: Run, method: Any, logger: Any) -> Any:
    from callbacks.checkpoint import AtomicCheckpointIO
    from callbacks.predictions import Predictions
    from callbacks.randomness import Randomness
    from compendium.config import check_arguments
    from compendium.lean import LeanTrainer, NoProfiler, sign, silence
    from compendium.parallel import environment, strategy

    config = run.config
    nodes = {name: node for name, node in config["callbacks"].items() if name != "evaluation"}
    evaluations = config["callbacks"].get("evaluation") or {}
    callbacks: list[Any] = [Randomness(config["seed"])]
    callbacks += [Predictions()] if config["run"] == "predict" else []
    callbacks += [instantiate(node, where=f"callbacks.evaluation.{name}") for name, node in evaluations.items() if node]
    callbacks += [instantiate(node, where=f"callbacks.{name}") for name, node in nodes.items() if node]
    options = dict(config["trainer"])
    if options["enable_progress_bar"] and sys.stdout.isatty() and not rank():
        from callbacks.progress import Progress

        callbacks.append(Progress())
    options["enable_progress_bar"] = False
    options["strategy"] = strategy(options["strategy"], method)
    options["profiler"] = options["profiler"] or NoProfiler()
    check_arguments(LeanTrainer, options, "trainer")
    silence([*callbacks, method])
    sign(method)
    plugins = [AtomicCheckpointIO()] + ([environment()] if environment() else [])
    try:
        return LeanTrainer(
            **options,
            plugins=plugins,
            callbacks=callbacks,
            logger=logger,
            default_root_dir=run.folder,
            enable_checkpointing=True,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
            log_every_n_steps=config["callbacks"]["log"]["every"] if config["callbacks"].get("log") else 50,
        )
    except (ValueError, TypeError, RuntimeError, ModuleNotFoundError) as error:
        raise UserError(f"trainer: {str(error).strip().splitlines()[0]}", "see conf/trainer/") from error


def fit(run: Run, parts: Parts) -> None:
    """Train from where the run stands."""
    last = resumable(run)
    checkpoint = checked_checkpoint(parts.method, last) if last else None
    if checkpoint and checkpoint["finished"]:
        parts.method.restore(checkpoint["state_dict"], last)
        parts.logger.rewind(next((state["offset"] for state in checkpoint["callbacks"].values() if "offset" in state), 0))
        return load_best(run, parts)
    if checkpoint is None:
        parts.logger.rewind(0)
    launch(run)
    parts.trainer.fit(parts.method, parts.data, ckpt_path=last, weights_only=True)
    load_best(run, parts)


def resumable(run: Run) -> Path | None:
    """The checkpoint to continue from."""
    resume = run.config["resume"]
    last = run.checkpoints / "last.ckpt"
    if (resume == "auto" or requeued()) and last.is_file():
        return last
    return None if resume in ("auto", "never") else Path(resume).expanduser()


def checked_checkpoint(method: Any, path: Path, training: bool = True) -> dict[str, Any]:
    """The content of a checkpoint of this method.

    Args:
        method: whose weights are wanted.
        path: the file.
        training: whether the training state is wanted too.

    Raises:
        UserError: not readable, another model's, weights that do not fit, or no training state.
    """
    from modules.method import read_checkpoint

    checkpoint = read_checkpoint(path)
    own = f"{type(method).__module__}.{type(method).__qualname__}"
    other = checkpoint.get("method")
    if other != own:
        raise UserError(f"{short(path)} holds {other or 'no model of this project'}, not {own}.", "Give this model's own.")
    if training and "loops" not in checkpoint:
        raise UserError(
            f"{short(path)} holds weights but no training state to continue from.",
            "Resume from last.ckpt; evaluate this one with run=test ckpt=PATH.",
        )
    method.fits(checkpoint["state_dict"], path)
    return checkpoint


def load_best(run: Run, parts: Parts) -> None:
    """Test with the weights that did best, where a figure is monitored."""
    from modules.method import read_checkpoint

    best = run.checkpoints / "best.ckpt"
    if run.config["callbacks"]["checkpoint"]["monitor"] and best.is_file():
        parts.method.restore(read_checkpoint(best)["state_dict"], best)


def load_weights(run: Run, parts: Parts) -> None:
    """The weights that `ckpt=` asks for, into the method.

    Raises:
        UserError: there are none, or they are another model's.
    """
    named = run.config["ckpt"]
    if named is None:
        named = "best" if (run.checkpoints / "best.ckpt").is_file() else "last"
    path = run.checkpoints / f"{named}.ckpt" if named in ("best", "last") else Path(named).expanduser()
    if named in ("best", "last") and not path.is_file():
        raise UserError(
            f"this run has no {named} checkpoint yet: there is no {short(path)}.",
            "Train it first with run=fit and the same arguments, or give ckpt=PATH.",
        )
    parts.method.restore(checked_checkpoint(parts.method, path, training=False)["state_dict"], path)


def evaluate(parts: Parts, stage: str) -> dict[str, float]:
    """One pass over the test or validation split.

    Returns:
        Its figures in full precision.
    """
    from callbacks.evaluation.base import Evaluation

    getattr(parts.trainer, stage)(parts.method, parts.data, verbose=False)
    evaluations = [callback for callback in parts.trainer.callbacks if isinstance(callback, Evaluation)]
    return {name: value for one in evaluations for name, value in one.figures.items() if name.startswith(f"{stage}/")}


def announce(parts: Parts) -> None:
    """One line on what will be evaluated, and one per evaluation that will not, with the reason."""
    if rank():
        return
    from callbacks.evaluation.base import Evaluation

    evaluations = [callback for callback in parts.trainer.callbacks if isinstance(callback, Evaluation)]
    reasons = {cb.name: cb.why_not(parts.method, parts.data.evaluation_batch_type, parts.data.spec) for cb in evaluations}
    active = [name for name, reason in reasons.items() if reason is None]
    passive = [f"{name} ({reason})" for name, reason in reasons.items() if reason is not None]
    print(f"evaluations: {', '.join(active) or 'none'}" + (f"; not {'; not '.join(passive)}" if passive else ""))


def check_only(run: Run) -> int:
    """`dry=true`: everything that can be checked, and the plan; nothing is written."""
    from compendium.config import check_arguments

    config = run.config
    kind = locate(config["model"]["_target_"], "model")
    data = locate(config["datamodule"]["_target_"], "datamodule")
    errors: list[UserError] = []

    def attempt(check: Any, *arguments: Any, **more: Any) -> Any:
        try:
            return check(*arguments, **more)
        except UserErrors as several:
            errors.extend(several.errors)
        except UserError as error:
            errors.append(error)

    attempt(check_pair, kind, data, config["choices"])
    loaded = attempt(instantiate, config["datamodule"], where="datamodule", source=config["data"])
    spec = attempt(lambda: loaded.spec) if loaded is not None else None
    own = {key: value for key, value in config["model"].items() if not key.startswith("_")}
    attempt(check_arguments, kind, own | dict.fromkeys(("spec", "net", "optimizer", "schedule")), "model")
    if spec is not None:
        attempt(kind.check, spec)
    for group in ("net", "optimizer", "schedule", "logger", "callbacks"):
        for path, node in target_nodes(config[group], group):
            attempt(locate, str(node["_target_"]), path)
    for path, node in target_nodes(config["callbacks"], "callbacks"):
        attempt(instantiate, node, where=path)
    attempt(resumed_method, run)
    if errors:
        return report(UserErrors(errors))
    assert spec is not None
    print(f"{run.title}\n  method   {config['model']['_target_']} learns from {kind.batch_type.__name__}")
    print(f"  data     {spec.name}: {spec.kind} {tuple(spec.shape)}, {dict(spec.sizes)}")
    print(f"  trainer  {config['trainer']['accelerator']}, strategy {config['trainer']['strategy']}, {config['trainer']['precision']}")
    print(f"  folder   {short(run.folder)} ({run.status['state']})")
    return 0


def resumed_method(run: Run) -> None:
    """Refuse a `resume=` or `ckpt=` path that holds no readable checkpoint."""
    from modules.method import read_checkpoint

    for key, words in (("resume", ("auto", "never")), ("ckpt", (None, "last", "best"))):
        if run.config[key] not in words:
            read_checkpoint(Path(run.config[key]).expanduser())


def target_nodes(node: Any, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The outermost nodes with a `_target_` below a node."""
    if not isinstance(node, Mapping):
        return []
    if "_target_" in node:
        return [(path, node)]
    return [found for key, value in node.items() for found in target_nodes(value, f"{path}.{key}")]


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
    """A small table of figures."""
    from rich.console import Console
    from rich.table import Table

    if figures:
        table = Table(title=run.title, title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for name, value in figures.items():
            table.add_row(name, f"{value:.4g}")
        Console().print(table)
    pictures = sorted(short(path) for path in run.folder.glob("*.png"))
    print("\n".join([f"folder   {short(run.folder)}", *(f"picture  {path}" for path in pictures)]))


def rank() -> int:
    """This process's number among those of the run, before Lightning knows it."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK") if started_by_srun() else ("RANK", "LOCAL_RANK")
    for name in names:
        if os.environ.get(name):
            return int(os.environ[name])
    return 0


def launch(run: Run) -> None:
    """Let the processes that Lightning starts begin from the frozen config, never from the command line."""
    from compendium.config import ROOT

    if not rank():
        sys.argv = [str(ROOT / "train.py"), "--frozen", str(run.folder)]


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
    for message in (".*`srun` command is available.*", ".*GPU available but not used.*", ".*isinstance.treespec, LeafSpec.*"):
        warnings.filterwarnings("ignore", message)
