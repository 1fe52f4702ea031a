"""Evidence without runs: figures that a test writes down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Figures:
    """Evidence from plain numbers.

    Args:
        figures: point -> figure -> one value per seed; None for a missing one.
        curves: point -> figure -> (step, value) pairs, the same for all seeds, or one list per seed.
        sweeps: arm -> (key, value, point).
        seconds: point -> seconds per step.
    """

    def __init__(
        self,
        figures: Mapping[str, Mapping[str, Sequence[float | None]]] | None = None,
        curves: Mapping[str, Mapping[str, Sequence]] | None = None,
        sweeps: Mapping[str, Sequence[tuple[str, float, str]]] | None = None,
        seconds: Mapping[str, float] | None = None,
        seeds: int = 5,
    ) -> None:
        self.figures, self.curves, self.sweeps = figures or {}, curves or {}, sweeps or {}
        self.seconds = seconds or {}
        self.seeds = range(seeds)

    def figure(self, point: str, name: str, seed: int) -> float | None:
        return self.figures.get(point, {}).get(name, [None] * len(self.seeds))[seed]

    def curve(self, point: str, name: str, seed: int) -> Sequence[tuple[float, float]]:
        curves = self.curves.get(point, {}).get(name, [])
        return curves[seed] if curves and isinstance(curves[0], list) else curves

    def seconds_per_step(self, point: str, seed: int) -> float | None:
        return self.seconds.get(point)

    def swept(self, arm: str) -> Sequence[tuple[str, float, str]]:
        return self.sweeps.get(arm, [])
