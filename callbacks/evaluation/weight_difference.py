"""Whether two trainings ended at the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from compendium.restore import read_checkpoint
from datamodules.batches import Anything


class WeightDifference(Evaluation):
    """A method's weights w against those of another training of the same method, v.

    - `weight_difference`: max |w_i - v_i|, in float64.
    - `weights_differing`: number of weights with other bits (two NaN of the same bits are the same).

    Args:
        than: checkpoint of the other one; None: nothing is compared.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a checkpoint of other weights.
    """

    batch_type = Anything
    stages = ("test",)

    def __init__(self, than: str | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        self.than = than

    def misfit(self, method, spec):
        return None if self.than else "nobody said than what (than=null)"

    def compute(self, method, data) -> Mapping[str, float]:
        assert self.than is not None
        other = read_checkpoint(self.than, method.device)["state_dict"]
        method.fits(other, self.than)
        pairs = [(weight.detach(), other[name].to(weight)) for name, weight in method.named_parameters()]
        largest = [float((one.double() - two.double()).abs().max()) for one, two in pairs if one.numel()]
        bits = [(one.contiguous().view(torch.uint8) != two.contiguous().view(torch.uint8)) for one, two in pairs]
        apart = [each.view(one.numel(), -1).any(1).sum() for each, (one, _) in zip(bits, pairs, strict=True)]
        return {"weight_difference": max(largest, default=0.0), "weights_differing": float(sum(map(int, apart)))}
