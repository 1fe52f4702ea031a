"""Pictures of records and samples, drawn without a display and without pyplot's global state."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from datamodules.spec import DataSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK = "#1f3b57"
SHOWN = 64
"""Pictures in a grid: 8 x 8."""


def panels(sets: Mapping[str, Tensor], spec: DataSpec, title: str) -> Figure:
    """Sets of records side by side: grids of pictures, scatter plots of vectors, histograms of single numbers.

    Vectors of more than two components are shown by the first two principal components of the last set.

    Args:
        sets: title of a panel -> records (N, ...) in the range that `spec` describes. The last one, by convention
            the real records, sets the axes of all.
        spec: kind, bounds and names of components.
        title: of the whole figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06)
    figure = Figure(figsize=(4.3 * len(sets), 4.8), dpi=DPI, layout=spacing)
    figure.suptitle(title, fontsize=13)
    axes = figure.subplots(1, len(sets), squeeze=False)[0]
    finite = {name: x.detach().cpu().float().nan_to_num(0, 0, 0) for name, x in sets.items()}
    if spec.kind == "image":
        _grids(axes, finite, spec)
    elif spec.dimensions == 1:
        _histograms(axes, finite, spec)
    else:
        _scatters(axes, finite, spec)
    for axis, (name, x) in zip(axes, finite.items(), strict=True):
        some = spec.kind == "image" and len(x) > SHOWN
        axis.set_title(f"{name} ({f'first {SHOWN} of ' if some else ''}{len(x)}{_outside(axis)})", fontsize=10.5)
    return figure


def plane(titles: Sequence[str], spec: DataSpec, title: str) -> tuple[Figure, Sequence[Axes]]:
    """An empty figure with a square panel per title, for vectors of two components."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(4.3 * len(titles), 4.8), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06))
    figure.suptitle(title, fontsize=13)
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    names = spec.features if len(spec.features) == 2 else ("x1", "x2")
    for axis, name in zip(axes, titles, strict=True):
        axis.set_title(name, fontsize=10.5)
        axis.set(xlabel=names[0], ylabel=names[1], box_aspect=1)
    return figure, axes


def limits(values: Tensor) -> tuple[float, float]:
    """Numbers (N,) -> the lowest and the highest with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, to a temporary name first: a reader never sees half a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    figure.savefig(partial, format="png")
    os.replace(partial, path)


def grid(pictures: Tensor, low: float, high: float, columns: int = 8) -> Tensor:
    """Pictures (N, C, H, W) in [low, high] -> one picture (rows, columns, 3) in [0, 1], with a white line between.

    One channel is shown in grey, three in colour, of any other number the first.
    """
    pictures = ((pictures - low) / max(high - low, 1e-12)).clamp(0, 1)
    pictures = pictures if pictures.shape[1] == 3 else pictures[:, :1].expand(-1, 3, -1, -1)
    gap = max(1, round(pictures.shape[-1] / 16))
    missing = -len(pictures) % columns
    padded = torch.cat([pictures, pictures.new_ones(missing, *pictures.shape[1:])])
    padded = torch.nn.functional.pad(padded, (0, gap, 0, gap), value=1.0)
    count, channels, height, width = padded.shape
    tiles = padded.reshape(count // columns, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    return tiles.reshape(count // columns * height, columns * width, channels)[:-gap, :-gap]


def _grids(axes: Sequence[Axes], sets: Mapping[str, Tensor], spec: DataSpec) -> None:
    real = list(sets.values())[-1]
    low, high = spec.bounds or (float(real.min()), float(real.max()))
    columns = math.isqrt(SHOWN)
    for axis, pictures in zip(axes, sets.values(), strict=True):
        axis.imshow(grid(pictures[:SHOWN], low, high, columns).numpy(), interpolation="nearest")
        axis.set_axis_off()


def _histograms(axes: Sequence[Axes], sets: Mapping[str, Tensor], spec: DataSpec) -> None:
    low, high = limits(list(sets.values())[-1].flatten())
    edges = np.linspace(low, high, 51)
    for axis, x in zip(axes, sets.values(), strict=True):
        # Shares of all records, in the frame or not: what lies outside is missing from the area.
        density = np.histogram(x.flatten().numpy(), edges)[0] / max(len(x), 1) / (edges[1] - edges[0])
        axis.stairs(density, edges, fill=True, color=INK)
        axis.set_xlabel(spec.features[0] if spec.features else "x")
        axis.set_ylabel("density")
    top = max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(0, top)


def _scatters(axes: Sequence[Axes], sets: Mapping[str, Tensor], spec: DataSpec) -> None:
    real = list(sets.values())[-1]
    names = spec.features if len(spec.features) == 2 else ("x1", "x2")
    centre, basis = torch.zeros(spec.dimensions), torch.eye(spec.dimensions)
    if spec.dimensions > 2:
        centre = real.mean(0)
        basis = torch.linalg.svd(real - centre, full_matrices=False).Vh[:2].T
        names = ("first principal component of the real records", "second principal component")
    shown = [(x - centre) @ basis for x in sets.values()]
    frame = [limits(column) for column in shown[-1].T]
    for axis, points in zip(axes, shown, strict=True):
        # Fewer points may be larger and darker; many must stay apart.
        size = min(9.0, max(1.5, 6000 / max(len(points), 1)))
        axis.scatter(
            points[:, 0].numpy(), points[:, 1].numpy(), s=size, alpha=0.55, color=INK, linewidths=0, rasterized=True
        )
        axis.set(xlim=frame[0], ylim=frame[1], xlabel=names[0], ylabel=names[1], box_aspect=1)
        axis.grid(alpha=0.25, linewidth=0.5)


def _outside(axis: Axes) -> str:
    """How many of a scatter plot's points the frame cuts off, where it does."""
    if not axis.collections:
        return ""
    points = torch.as_tensor(np.asarray(axis.collections[0].get_offsets()))
    low, high = torch.tensor([axis.get_xlim(), axis.get_ylim()]).T
    count = int(((points < low) | (points > high)).any(1).sum())
    return f", {count} of them outside the frame" if count else ""
