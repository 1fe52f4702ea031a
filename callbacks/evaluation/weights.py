"""How large the weights of a method are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.linalg import vector_norm

from callbacks.evaluation.base import Evaluation
from compendium.errors import UserError
from datamodules.batches import Anything


class Weights(Evaluation):
    """Norms of all trained weights, taken as one vector w.

    - `weights_l{p}` for each p of `norms`: (sum |w_i|^p)^(1/p); `weights_linf`: max |w_i|.

    Args:
        norms: exponents above 0, or `inf`; none: no figures.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: an exponent that is no number above 0.
    """

    batch_type = Anything
    stages = ("test",)

    def __init__(self, norms: Sequence[float | str] = (), **parts: object) -> None:
        super().__init__(**parts)  # type: ignore[arg-type]
        try:
            self.norms = [float(norm) for norm in norms]
        except ValueError:
            self.norms = [-1.0]
        if not all(norm > 0 for norm in self.norms):
            raise UserError(f"{self.name}.norms={list(norms)}: numbers above 0, or inf.")

    def misfit(self, method, spec):
        return None if self.norms else "nobody asked for norms (norms=[])"

    def compute(self, method, data) -> Mapping[str, float]:
        weights = [weight.detach().double().flatten() for weight in method.parameters() if weight.requires_grad]
        whole = torch.cat(weights) if weights else torch.zeros(1)
        return {f"weights_l{norm:g}": float(vector_norm(whole, norm)) for norm in self.norms}
