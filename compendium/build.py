"""From a frozen config to the parts of a run: data, method, trainer, logger."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

from compendium.config import instantiate, locate
from compendium.errors import UserError
from compendium.interruption import started_by_srun
from compendium.run import Run

STAGES = ("fit", "test", "validate", "predict")


@dataclass
class Parts:
    """What a run is made of."""

    method: Any
    data: Any
    trainer: Any
    logger: Any


def build(run: Run) -> Parts:
    """Data, method and trainer from the frozen config.

    Raises:
        UserError: a pair that does not fit, an argument out of range, a package that is missing.
    """
    import torch

    from compendium.seeding import reseed
    from datamodules.fit import check_pair

    # Where opt_einsum happens to be installed torch takes products of three tensors in another order: a run's last
    # digits shall not depend on what else is.
    torch.backends.opt_einsum.enabled = False  # type: ignore[assignment]
    config = run.config
    if config["run"] not in STAGES:
        raise UserError(f"run={config['run']} is unknown.", f"there are: {', '.join(STAGES)}")
    kind = locate(config["model"]["_target_"], "model")
    presentation = locate(config["datamodule"]["_target_"], "datamodule")
    check_pair(kind.batch_type, presentation.batch_type, config["choices"])
    data = instantiate(config["datamodule"], where="datamodule", source=config["data"])
    spec = data.spec
    reseed(config["seed"], "init")
    parts = {name: config[name] or None for name in ("net", "optimizer", "schedule")}
    method = instantiate(config["model"], where="model", spec=spec, **parts)
    logger = build_logger(run)
    return Parts(method, data, build_trainer(run, method, logger), logger)


def build_logger(run: Run) -> Any:
    from compendium.tracking import RunLogger

    nodes = (run.config["logger"] or {}) if not rank() else {}
    mirrors = [instantiate(node, where=f"logger.{name}") for name, node in nodes.items() if node]
    return RunLogger(run, mirrors)


def build_trainer(run: Run, method: Any, logger: Any) -> Any:
    from lightning import Trainer
    from lightning.fabric.utilities.exceptions import MisconfigurationException

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
    check_arguments(Trainer, options, "trainer")
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
    except (ValueError, TypeError, RuntimeError, ModuleNotFoundError, MisconfigurationException) as error:
        raise UserError(f"trainer: {str(error).strip().splitlines()[0]}", "see conf/trainer/") from error


def rank() -> int:
    """This process's number among those of the run, before Lightning knows it."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK") if started_by_srun() else ("RANK", "LOCAL_RANK")
    for name in names:
        if os.environ.get(name):
            return int(os.environ[name])
    return 0
