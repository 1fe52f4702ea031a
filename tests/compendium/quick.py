"""Runs of a fraction of a second, and their folders."""

from __future__ import annotations

from pathlib import Path

CLASSIFICATION = "+callbacks.evaluation.classification._target_=callbacks.evaluation.classification.Classification"

CLASSIFIER = (
    "model=supervised/classifier",
    "data=wine",
    "net=mlp",
    "net.width=8",
    "datamodule.batch_size=16",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "callbacks=bare",
    "callbacks.log.every=3",
    CLASSIFICATION,
)
"""Sixteen steps on 125 wines, tested on 36."""


def only_folder(runs: Path) -> Path:
    """The folder of the one run below `runs`."""
    (config,) = runs.rglob("config.json")
    return config.parent
