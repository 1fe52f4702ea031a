"""The times at which a sampler stops: what is asked of one is worked out for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any

from torch import Tensor

from modules.generative.gaussian.paths import Path


class Stops:
    """Times, each of which knows its place among the others, so that its value is never looked at.

    Args:
        times: (steps,), of any precision.
        records: of how many records each is the time: a stop is a number, or expanded to (records,).
    """

    def __init__(self, times: Tensor, records: int | None = None) -> None:
        self.times = times
        self.all = times.unbind() if records is None else tuple(stop.expand(records) for stop in times.unbind())
        for number, stop in enumerate(self.all):
            stop.place = (self, number)  # type: ignore[attr-defined]
        self.known: dict[Any, Any] = {}

    def answer(self, number: int, work_out: Callable[[Tensor], Any]) -> Any:
        """What a function of times (steps,) says of one stop: tensors (steps,) -> numbers."""
        if work_out not in self.known:
            self.known[work_out] = each(work_out(self.times))
        return self.known[work_out][number]

    def step(self, number: int, work_out: Callable[[Path, Tensor, Tensor], Any], path: Path) -> Any:
        """What a function of stops and of the next ones (steps - 1,) says of the step from one stop."""
        if (work_out, path) not in self.known:
            self.known[work_out, path] = each(work_out(path, self.times[:-1], self.times[1:]))
        return self.known[work_out, path][number]

    def spread(self, number: int, x: Tensor) -> Tensor:
        """A stop as the time (B,) of records x (B, ...), in their precision and place."""
        key = (len(x), x.dtype, x.device)
        if key not in self.known:
            self.known[key] = Stops(self.times.to(x), len(x))
        return self.known[key].all[number]


def each(values: Tensor | tuple[Tensor, ...]) -> Sequence[Any]:
    """Values (steps,), or several of them -> those of each step."""
    if isinstance(values, Tensor):
        return values.unbind()
    return list(zip(*(part.unbind() for part in values), strict=True))


def asked(work_out: Callable[[Tensor], Any], t: Tensor) -> Any:
    """What a function says of a time t: a number for a stop, also where it is spread over records.

    Args:
        work_out: times of any shape -> tensors of that shape. A method, say: something that is equal to itself when it
            is asked for again.
        t: any times.
    """
    place = getattr(t, "place", None)
    return work_out(t) if place is None else place[0].answer(place[1], work_out)


def between(work_out: Callable[[Path, Tensor, Tensor], Any], path: Path, s: Tensor, t: Tensor) -> Any:
    """What a function of a path and two times, say the coefficients of a step, says of s and t; see `asked`."""
    here, there = getattr(s, "place", None), getattr(t, "place", None)
    if here is None or there is None or here[0] is not there[0] or there[1] != here[1] + 1:
        return work_out(path, s, t)
    return here[0].step(here[1], work_out, path)


def spread(t: Tensor, x: Tensor) -> Tensor:
    """A number t -> the time (B,) of records x (B, ...), in their precision and place."""
    place = getattr(t, "place", None)
    return t.to(x).expand(len(x)) if place is None else place[0].spread(place[1], x)


def tiled(t: Tensor, x: Tensor) -> Tensor:
    """The times (B,) of records -> those of x (k B, ...), which holds them k times in turn."""
    place = getattr(t, "place", None)
    return t.repeat(len(x) // len(t)) if place is None else place[0].spread(place[1], x)


def remembering(path: Path) -> Path:
    """The same path, which works out what it says of all stops at once, however often a sampler asks."""
    twin = copy(path)
    for name in ("alpha", "sigma", "rates", "log_snr", "diffusion"):
        setattr(twin, name, partial(asked, getattr(path, name)))
    return twin
