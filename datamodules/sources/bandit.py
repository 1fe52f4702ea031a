"""Prompts with a few answers each, whose worth is known, and preferences between them."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source, World
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec


class Bandit(Source):
    """The smallest world of preferences: each prompt and each answer is one token, and everything can be listed.

        r(x, a) = scale * N(0, 1)                    what an answer is worth
        mu(a | x) ~ exp(N(0, 1) * sharpness + tilt * r(x, a) / scale)     who wrote the recorded answers
        P(a is preferred to b) = 1 / (1 + exp(-(r(x, a) - r(x, b)) / temperature))     Bradley and Terry 1952

    Prompts are even; the answers of a pair are drawn from mu, the second one until it differs from the first. Of the
    answers to a prompt a share `unseen` is never recorded: mu is 0 there. `tilt` below 0 makes good answers rare.

    With several `attributes` an answer is worth r_1, r_2, ..., drawn independently; r, and with it the preferences and
    mu's tilt, is one of them by `judge`, or their mean. Everything else of the world stays the same, tilt 0 provided.

    Columns: `prompt`, `chosen`, `rejected` int64 (N,). Tokens of prompts are 0 ... prompts - 1, those of answers
    0 ... answers - 1: what comes after a prompt is an answer.

    Args:
        prompts: at most as many as answers.
        answers: to each, at least 2.
        scale: standard deviation of the rewards, above 0.
        temperature: of the preferences, above 0.
        sharpness: how far mu is from even, at least 0.
        tilt: towards good answers.
        unseen: share of the answers to a prompt that are never recorded, in [0, 1); two are always.
        attributes: in how many respects answers are worth something, at least 1.
        judge: the attribute that r is, from 0; None: their mean.
        train: pairs.
        validation: pairs.
        test: pairs.
        seed: what the world and the pairs are a function of.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        prompts: int = 8,
        answers: int = 16,
        scale: float = 1.0,
        temperature: float = 1.0,
        sharpness: float = 1.0,
        tilt: float = 0.0,
        unseen: float = 0.0,
        attributes: int = 1,
        judge: int | None = None,
        train: int = 2000,
        validation: int = 500,
        test: int = 1000,
        seed: int = 0,
    ) -> None:
        if answers < 2 or not 1 <= prompts <= answers:
            raise UserError(f"data.prompts={prompts} data.answers={answers}: 1 to as many as answers, and at least 2.")
        if scale <= 0 or temperature <= 0 or sharpness < 0 or not 0 <= unseen < 1:
            raise UserError(
                f"data.scale={scale} data.temperature={temperature} data.sharpness={sharpness} data.unseen={unseen}: "
                "above 0, above 0, at least 0, and in [0, 1)."
            )
        if attributes < 1 or not (judge is None or 0 <= judge < attributes):
            raise UserError(f"data.attributes={attributes} data.judge={judge}: at least 1, and one of them or null.")
        self.sizes = split_sizes(train, validation, test, "pair")
        self.attributes, self.judge = attributes, judge
        self.prompts, self.answers, self.scale, self.temperature = prompts, answers, scale, temperature
        self.sharpness, self.tilt, self.unseen, self.seed = sharpness, tilt, unseen, seed

    def world(self) -> World:
        """Rewards and the law of recorded answers."""
        draw = generator(self.seed, "bandit")
        shape = (self.prompts, self.answers)
        first = torch.randn(shape, generator=draw, dtype=torch.float64)
        more = torch.randn(
            (self.attributes - 1, *shape), generator=generator(self.seed, "bandit attributes"), dtype=torch.float64
        )
        attributes = self.scale * torch.cat([first[None], more])
        reward = attributes.mean(0) if self.judge is None else attributes[self.judge]
        logits = self.sharpness * torch.randn(shape, generator=draw, dtype=torch.float64)
        logits = logits + self.tilt * reward / self.scale
        hidden = min(self.answers - 2, round(self.unseen * self.answers))
        order = torch.rand(shape, generator=draw, dtype=torch.float64).argsort(1).argsort(1)
        behaviour = logits.masked_fill(order < hidden, -torch.inf).softmax(1)
        ids = torch.arange(self.prompts)[:, None], torch.arange(self.answers)[:, None]
        return World(*ids, reward, behaviour, attributes)

    def load(self) -> Records:
        world = self.world()
        draw = generator(self.seed, "bandit pairs")
        total = sum(self.sizes.values())
        prompt = torch.randint(self.prompts, (total,), generator=draw)
        pair = world.behaviour[prompt].multinomial(2, replacement=False, generator=draw)
        first = torch.rand(total, generator=draw, dtype=torch.float64) < self.preferred(world, prompt, pair)
        chosen, rejected = torch.where(first, pair.T, pair.flip(1).T)
        spec = DataSpec("bandit", "text", (2,), target="preference", vocabulary=self.answers)
        columns = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        return Records(spec, columns, splits=consecutive(self.sizes), world=world)

    def preferred(self, world: World, prompt: Tensor, pair: Tensor) -> Tensor:
        """Prompts (N,) and pairs of answers (N, 2), by number -> probability that the first one is preferred (N,)."""
        worth = world.reward[prompt].gather(1, pair)
        return torch.sigmoid((worth[:, 0] - worth[:, 1]) / self.temperature)
