"""Expected improvement by a predictor and a second one of its errors, which are noted as points come in."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.networks.stacked import Stacked
from modules.uncertainty.deup import excess, log_density, log_variance
from modules.uncertainty.processes import Process, informed, likeliest, standardised
from modules.uncertainty.sequential import NetworkSearch

PREDICTORS = ("network", "process")
FEATURES = ("place", "density", "variance", "log_variance", "seen")
LOWEST, HIGHEST = -10.0, 3.0
"""The least that is noted and the most that is expected, as ln of a square in units of the response's spread; as
theirs, which note as little as -20 of the halves."""
SPLITS = 2
"""Divisions of the initial points into halves, as theirs."""
NOISE = 1e-6
"""Variance of the noise of errors, where the kernel is fixed: theirs is 1e-10, at which like features of unlike errors
decide what e is."""
EXACT = "donot_use_mm_for_euclid_dist"


class EIDEUP(NetworkSearch):
    """Expected improvement with a predictor f and the excess risk that a second predictor e expects of it:

        mu = f(x),      s^2 = max(0, exp(e(phi(x))) - a)

    e is a Gaussian process of ln (f(x) - y)^2 given phi(x), learned from errors that were noted

    - of the initial points, by predictors that learned from a half of them, for both halves of two divisions;
    - of each acquired point before f has learned from it, and once more after.

    phi(x) is made of `features`: the `place` x, the ln `density` of acquired points at x, the `variance` of a Gaussian
    process of the acquired points or its logarithm, each scaled to [0, 1] over the pool, and whether x has been `seen`.
    What is noted of an error is phi as it was when f made it: it says how little was known there, which is why early
    errors tell of later ones.

    Lahlou et al. 2022, "DEUP: Direct Epistemic Uncertainty Prediction", by the authors' code for functions of one and
    two dimensions (`examples/SMO/smo.py`, `main.py`): f is a network, e has a fixed kernel of width 1 and knows `place`
    and `variance`; the errors before and after, the halves and the bounds of e are theirs as well. As in their code for
    many dimensions (`examples/SMO/turbo.py`, which has trust regions besides), f may be the mean of the process, e of
    the likeliest kernel (`width=null`), and `log_variance` among what it knows.

    Deviations:
        1. Points are those of a pool, and not any in the box; x is as the DataModule scales it.
        2. y, and errors with it, are in units of the spread of the acquired responses, there as they are. Where e of a
           fixed kernel knows nothing, it says that f is wrong by one spread.
        3. The likeliest kernel has one width, of features in units of their spread, where theirs has one for each, and
           a `log_variance` that is not scaled.
        4. Networks take `steps` steps with all points, and the optimizer begins anew; theirs takes 200 epochs in
           batches of 16, and goes on.

    Args:
        spec: vectors with a real response.
        predictor: f: a `network`, or the `process`, which needs no net and no optimizer.
        features: what e is told, at least one of `place`, `density`, `variance`, `log_variance`, `seen`.
        width: l of the kernel of e, above 0, with s^2 = 1; None: the likeliest l, s^2 and noise.
        aleatoric: a, the variance of the response given the point, in squared units of the response.
        restarts: of the optimizer of the process's marginal likelihood, at least 0; that of e has none.
        parts: the arguments of `NetworkSearch`; at least 4 initial points.

    Raises:
        UserError: a value out of range, an unknown predictor or feature.
    """

    papers = ("deup2022direct",)

    told: Tensor
    errors: Tensor
    noted: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        predictor: str = "network",
        features: Sequence[str] = ("place", "variance"),
        width: float | None = 1.0,
        aleatoric: float = 0.0,
        restarts: int = 2,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if predictor not in PREDICTORS:
            raise UserError(f"model.predictor={predictor} is unknown.", f"there are: {', '.join(PREDICTORS)}")
        unknown = [name for name in features if name not in FEATURES]
        if unknown or not features:
            raise UserError(f"model.features={list(features)}: some of {', '.join(FEATURES)}.")
        if not (aleatoric >= 0 and restarts >= 0 and self.initial >= 4 and (width is None or width > 0)):
            raise UserError(
                f"model.aleatoric={aleatoric} model.restarts={restarts} model.initial={self.initial} "
                f"model.width={width}: at least 0, 0 and 4, and above 0 or null."
            )
        self.features, self.width = tuple(features), width
        self.aleatoric, self.restarts = aleatoric, restarts
        self.net = self.build(self.spec.shape, (1,)) if predictor == "network" else None
        count = len(self.features) + (self.spec.dimensions - 1 if "place" in self.features else 0)
        room = 2 * SPLITS * self.initial + 2 * (self.acquisitions - self.initial)
        self.register_buffer("told", torch.zeros(room, count, dtype=torch.float64))
        self.register_buffer("errors", torch.zeros(room, dtype=torch.float64))  # ln of squares, in the response's units
        self.register_buffer("noted", torch.zeros((), dtype=torch.long))

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        points, responses = self.measured()
        if not self.noted:
            self.begin(points, responses, x)
        self.pool, self.process = x, likeliest(points, responses, self.restarts)
        if self.net is not None:
            self.learn(self.net, points, standardised(responses)[0])
        if len(points) > self.initial:  # the latest one, which f has learned from now
            self.note(points[-1:], responses[-1:])
        return self.predict(x), excess(self.error(x), self.aleatoric)

    def acquire(self, x: Tensor, y: Tensor, row: Tensor) -> None:
        if self.count():
            self.note(x, y)
        super().acquire(x, y, row)

    def predict(self, x: Tensor) -> Tensor:
        """x float64 (B, D) -> f(x) (B,), in the response's own units, as learned at this acquisition."""
        if self.net is None:
            return self.process.moments(x)[0]
        shift, scale = self.process.units
        return shift + scale * self.net(x.float()).double().squeeze(-1)

    def phi(self, x: Tensor, pool: Tensor, process: Process) -> Tensor:
        """x (B, D), the pool (N, D), the process of what a predictor has learned from -> features (B, F), float64."""

        def told(name: str, at: Tensor) -> Tensor:
            if name == "density":
                return log_density(at, process.x)
            variance = process.standard_moments(at)[1]
            return variance if name == "variance" else log_variance(variance)

        columns = []
        for name in self.features:
            if name == "place":
                columns.append(x)
            elif name == "seen":
                distance = torch.cdist(x, process.x, compute_mode=EXACT).amin(1, keepdim=True)
                columns.append((distance < 1e-5).double())
            else:
                there = told(name, pool)
                here = there if x is pool else told(name, x)
                low, high = there.aminmax()
                columns.append(((here - low) / (high - low).clamp_min(1e-12))[:, None])
        return torch.cat(columns, 1)

    def error(self, x: Tensor) -> Tensor:
        """x float64 (B, D) -> exp(e(phi(x))) (B,), in squared units of the response."""
        unit = self.process.units[1]
        told, errors = self.told[: self.noted], self.errors[: self.noted] - 2 * unit.log()
        phi = self.phi(x, self.pool, self.process)
        if self.width is None:
            shift, scale = told.mean(0), told.std(0, correction=0).clamp_min(1e-12)
            e, phi = likeliest((told - shift) / scale, errors, restarts=0), (phi - shift) / scale
        else:
            e = informed(told, errors, errors.new_tensor([1.0, self.width, NOISE]), errors.new_tensor([0.0, 1.0]))
        expected = e.moments(phi)[0]
        return unit**2 * expected.clamp(2 * LOWEST, HIGHEST).exp()

    def note(self, x: Tensor, y: Tensor) -> None:
        """Keep what f says of points (n, D) beside their responses (n,)."""
        self.keep(self.phi(x, self.pool, self.process), self.predict(x) - y, self.process.units[1])

    def keep(self, told: Tensor, rest: Tensor, unit: Tensor) -> None:
        """Keep features (n, F) and what f was wrong by (n,), in responses whose spread is `unit`."""
        place = slice(int(self.noted), int(self.noted) + len(rest))
        self.told[place] = told
        self.errors[place] = (rest / unit).square().log().clamp_min(LOWEST) + 2 * unit.log()
        self.noted += len(rest)

    def begin(self, x: Tensor, y: Tensor, pool: Tensor) -> None:
        """Note errors of predictors that learn from halves of the initial points (n, D), responses (n,)."""
        halves = []
        for _ in range(SPLITS):
            half = self.draws(len(y)).argsort().argsort() < len(y) // 2
            halves += [half, ~half]
        among = torch.stack(halves)
        processes = [likeliest(x[half], y[half], self.restarts) for half in among]
        unit, shift, scale = standardised(y)
        if self.net is None:
            said = torch.stack([process.moments(x)[0] for process in processes])
        else:
            nets = Stacked([copy.deepcopy(self.net) for _ in among])
            self.learn(nets, x, unit, among)
            said = shift + scale * nets(x.float()).double().squeeze(-1)
        for process, mean in zip(processes, said, strict=True):
            self.keep(self.phi(x, pool, process), mean - y, scale)
