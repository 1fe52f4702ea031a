"""Towards a power of the model's density."""

from __future__ import annotations

from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import along
from modules.generative.guidance.base import Conditional, Guidance


class Annealed(Guidance):
    """The score times `power`: that of p_t(x)^power, a colder law where power > 1.

    p_t^power are not the marginals of a diffusion from p_0^power. A sampler that follows this score alone samples
    another law; `sampler=feynman_kac` corrects for it by weights.

    Skreta et al. 2025, "Feynman-Kac Correctors in Diffusion: Annealing, Guidance, and Product of Experts".

    Args:
        power: of the density, above 0.

    Raises:
        UserError: a power that is none.
    """

    papers = ("skreta2025feynman",)

    def __init__(self, power: float = 2.0) -> None:
        if power <= 0:
            raise UserError(f"guidance.power={power}: a power of a density, above 0.")
        self.power = power

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Colder(model, y, self.power)


class Colder(Field):
    """The field of `Annealed`."""

    def __init__(self, model: Conditional, y: Tensor | None, power: float) -> None:
        super().__init__(model.path, lambda x, t: self.sharpened(x, t, model.denoise(x, t, y)))
        self.power = power
        self.prior_std /= power**0.5

    def sharpened(self, x: Tensor, t: Tensor, data: Tensor) -> Tensor:
        """The E[x_0 | x_t] that goes with power times the score: x / alpha + power (D - x / alpha)."""
        centre = x / along(self.path.alpha(t), x)
        return centre + self.power * (data - centre)

    def scored(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """power score, and power (power - 1) / 2 |score|^2 (B,)."""
        score = self.score(x, t)
        return score, 0.5 * (1 - 1 / self.power) * score.flatten(1).square().sum(1)
