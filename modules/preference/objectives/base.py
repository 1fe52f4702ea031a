"""What every objective of preferences has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from compendium.errors import UserError


class Pairs(NamedTuple):
    """What objectives look at, (B,) each: ln pi and ln pi_ref of the chosen and the rejected answer, summed over their
    tokens, how many tokens these have, what they are worth, where somebody has scored them, and whether the reference
    wrote them, where they were just written.

    Of a policy that also revises answers, `revised` (B, 2, 2) is ln pi / pi_ref of each answer after each: [:, i, j] of
    j where i stood before, 0 the chosen and 1 the rejected one.

    `mismatched` (2 B,) is ln pi / pi_ref of answers after the prompt of the pair before theirs, without gradients, for
    objectives that ask for it.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_length: Tensor
    rejected_length: Tensor
    chosen_score: Tensor | None = None
    rejected_score: Tensor | None = None
    chosen_by_reference: Tensor | None = None
    rejected_by_reference: Tensor | None = None
    revised: Tensor | None = None
    mismatched: Tensor | None = None

    @property
    def chosen_ratio(self) -> Tensor:
        """ln pi / pi_ref of the chosen answers (B,)."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_ratio(self) -> Tensor:
        """ln pi / pi_ref of the rejected answers (B,)."""
        return self.rejected - self.reference_rejected

    @property
    def margin(self) -> Tensor:
        """ln pi / pi_ref of the chosen answer minus that of the rejected one (B,)."""
        return self.chosen_ratio - self.rejected_ratio

    @property
    def scores(self) -> tuple[Tensor, Tensor]:
        """What the chosen and the rejected answers are worth (B,) each.

        Raises:
            UserError: nobody has scored them.
        """
        if self.chosen_score is None or self.rejected_score is None:
            raise UserError("this objective looks at scores, and the pairs have none.", "datamodule=scored_pairs")
        return self.chosen_score, self.rejected_score

    @property
    def nll(self) -> Tensor:
        """-(sum of ln pi of the chosen answers) / (number of their tokens), nats per token ()."""
        return -self.chosen.sum() / self.chosen_length.sum()


class Objective(ABC):
    """A loss of preferred pairs."""

    needs_reference: ClassVar[bool] = True
    """Whether it looks at ln pi_ref."""
    needs_mismatched: ClassVar[bool] = False
    """Whether it looks at answers to other prompts, `Pairs.mismatched`."""

    @abstractmethod
    def __call__(self, pairs: Pairs) -> Tensor | dict[str, Tensor]:
        """Pairs -> the loss (), or its terms by name."""


def positive(**values: float) -> None:
    """Refuse arguments that are not above 0.

    Raises:
        UserError: names the first of them.
    """
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"model.objective.{name}={value}: it is above 0.")


def not_negative(**values: float) -> None:
    """Refuse arguments below 0.

    Raises:
        UserError: names the first of them.
    """
    for name, value in values.items():
        if not value >= 0:
            raise UserError(f"model.objective.{name}={value}: it is at least 0.")
