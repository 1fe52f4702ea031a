"""Hydra's own grid of values, without its check of the jobs."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class Grid(BasicSweeper):
    """Every combination of the values given. `compendium.sweep` has checked the jobs, and knows paths in `data=`."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing is left to check."""
