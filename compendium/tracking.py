"""The metric log of a run, and the trackers that mirror it.

`metrics.jsonl` is the truth: one line per logged step, floats in full precision, no wall times, so that a continued run
and one that was never interrupted write the same bytes. CSV, TensorBoard and W&B are mirrors: they are fed from a
thread of their own, and one that fails is dropped with a warning. None of them can stop or delay a run.
"""

from __future__ import annotations

import csv
import json
import os
import queue
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from compendium.extras import require
from compendium.run import Run, read_log, replacing
from compendium.secrecy import without_secrets

CLOSING_SECONDS = 30.0


class Mirror:
    """A tracker that is shown what the log holds. All calls come from one thread, never from the training loop."""

    def open(self, run: Run, first_step: int) -> None:
        """Begin, or continue at `first_step`."""

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """One line of the log."""

    def close(self, state: str) -> None:
        """End with the state of the run: `done`, `failed` or `preempted`."""


class RunLogger(Logger):
    """Lightning's view of a run's log: everything that is logged goes through here.

    Args:
        run: whose log it is.
        mirrors: trackers.
    """

    def __init__(self, run: Run, mirrors: Sequence[Mirror] = ()) -> None:
        super().__init__()
        self.run = run
        self.path = run.folder / "metrics.jsonl"
        self.mirrors = list(mirrors)
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self.run.config["choices"]["model"]

    @property
    def version(self) -> str:
        return self.run.folder.name

    @property
    def save_dir(self) -> str:
        return str(self.run.folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The frozen config holds them already."""

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    @rank_zero_only
    def rewind(self, offset: int) -> None:
        """Forget what was logged after a checkpoint, as it will be logged again."""
        if self.offset > offset:
            os.truncate(self.path, offset)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = int(step or 0)
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if not values or not self.run.trains:  # a later look at the weights leaves no mark
            return
        with open(self.path, "a") as log:
            log.write(json.dumps({"step": step} | values) + "\n")
        if self.mirrors:
            self._start(step)
            self._queue.put(("write", (values, step)))

    @rank_zero_only
    def end(self, state: str) -> None:
        """Close the mirrors, and wait for them no longer than half a minute."""
        if self._thread is None:
            return
        self._queue.put(("close", state))
        self._thread.join(CLOSING_SECONDS)
        if self._thread.is_alive():
            warnings.warn(
                "a tracker did not finish in time and was left behind; metrics.jsonl is complete", stacklevel=2
            )
        self._thread = None

    def _start(self, step: int) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._feed, args=(step,), daemon=True, name="trackers")
            self._thread.start()

    def _feed(self, first_step: int) -> None:
        alive = [mirror for mirror in self.mirrors if attempt(mirror, "open", self.run, first_step)]
        while True:
            call, content = self._queue.get()
            if call == "close":
                for mirror in alive:
                    attempt(mirror, "close", content)
                return
            alive = [mirror for mirror in alive if attempt(mirror, "write", *content)]


def attempt(mirror: Mirror, call: str, *content: Any) -> bool:
    """Call a mirror; a fault is a warning and the end of that mirror, never of the run."""
    try:
        getattr(mirror, call)(*content)
    except BaseException as error:
        print(f"warning: tracker {type(mirror).__name__} is switched off: {str(error).splitlines()[0]}", flush=True)
        return False
    return True


class CSV(Mirror):
    """`metrics.csv`: a row per step, a column per figure. It is rewritten from the log every few seconds."""

    SECONDS = 5.0

    def open(self, run: Run, first_step: int) -> None:
        self.folder = run.folder
        self.written = time.monotonic()

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        if time.monotonic() - self.written > self.SECONDS:
            self._rewrite()

    def close(self, state: str) -> None:
        self._rewrite()

    def _rewrite(self) -> None:
        rows: dict[float, dict[str, float]] = {}
        for line in read_log(self.folder / "metrics.jsonl"):
            rows.setdefault(line["step"], {}).update(line)
        columns = dict.fromkeys(name for row in rows.values() for name in row)
        with replacing(self.folder / "metrics.csv") as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows.values())
        self.written = time.monotonic()


class TensorBoard(Mirror):
    """Event files in `tensorboard/`, for `tensorboard --logdir runs`."""

    def __init__(self) -> None:
        require("tensorboard", extra="tensorboard", needed_by="logger=tensorboard")

    def open(self, run: Run, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=first_step)

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self, state: str) -> None:
        self.writer.close()


class WandB(Mirror):
    """Weights & Biases. Its run id stays with the run folder, so that a continued run continues the same W&B run.

    Args:
        project: W&B project.
        entity: W&B user or team; None takes the account's own.
        mode: `offline` (needs no account; `wandb sync RUN_FOLDER/wandb/...` uploads later), `online`, or `disabled`.
        group: what runs are grouped by; None groups by model and data, so that the seeds of a sweep lie together.
        tags: W&B tags.
    """

    def __init__(
        self,
        project: str = "compendium",
        entity: str | None = None,
        mode: str = "offline",
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self.arguments: dict[str, Any] = {"project": project, "entity": entity, "mode": mode, "tags": list(tags)}
        self.group = group

    def open(self, run: Run, first_step: int) -> None:
        import wandb

        chosen = run.config["choices"]
        name = f"{chosen['model']}/{chosen['data']}/{run.config['seed']}"
        id_file = run.folder / "wandb-id"
        if not id_file.exists():
            with replacing(id_file) as temporary:
                temporary.write_text(token_hex(4))
        self.wandb = wandb.init(
            **self.arguments,
            id=id_file.read_text().strip(),
            resume="allow",
            group=self.group or name.rpartition("/")[0],
            name=name,
            dir=str(run.folder),
            config=without_secrets(run.config),
            save_code=False,
            settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
        )
        self.wandb.define_metric("*", step_metric="trainer/step")

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        self.wandb.log({**metrics, "trainer/step": step})

    def close(self, state: str) -> None:
        if state == "preempted":
            self.wandb.mark_preempting()
        self.wandb.finish(exit_code={"done": 0}.get(state, 1))
