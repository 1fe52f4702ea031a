"""Strategies and cluster environments, where Lightning's defaults do not fit every method."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from compendium.errors import UserError
from compendium.interruption import started_by_srun, tasks_per_node

DDP: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp_find_unused_parameters_true": {"find_unused_parameters": True},
}


class Ranks(DDPStrategy):
    """DDP that also carries methods without a trained parameter, which solve instead of descending."""

    def configure_ddp(self) -> None:
        if any(parameter.requires_grad for parameter in self.model.parameters()):  # type: ignore[union-attr]
            super().configure_ddp()


def strategy(name: Any, method: Any) -> Any:
    """A strategy by its name in the config.

    Raises:
        UserError: a sharded strategy for a method that solves.
    """
    if name in DDP:
        return Ranks(**DDP[name])
    if isinstance(name, str) and name.startswith("fsdp") and not method.automatic_optimization:
        what = f"{type(method).__name__} optimizes by itself, which sharding does not carry."
        raise UserError(what, "use trainer=ddp")
    return name


class Slurm(SLURMEnvironment):
    """SLURM as the launcher of the processes; its signals are `compendium.interruption`'s alone."""

    def __init__(self) -> None:
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", tasks_per_node())  # `srun -n` leaves it out
        super().__init__(auto_requeue=False)

    @property
    def main_address(self) -> str:
        """The first node's address as SLURM knows it; node names need not resolve."""
        if "MASTER_ADDR" not in os.environ:
            names = os.environ.get("SLURM_JOB_NODELIST", os.environ.get("SLURM_NODELIST", "127.0.0.1"))
            first = self.resolve_root_node_address(names)
            shown = subprocess.run(
                ["scontrol", "show", "node", first, "-o"], capture_output=True, text=True, check=False
            )
            fields = dict(field.partition("=")[::2] for field in shown.stdout.split())
            os.environ["MASTER_ADDR"] = fields.get("NodeAddr", first)
        return os.environ["MASTER_ADDR"]


def environment() -> Any:
    """Who starts the processes inside of a SLURM job: `srun`, or Lightning where the job has one; None elsewhere."""
    if started_by_srun():
        return Slurm()
    alone = "SLURM_NTASKS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ
    return LightningEnvironment() if alone else None
