"""How a flow stretches what it carries."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.samplers.ddim import moved


def singular_values(field: Field, x: Tensor, times: Tensor) -> Tensor:
    """Singular values of d x_t / d x_start along DDIM steps, falling, float64 (steps, B, D).

    Args:
        field: the model.
        x: noise (B, ...) at times[0].
        times: falling (steps + 1,).
    """
    units = x[0].numel()
    jacobian = torch.eye(units, dtype=torch.float64, device=x.device).expand(len(x), units, units)
    found = []
    for s, t in pairwise(times):
        with torch.enable_grad():
            before = x.detach().requires_grad_()
            x = moved(field, field.data(before, s), before, s, t)
            # Records do not see each other, so that a gradient of a sum over records is one of each.
            sums = x.flatten(1).sum(0)
            rows = [torch.autograd.grad(part, before, retain_graph=True)[0].flatten(1) for part in sums]
        jacobian = torch.stack(rows, 1).double() @ jacobian
        found.append(torch.linalg.svdvals(jacobian))
    return torch.stack(found)
