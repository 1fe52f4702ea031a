"""Categorical draws by the Gumbel-max trick, in a precision of one's choice."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError

PRECISIONS = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def precision_of(name: str) -> torch.dtype:
    """The type of a name.

    Raises:
        UserError: there is none.
    """
    if name not in PRECISIONS:
        raise UserError(f"model.unmasking.precision={name} is unknown.", f"there are: {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def categorical(log_weights: Tensor, precision: torch.dtype) -> Tensor:
    """Indices (...) drawn with probabilities proportional to exp(log_weights) (..., K): argmax of log_weights + G.

    G = -ln(-ln u), u uniform. In b bits u is at most 1 - 2^-b, with b = 24 in float32, 53 in float64, 11 in float16 and
    8 in bfloat16, and G at most about b ln 2: a category far behind the leading one never wins, one of small relative
    weight w with probability d / (exp(d / w) - 1) < w, d = 2^-b. The law that is drawn from has less entropy than
    the one that was asked for (Zheng et al. 2024, section 5).
    """
    u = torch.rand(log_weights.shape, device=log_weights.device, dtype=precision)
    # It is u that is coarse; its logarithms are as exact as the finer of the two types.
    # Of few bits u is often 0, and a wait without end would hand the draw to any other category, however rare: 1e-10
    # is the bound of published samplers.
    wait = -u.to(torch.promote_types(precision, log_weights.dtype)).clamp(min=1e-10).log()
    return (log_weights - wait.log()).argmax(-1)
