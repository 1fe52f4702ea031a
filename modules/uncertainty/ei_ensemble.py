"""Expected improvement by an ensemble of networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.networks.stacked import Stacked
from modules.uncertainty.processes import standardised
from modules.uncertainty.sequential import NetworkSearch


class EIEnsemble(NetworkSearch):
    """Expected improvement with the mean of K networks and their variance around it.

    A baseline of Lahlou et al. 2022, with K = 3 (`examples/SMO/main.py` of their code). The variance has the divisor
    K - 1. All networks are one batched network and learn from the same points.

    Args:
        spec: vectors with a real response.
        members: K, at least 2.
        parts: the arguments of `NetworkSearch`. `net` is a config: each member is built from it.

    Raises:
        UserError: fewer than two members.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], members: int = 3, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if members < 2:
            raise UserError(f"model.members={members}: at least 2, or there is no variance.")
        self.net = Stacked([self.build(self.spec.shape, (1,)) for _ in range(members)])

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        points, responses = self.measured()
        y, shift, scale = standardised(responses)
        self.learn(self.net, points, y)
        said = self.net(x.float()).double().squeeze(-1)
        return shift + scale * said.mean(0), scale**2 * said.var(0)
