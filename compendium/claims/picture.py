"""A result as a picture: curves with bands, swept values with bands, points with intervals, or a frontier, as fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compendium.claims.record import number
from compendium.run import replacing

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which colour-blind readers can tell apart."""
DASHES = ("-", "--", ":", "-.")
"""Points of one swept arm share its colour and differ in these."""
FRONTIERS = (("test/kl", "test/gold_reward"), ("test/answer_kl", "test/answer_reward"))
"""A price and what it buys: where a result shows both, they get a panel together."""
PANELS = 4
INCHES = 3.6


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a result as PNG.

    Args:
        result: as `compendium.claims.record.record` makes it.
        path: where.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    has_curve = result["curve"] and any(len(one["step"]) > 1 for one in result["curve"]["arms"].values())
    frontiers = [pair for pair in FRONTIERS if set(pair) <= set(result["figures"])]
    figures = result["figures"][: PANELS - bool(has_curve)]
    count = max(1, len(figures) + bool(has_curve)) + len(frontiers)
    figure = Figure(figsize=(INCHES * count + 0.4, 3.2), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, count, squeeze=False)[0]
    if has_curve:
        curves(panels[0], result)
    for axes, name in zip(panels[bool(has_curve) :], figures, strict=False):
        axes.set_ylabel(name, fontsize=9)
        rows = [row for row in result["table"] if row["figure"] == name and row["n"]]
        if not rows:
            continue
        swept = {row["arm"] for row in rows if result["arms"][row["arm"]]["key"]}
        (sweep if swept else points)(axes, result, name, rows)
    for axes, (price, gain) in zip(panels[count - len(frontiers) :], frontiers, strict=True):
        frontier(axes, result, price, gain)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def colour(result: Mapping[str, Any], arm: str) -> str:
    """The colour of an arm, the same in all panels."""
    arms = list(dict.fromkeys(one["arm"] for one in result["arms"].values()))
    return COLOURS[arms.index(arm) % len(COLOURS)]


def curves(axes: Any, result: Mapping[str, Any]) -> None:
    """The logged figure against steps: mean, and 95% band over seeds."""
    drawn: list[str] = []
    for name, one in result["curve"]["arms"].items():
        if not one["step"]:
            continue
        drawn.append(result["arms"][name]["arm"])
        dashes = DASHES[(drawn.count(drawn[-1]) - 1) % len(DASHES)]
        low, high = ([number(value) for value in one[side]] for side in ("low", "high"))
        shade = colour(result, result["arms"][name]["arm"])
        axes.plot(one["step"], one["mean"], color=shade, label=name, linewidth=1.5, linestyle=dashes)
        if all(map(math.isfinite, low)):
            axes.fill_between(one["step"], low, high, color=shade, alpha=0.2, linewidth=0)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel(result["curve"]["figure"], fontsize=9)
    axes.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def sweep(axes: Any, result: Mapping[str, Any], name: str, rows: list[Mapping[str, Any]]) -> None:
    """A figure against the swept value; arms that are not swept are level lines."""
    arms = list(dict.fromkeys(result["arms"][row["arm"]]["arm"] for row in rows))
    key, values = "", []
    for arm in arms:
        mine = [row for row in rows if result["arms"][row["arm"]]["arm"] == arm]
        shade = colour(result, arm)
        if not result["arms"][mine[0]["arm"]]["key"]:
            axes.axhline(mine[0]["mean"], color=shade, label=arm, linewidth=1.5, linestyle="--")
            continue
        key = result["arms"][mine[0]["arm"]]["key"]
        x = [result["arms"][row["arm"]]["value"] for row in mine]
        values += x
        axes.plot(x, [row["mean"] for row in mine], color=shade, label=arm, marker="o", markersize=4, linewidth=1.5)
        low, high = ([number(row[side]) for row in mine] for side in ("low", "high"))
        if all(map(math.isfinite, low)):
            axes.fill_between(x, low, high, color=shade, alpha=0.2, linewidth=0)
    if min(values) > 0 and max(values) >= 8 * min(values):
        axes.set_xscale("log", base=2)
    axes.set_xlabel(key, fontsize=9)
    axes.legend(fontsize=8, frameon=False)


def points(axes: Any, result: Mapping[str, Any], name: str, rows: list[Mapping[str, Any]]) -> None:
    """A figure for each arm: every seed as a dot, the mean with its 95% interval."""
    for place, row in enumerate(rows):
        shade = colour(result, result["arms"][row["arm"]]["arm"])
        seeds = [
            figures[name] for figures in result["arms"][row["arm"]]["runs"].values() if figures and name in figures
        ]
        dots = [number(value) for value in seeds]
        axes.plot([place - 0.18] * len(dots), dots, ".", color=shade, alpha=0.5, markersize=5)
        low, high = number(row["low"]), number(row["high"])
        if math.isfinite(low):
            axes.errorbar(place, row["mean"], [[row["mean"] - low], [high - row["mean"]]], color=shade, capsize=4)
        axes.plot(place, row["mean"], "o", color=shade, markersize=6)
    names = [row["arm"] for row in rows]
    axes.set_xticks(range(len(names)), names, rotation=20 if max(map(len, names)) > 9 else 0, fontsize=8)
    axes.set_xlim(-0.6, len(names) - 0.4)


def frontier(axes: Any, result: Mapping[str, Any], price: str, gain: str) -> None:
    """What each arm has gained at which price: every seed as a dot, the means with their 95% intervals both ways; means
    of a swept arm are joined.
    """
    found = {
        figure: {row["arm"]: row for row in result["table"] if row["figure"] == figure and row["n"]}
        for figure in (price, gain)
    }
    means: dict[str, list[tuple[float, float]]] = {}
    for name, row in found[price].items():
        if name not in found[gain]:
            continue
        arm, other = result["arms"][name]["arm"], found[gain][name]
        shade = colour(result, arm)
        runs = [run for run in result["arms"][name]["runs"].values() if run and price in run and gain in run]
        dots = [(number(run[price]), number(run[gain])) for run in runs]
        axes.plot(*zip(*dots, strict=True), ".", color=shade, alpha=0.4, markersize=5)
        bars = [
            [[one["mean"] - number(one["low"])], [number(one["high"]) - one["mean"]]]
            if math.isfinite(number(one["low"]))
            else None
            for one in (row, other)
        ]
        label = None if arm in means else arm
        axes.errorbar(row["mean"], other["mean"], bars[1], bars[0], "o", color=shade, label=label, markersize=5)
        means.setdefault(arm, []).append((row["mean"], other["mean"]))
    for arm, way in means.items():
        axes.plot(*zip(*way, strict=True), color=colour(result, arm), linewidth=1)
    axes.set_xlabel(price, fontsize=9)
    axes.set_ylabel(gain, fontsize=9)
    axes.legend(fontsize=7, frameon=False)
