"""Adaptive guidance whose second evaluation is a linear combination of what was predicted before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import seeded
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.stops import spread
from modules.generative.gaussian.targets import noise_of
from modules.generative.guidance.base import Guidance, Pair
from modules.generative.guidance.classifier_free import classes_of


class LinearAdaptive(Guidance):
    """Classifier-free guidance that evaluates the network once at most steps. At the k-th evaluation of a sampler

        eps(x_k) ~ sum over j <= k of a_kj eps(x_j, y)  +  sum over j < k of b_kj eps(x_j)

    takes the place of the unconditional prediction at every second evaluation of the first `full` of them and at all
    later ones. The numbers a and b are the same for all records and components: least squares over `pilots` draws
    that are guided as ever, made when a field is asked for. Where both laws are isotropic Gaussians it is exact.

    Castillo et al. 2023, "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models": LinearAG.
    Deviations: (1) the paper's text was not at hand: that steps alternate in the first half and that none is full in
    the second is as remembered; (2) pilots are drawn anew for each field, with random numbers of their own, so that no
    draw changes with them, and their evaluations are not counted.

    Args:
        scale: of the guidance.
        full: share of the evaluations among which every second one is full, from 0 to 1. The first one always is.
        pilots: draws to fit on.

    Raises:
        UserError: a share out of range, no pilot; a model without classes, or one that draws nothing by itself.
    """

    papers = ("castillo2023adaptive",)

    def __init__(self, scale: float = 2.0, full: float = 0.5, pilots: int = 64) -> None:
        if not 0 <= full <= 1 or pilots < 1:
            raise UserError(f"guidance.full={full} guidance.pilots={pilots}: a share from 0 to 1, and at least 1.")
        self.scale, self.full, self.pilots = scale, full, pilots

    def field(self, model: Any, y: Tensor | None) -> Field:
        labels = classes_of(y, "linear_adaptive")
        return Linear(model, labels, self.scale, self.fitted(model, labels))

    def fitted(self, model: Any, y: Tensor) -> list[Tensor | None]:
        """For each evaluation of the model's sampler its coefficients (2 k + 1,), float64; None where it is full."""
        if not hasattr(model, "sampler"):
            raise UserError("guidance=linear_adaptive fits draws, and this model draws nothing.", "guidance=adaptive")
        labels = y[torch.arange(self.pilots, device=y.device) % len(y)]
        pilot = Linear(model, labels, self.scale, None)
        with seeded(0, "pilots"), torch.no_grad():
            model.sampler.sample(pilot, pilot.prior(self.pilots, model.spec.shape, model.like), model.grid)
        seen = [value.flatten().double() for value in pilot.seen]
        count = len(seen) // 2
        found: list[Tensor | None] = []
        for k in range(count):
            if k == 0 or (k < self.full * count and k % 2 == 0):
                found.append(None)
                continue
            features, wanted = torch.stack(seen[: 2 * k + 1], 1), seen[2 * k + 1]
            driver = "gelsd" if features.device.type == "cpu" else None  # past predictions nearly depend on each other
            found.append(torch.linalg.lstsq(features, wanted[:, None], driver=driver).solution[:, 0])
        return found


class Linear(Pair):
    """The field of `LinearAdaptive`: it remembers the noise that was predicted, with the class and without, in turn.

    Args:
        model: the conditional model.
        y: classes int64 (B,).
        scale: of the guidance.
        coefficients: of each evaluation; None: all are full.
    """

    def __init__(self, model: Any, y: Tensor, scale: float, coefficients: list[Tensor | None] | None) -> None:
        super().__init__(model, y)
        self.scale, self.coefficients = scale, coefficients
        self.seen: list[Tensor] = []

    def data(self, x: Tensor, t: Tensor) -> Tensor:
        step = len(self.seen) // 2
        known = self.coefficients
        weights = known[step] if known is not None and step < len(known) else None
        if weights is None:
            self.calls += 2
            pair = self.pair(x, spread(t, x))
            self.seen += [noise_of(prediction, x, t, self.path) for prediction in pair]
        else:
            self.seen.append(noise_of(self.conditional(x, t), x, t, self.path))
            self.seen.append(torch.einsum("k,k...->...", weights.to(x), torch.stack(self.seen)))
        conditional, unconditional = self.seen[-2:]
        noise = unconditional + self.scale * (conditional - unconditional)
        return (x - self.path.sigma(t) * noise) / self.path.alpha(t)
