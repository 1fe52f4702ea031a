"""The precision in which figures are computed."""

from __future__ import annotations

from torch import Tensor


def precise(values: Tensor) -> Tensor:
    """The values in float64; on the CPU where their device has no float64 (Apple's)."""
    return (values.cpu() if values.device.type == "mps" else values).double()
