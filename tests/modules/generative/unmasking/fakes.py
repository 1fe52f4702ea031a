"""A masked diffusion model whose conditionals are given, and the laws that samplers of it should have."""

from __future__ import annotations

from itertools import permutations, product
from types import SimpleNamespace

import torch
from torch import Tensor

from modules.generative.masked_diffusion import SCHEDULES


class Tabulated:
    """p(x^i | z) for each z in {0 .. V-1, m}^T, drawn at random: conditionals of no joint law, as a network's are."""

    def __init__(self, length: int, vocabulary: int, schedule: str = "linear", seed: int = 0) -> None:
        self.length, self.mask = length, vocabulary
        self.masking = SCHEDULES[schedule]
        draw = torch.Generator().manual_seed(seed)
        shape = (vocabulary + 1,) * length + (length, vocabulary)
        self.table = (2 * torch.randn(shape, generator=draw, dtype=torch.float64)).log_softmax(-1)
        self.calls = 0

    def log_probs(self, z: Tensor) -> Tensor:
        self.calls += 1
        return self.table[tuple(z.T)]

    def masks(self, n: int) -> Tensor:
        return torch.full((n, self.length), self.mask)

    def in_random_order(self) -> Tensor:
        """The law of filling in one mask after the other, averaged over all orders: (V,) * T."""
        law = torch.zeros((self.mask,) * self.length, dtype=torch.float64)
        orders = list(permutations(range(self.length)))
        for x in product(range(self.mask), repeat=self.length):
            for order in orders:
                z, p = [self.mask] * self.length, 1.0
                for place in order:
                    p *= float(self.table[(*z, place, x[place])].exp())
                    z[place] = x[place]
                law[x] += p / len(orders)
        return law

    def after(self, steps) -> Tensor:
        """The law of z after steps of independent moves, by summing over all paths: (V + 1,) * T."""
        states = list(product(range(self.mask + 1), repeat=self.length))
        law = {state: float(all(token == self.mask for token in state)) for state in states}
        for step in steps:
            moved = dict.fromkeys(states, 0.0)
            for state, mass in law.items():
                if mass == 0:
                    continue
                moves = [self.moves(state, place, step) for place in range(self.length)]
                for end in states:
                    p = mass
                    for place, token in enumerate(end):
                        p *= moves[place].get(token, 0.0)
                    moved[end] += p
            law = moved
        return torch.tensor([law[state] for state in states], dtype=torch.float64).view((self.mask + 1,) * self.length)

    def moves(self, state, place, step) -> dict[int, float]:
        """Where a place may go, by equations 6 and 7 of Wang et al. 2025."""
        if state[place] != self.mask:
            return {state[place]: 1 - step.sigma, self.mask: step.sigma}
        p = self.table[(*state, place)].exp().tolist()
        a, b, sigma = step.alpha_t, step.alpha_s, step.sigma
        found = {token: (b - (1 - sigma) * a) / (1 - a) * q for token, q in enumerate(p)}
        return found | {self.mask: (1 - b - sigma * a) / (1 - a)}


def frequencies(drawn: Tensor, values: int) -> Tensor:
    """Draws (n, T) of 0 .. values - 1 -> their shares (values,) * T."""
    index = (drawn * values ** torch.arange(drawn.shape[1] - 1, -1, -1)).sum(1)
    shares = index.bincount(minlength=values ** drawn.shape[1]).double() / len(drawn)
    return shares.view((values,) * drawn.shape[1])


def far(shares: Tensor, law: Tensor, n: int) -> float:
    """The largest distance of shares of n draws from a law, in standard errors."""
    error = (law * (1 - law) / n).sqrt().clamp(min=1e-9)
    return float(((shares - law).abs() / error).max())


def constant(*probabilities: float) -> SimpleNamespace:
    """A model of two places that always gives the same law."""
    log_p = torch.tensor(probabilities, dtype=torch.float64).log()
    return SimpleNamespace(
        mask=len(probabilities),
        masking=SCHEDULES["linear"],
        log_probs=lambda z: log_p.expand(*z.shape, len(probabilities)),
    )
