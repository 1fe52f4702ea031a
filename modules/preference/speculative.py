"""Speculative decoding: a policy writes what it would, in fewer passes, from what a faster one proposes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.preference.decoded import Decoded


class Speculative(Decoded):
    """The policy of the base, written in passes over several tokens that a `draft` proposes (Leviathan et al. 2023).

    Its law is the base's, whatever the draft; see `modules.language.readers.Speculator` for why. With g tokens ahead
    and a share a of proposed tokens that are kept, independent of each other, a pass of the base writes
    (1 - a^(g + 1)) / (1 - a) tokens of one text (theirs, from memory). In a batch all texts go on as far as the one
    that keeps the fewest.

    The base may itself be decoded: `EmulatedFineTuning`, a large policy with the change of a small one, has the small
    one as a natural draft.

    Args:
        spec: text with answers.
        model: checkpoint of the base.
        draft: checkpoint of a faster policy of the same vocabulary.
        ahead: tokens that are proposed at a time, at least 1; 4 is of the paper's order, from memory.
        parts: `net`, see `Decoded`; parts without a checkpoint are the network as it begins.

    Raises:
        UserError: nothing proposed, see `Decoded`.
    """

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        model: str | Mapping[str, Any] | None = None,
        draft: str | Mapping[str, Any] | None = None,
        ahead: int = 4,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if ahead < 1:
            raise UserError(f"model.ahead={ahead}: at least one token is proposed.")
        self.ahead = ahead
        self.net = self.net_of(self.opened("model", model))
        self.draft = self.net_of(self.opened("draft", draft))

    @property
    def anchor(self) -> nn.Module:
        return self.net

    @property
    def writing(self) -> Mapping[str, Any]:
        return {"draft": self.draft, "ahead": self.ahead}
