"""New parts for new classes."""

from __future__ import annotations

from torch import nn

from compendium.errors import UserError
from modules.networks.adapters.base import Adapter
from modules.networks.factored import Factored
from modules.networks.time import Conditioning


class Tailors(Adapter):
    """KIND: the parts of a `FactoredDiT` that all classes share stay, those of classes are drawn anew and trained.

    Xie et al. 2024, "KIND: Knowledge Integration and Diversion in Diffusion Models".
    """

    papers = ("xie2024kind",)

    def attach(self, net: nn.Module) -> None:
        factored = [part for part in net.modules() if isinstance(part, Factored)]
        if not factored:
            raise UserError("adapter=tailors changes the class parts of a net=factored_dit, and this net has none.")
        net.requires_grad_(False)
        labels = [part.label for part in net.modules() if isinstance(part, Conditioning) and part.label is not None]
        for layer in factored:
            layer.tailor(labels[0].num_embeddings - 1)
