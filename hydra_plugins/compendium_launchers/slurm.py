"""A sweep on a SLURM cluster: each job is a SLURM job, submitted through submitit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compendium.config import ROOT
from compendium.errors import UserError
from compendium.extras import require
from compendium.run import short
from compendium.submitted import work
from compendium.sweep import Job, Ledger
from hydra_plugins.compendium_launchers._base import FolderLauncher


class SlurmLauncher(FolderLauncher):
    """Submits the jobs of a sweep as an array, and returns at once.

    Args:
        partition: SLURM's name of it; None takes the cluster's default.
        time: limit of a job, in minutes.
        nodes: nodes of a job.
        tasks_per_node: processes of a job on each of its nodes.
        cpus_per_task: cores of a process.
        gpus_per_node: devices on each node.
        mem: memory of a node, as sbatch takes it.
        array_parallelism: jobs that may run at the same time.
        signal_seconds: how long before the time limit a job is asked to save.
        extra: further options of sbatch.
    """

    name = "slurm"

    def __init__(
        self,
        partition: str | None = None,
        time: int = 60,
        nodes: int = 1,
        tasks_per_node: int = 1,
        cpus_per_task: int = 1,
        gpus_per_node: int | None = None,
        mem: str | None = None,
        array_parallelism: int = 256,
        signal_seconds: int = 120,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.nodes = nodes
        self.tasks_per_node = tasks_per_node
        self.environment = {"SLURM_JOB_NUM_NODES": str(nodes), "SLURM_NTASKS_PER_NODE": str(tasks_per_node)}
        sizes = {"cpus_per_task": cpus_per_task, "gpus_per_node": gpus_per_node, "mem": mem}
        self.options: dict[str, Any] = {
            name: value for name, value in (sizes | {"partition": partition}).items() if value is not None
        }
        self.options |= {
            "job_name": "compendium",
            "time": time,
            "nodes": nodes,
            "ntasks_per_node": tasks_per_node,
            "array_parallelism": array_parallelism,
            "stderr_to_stdout": True,
            "setup": [
                "export SUBMITIT_PREEMPT_SIGNAL=USR1",  # the one signal; compendium.submitted takes it over
                f'export PYTHONPATH="{ROOT}:$PYTHONPATH"',
                "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}",
                "export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}",  # srun does not take it over since SLURM 22.05
            ],
            "srun_args": ["--open-mode=append"],  # a requeued job goes on in the same file
            "additional_parameters": {"signal": f"USR1@{signal_seconds}", "requeue": True} | dict(extra or {}),
        }

    def check(self, jobs: Sequence[Job]) -> None:
        require("submitit", extra="slurm", needed_by="hydra/launcher=slurm")
        for job in jobs:
            trainer = job.run.config["trainer"]
            asked = (trainer["num_nodes"], trainer["devices"])
            if self.nodes * self.tasks_per_node > 1 and asked != (self.nodes, self.tasks_per_node):
                raise UserError(
                    f"hydra.launcher.nodes={self.nodes} and tasks_per_node={self.tasks_per_node}, but {job.run.title} "
                    f"has trainer.num_nodes={asked[0]} and trainer.devices={asked[1]}.",
                    "trainer=slurm takes what SLURM gives",
                )

    def start(self, jobs: Sequence[Job], ledger: Ledger) -> set[Path]:
        self.submit(jobs, ledger)
        return set()

    def submit(self, jobs: Sequence[Job], ledger: Ledger, after: Sequence[str] = ()) -> None:
        """Submit jobs as one array, and note their ids in the ledger.

        Args:
            jobs: their folders are frozen.
            ledger: where the ids go.
            after: SLURM jobs that must end well before these begin; where one does not, these are cancelled.

        Raises:
            UserError: SLURM did not take them.
        """
        import submitit

        files = ledger.path.parent / "submitit"
        try:
            executor = submitit.SlurmExecutor(folder=files)
            executor.update_parameters(**(self.options | {"additional_parameters": self.additional(after)}))
            submitted = executor.map_array(work, [str(job.run.folder) for job in jobs])
        except (RuntimeError, ValueError, submitit.core.utils.FailedJobError) as error:
            lines = [line for line in str(error).splitlines() if "sbatch: error" in line] or str(error).splitlines()
            raise UserError(f"SLURM did not take the sweep: {lines[-1].strip()}") from None
        for job, sent in zip(jobs, submitted, strict=True):
            ledger.jobs[str(job.run.folder)]["job"] = sent.job_id
            link(job.run.folder / "output.txt", files / f"{sent.job_id}_0_log.out")
            print(f"SLURM job {sent.job_id}: {job.run.title}, {short(job.run.folder)}")
        ledger.write()

    def additional(self, after: Sequence[str]) -> dict[str, Any]:
        """Options of sbatch that submitit has no name for."""
        known: dict[str, Any] = dict(self.options["additional_parameters"])
        if after:
            known |= {"dependency": "afterok:" + ":".join(after), "kill-on-invalid-dep": "yes"}
        return known


def link(path: Path, target: Path) -> None:
    """Let a run's `output.txt` be the file that its SLURM job writes to."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)
