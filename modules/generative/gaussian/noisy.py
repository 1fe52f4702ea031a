"""Networks that judge noisy records: classifiers and values of x_t."""

from __future__ import annotations

from torch import Tensor, nn

from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.weightings import times_of


class Judge(nn.Module):
    """A network of x_t and t whose input is scaled to a variance of about 1, as that of `Diffusion` is.

    Args:
        net: (B, ...), (B,) in [0, 1] -> (B, outputs).
        path: of the noise.
        data_std: standard deviation of the data.
    """

    def __init__(self, net: nn.Module, path: Path, data_std: float) -> None:
        super().__init__()
        self.net, self.path, self.data_std = net, path, data_std

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, ...), t (B,) -> (B, outputs)."""
        return self.net(self.path.scaled(x, t, self.data_std), self.path.conditioning(t))


def noised(path: Path, times: str, data: Tensor) -> tuple[Tensor, Tensor]:
    """Records (B, ...) -> x_t (B, ...) and its random times (B,), of the law `times` of `weightings.py`."""
    t = times_of(times, path, len(data), data)
    return path.noised(data, t, path.noise(data)), t
