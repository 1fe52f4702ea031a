"""Which checkpoint a run takes its weights or its training state from, and whether it may."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compendium.errors import UserError, did_you_mean
from compendium.interruption import requeued
from compendium.run import Run, short

if TYPE_CHECKING:
    from compendium.build import Parts


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
    checkpoint = read_checkpoint(path)
    own = f"{type(method).__module__}.{type(method).__qualname__}"
    other = checkpoint.get("method")
    if other != own:
        raise UserError(
            f"{short(path)} holds {other or 'no model of this project'}, not {own}.", "Give this model's own."
        )
    if training and "loops" not in checkpoint:
        raise UserError(
            f"{short(path)} holds weights but no training state to continue from.",
            "Resume from last.ckpt; evaluate this one with run=test ckpt=PATH.",
        )
    method.fits(checkpoint["state_dict"], path)
    return checkpoint


def start_from(run: Run, parts: Parts) -> None:
    """The weights that `weights=` names, into the method; training begins anew.

    Raises:
        UserError: there are none, or they are another model's.
    """
    if run.config["weights"] is not None:
        path = Path(run.config["weights"]).expanduser()
        parts.method.restore(checked_checkpoint(parts.method, path, training=False)["state_dict"], path)


def load_best(run: Run, parts: Parts) -> None:
    """Test with the weights that did best, where a figure is monitored."""
    best = run.checkpoints / "best.ckpt"
    checkpoints = run.config["callbacks"].get("checkpoint") or {}
    if checkpoints.get("monitor") and best.is_file():
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


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's content, tensors and plain values only.

    Raises:
        UserError: no such file, truncated, corrupt, or holding anything that would have to be executed.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        nearby = [file.name for file in path.parent.glob("*.ckpt")] if path.parent.is_dir() else []
        raise UserError(f"there is no checkpoint {path}.", did_you_mean(path.name, nearby))
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} cannot be read as a checkpoint: it is truncated, corrupt, or not made here ({reason[:160]}).",
            "Take another checkpoint of the run, or train again with resume=never.",
        ) from error
