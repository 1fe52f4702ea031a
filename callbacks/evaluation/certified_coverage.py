"""Coverage of sets of classes under attack: what is certain, and what an attacker comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Labelled
from modules.capabilities import CertifiedSetPredictor
from modules.uncertainty.conformal import exact_interval


class CertifiedCoverage(Evaluation):
    """Figures of a CertifiedSetPredictor on the first test records; attacks have a 2-norm of at most its radius.

    - `certified_coverage`: share of records whose sets hold the class under every attack, with the ends of its exact
      95% interval, `certified_low` and `certified_high`, and the counts `certified` and `attacked_records`.
    - `certificate`: what is certain from the calibration records alone, with probability 0.95.
    - `attacked_coverage`, `attacked_set_size`, and the count `attacked_covered`: under projected gradient ascent of the
      class's negative log probability (Madry et al. 2018), with gradients of the smoothed probabilities (Salman et al.
      2019), inside of the range of pictures where that is known.
    - `unattacked_coverage`, `unattacked_set_size`: of the same records as they are.
    - `broken`: how many records have a certificate and yet lose their class to the attack.

    Args:
        limit: records.
        steps: of the attack, each 2.5 radius / steps long (Madry et al.).
        draws: of the noise in each of its gradients; fresh ones in each step.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a number below 1.
    """

    capabilities = (CertifiedSetPredictor,)
    batch_type = Labelled
    stages = ("test",)

    def __init__(self, limit: int = 1000, steps: int = 10, draws: int = 16, **parts: Any) -> None:
        super().__init__(**parts)
        if min(limit, steps, draws) < 1:
            raise UserError(f"{self.name}.limit={limit}, steps={steps}, draws={draws}: from 1 on.")
        self.limit, self.steps, self.draws = limit, steps, draws

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def start(self, method, data) -> None:
        self.data, self.rows = data, [torch.empty(0, 6, dtype=torch.long)]

    def update(self, method, batch) -> None:
        fits = self.positions(self.data) < self.limit
        x, y = batch.x[fits.to(batch.x.device)], batch.y[fits.to(batch.y.device)]
        if not len(x):
            return
        with seeded(self.data.seed, "attack", self.batch_idx):
            certain = method.certified(x, y)
            clean = method.predict_set(x)
            attacked = method.predict_set(self.attack(method, x, y))
        mine = y[:, None]
        rows = [certain, clean.gather(1, mine)[:, 0], clean.sum(1), attacked.gather(1, mine)[:, 0], attacked.sum(1)]
        broken = certain & ~rows[3]
        self.rows.append(torch.stack([*(row.long() for row in rows), broken.long()], 1).cpu())

    def compute(self, method, data) -> Mapping[str, float]:
        rows = self.rows_of_all(torch.cat(self.rows))
        names = ("certified_coverage", "unattacked_coverage", "unattacked_set_size", "attacked_coverage")
        means = rows.double().mean(0).tolist() if len(rows) else [math.nan] * 6
        low, high = exact_interval(int(rows[:, 0].sum()), len(rows))
        return {
            **dict(zip((*names, "attacked_set_size"), means[:5], strict=True)),
            "certified_low": low,
            "certified_high": high,
            "certified": float(rows[:, 0].sum()),
            "attacked_covered": float(rows[:, 3].sum()),
            "attacked_records": float(len(rows)),
            "broken": float(rows[:, 5].sum()),
            "certificate": method.certificate(),
        }

    def attack(self, method: Any, x: Tensor, y: Tensor) -> Tensor:
        """Records x (B, ...) of classes y (B,) -> what an attacker makes of them, within the radius."""
        bounds = method.spec.bounds
        moved = x
        for _ in range(self.steps):
            with torch.inference_mode(False), torch.enable_grad():
                asked = moved.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(method.attack_loss(asked, y.clone(), self.draws).sum(), asked)
            step = 2.5 * method.radius / self.steps * gradient / length(gradient).clamp(min=1e-12)
            shift = moved + step - x
            shift = shift * (method.radius / length(shift).clamp(min=1e-12)).clamp(max=1)
            moved = x + shift if bounds is None else (x + shift).clamp(*bounds)
        return moved


def length(x: Tensor) -> Tensor:
    """x (B, ...) -> 2-norms of the records, of shape (B, 1, ...)."""
    return x.flatten(1).norm(dim=1).view(-1, *(1 for _ in x.shape[1:]))
