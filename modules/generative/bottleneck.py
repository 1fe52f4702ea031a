"""What autoencoders with a vector in the middle have in common."""

from __future__ import annotations

from torch import Tensor, nn

from compendium.errors import UserError
from modules.method import Method


class Bottleneck(nn.Module):
    """A record through a vector of few components and back.

    Args:
        encoder: records (B, ...) -> z (B, latent).
        decoder: z (B, latent) -> records (B, ...).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """Records (B, ...) -> what is left of them (B, ...)."""
        return self.decoder(self.encoder(x))


def bottleneck(method: Method, latent: int) -> Bottleneck:
    """The bottleneck of `latent` components that a method's `net` makes for its records.

    Raises:
        UserError: no component.
    """
    if latent < 1:
        raise UserError(f"model.latent={latent}: at least one component.")
    shape = method.spec.shape
    return Bottleneck(method.build(shape, (latent,)), method.build((latent,), shape))
