"""Where records come from, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from datamodules.spec import DataSpec


@runtime_checkable
class Column(Protocol):
    """One field of all records, indexed by whole batches.

    A tensor is one: it stays in memory, on the device where there is one. Data that does not fit gives an object of
    its own that reads the asked-for rows.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Rows (B,) int64 -> values (B, ...)."""
        ...


@runtime_checkable
class Truth(Protocol):
    """The exact law of generated data."""

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> natural log of the density (B,)."""
        ...

    def score(self, x: Tensor) -> Tensor:
        """x (B, D) -> gradient of the log density (B, D)."""
        ...

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact samples (n, D)."""
        ...


class Reader(Protocol):
    """Tells whether pictures show what captions say."""

    def judge(self, x: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:
        """Pictures float (n, C, H, W) in [0, 1] and n captions -> figures (n,) each, NaN for what is not asked."""
        ...


@dataclass
class Captions:
    """What is said of pictures.

    Attributes:
        texts: a caption per record.
        words: all words that there are, where the source knows them; empty: those of the training captions.
        objects: what is seen in each record, and its box (left, top, width, height) in pixels; empty where unknown.
        reader: who tells whether a picture shows what a caption says, where somebody can.
    """

    texts: Sequence[str]
    words: Sequence[str] = ()
    objects: Sequence[Sequence[tuple[str, tuple[float, float, float, float]]]] = ()
    reader: Reader | None = None


Text = str | Sequence[Mapping[str, str]]
"""A text, or the messages of a conversation, each with its `role` and its `content`."""


class Judge(Protocol):
    """Tells what answers are worth."""

    def judge(self, prompts: Sequence[Text], answers: Sequence[str]) -> dict[str, Tensor]:
        """n prompts and an answer to each -> `reward` float64 (n,), and by other names what it is made of."""
        ...


@dataclass
class Dialogues:
    """Prompts with answers, as text.

    Attributes:
        prompts: of N records.
        answers: to each prompt, as many to all; where the target is a `preference`, the chosen one comes first.
        scores: what the answers are worth (N, K), float, where somebody has scored them.
        judge: who tells what any answer is worth, where somebody can.
        preference: P(a is preferred to b) = sigma((r_a - r_b) / temperature) under that judge: the temperature.
        reasons: why the first answer to each prompt is preferred to the second one, where somebody has said so.
        kinds: of what each record is an example, by names; evaluations give figures of each.
        bare: the same prompts without principles or examples that stand before them, where any do.
        words: all words that there are, where the source knows them, for tokenizers of words; empty: those of training.
    """

    prompts: Sequence[Text]
    answers: Sequence[Sequence[Text]]
    scores: Tensor | None = None
    judge: Judge | None = None
    preference: float = 1.0
    bare: Sequence[Text] = ()
    words: Sequence[str] = ()
    reasons: Sequence[str] = ()
    kinds: Sequence[Sequence[str]] = ()


@dataclass
class World:
    """What answers are worth, where all of them can be listed.

    Attributes:
        prompts: ids int64 (P, T_p) of all prompts, of one length.
        answers: ids int64 (A, T_a) of all answers to any of them, of one length.
        reward: what each answer is worth (P, A), float64.
        behaviour: probabilities (P, A), float64, with which recorded answers were drawn.
        attributes: what each answer is worth in each of K respects (K, P, A), float64, where `reward` is made of them.
        preference: probability that an answer is preferred to another (P, A, A), float64, where rewards do not say it.
    """

    prompts: Tensor
    answers: Tensor
    reward: Tensor
    behaviour: Tensor
    attributes: Tensor | None = None
    preference: Tensor | None = None

    @property
    def wins(self) -> Tensor:
        """Probability that an answer is preferred to another (P, A, A): `preference`, or Bradley and Terry's model at
        temperature 1.
        """
        if self.preference is not None:
            return self.preference
        return torch.sigmoid(self.reward[:, :, None] - self.reward[:, None])


@dataclass
class Records:
    """What a source loads.

    Attributes:
        spec: shapes and names; `sizes` is filled in by the DataModule, once it has split the records.
        columns: `x`, and `y` where there is a target, each with one row per record. Images come as float32
            (N, C, H, W) in [0, 1], vectors as float32 (N, D) in their own units, classes as int64 (N,), real
            targets as float32 (N,). In the place of `y` a mask is `segments` int64 (N, H, W), and points are `points`
            float32 (N, P, 2), to the right and down, -1 and 1 at the edges. What else is known of pictures has the
            names and shapes of `datamodules.batches.Surveyed` and `Boxed`.
        documents: for `text`, the documents per split (`train` alone if the source does not split); no columns.
        splits: row numbers of the splits that the source itself defines; the DataModule makes the missing ones.
        truth: the exact law, where the records were drawn from a known density.
        captions: of pictures, where there are any.
        dialogues: prompts with answers, as text; no columns.
        world: what answers are worth, where all of them can be listed.
    """

    spec: DataSpec
    columns: Mapping[str, Column] = field(default_factory=dict)
    documents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    splits: Mapping[str, Tensor] = field(default_factory=dict)
    truth: Truth | None = None
    captions: Captions | None = None
    dialogues: Dialogues | None = None
    world: World | None = None

    @property
    def size(self) -> int:
        """Number of records; 0 of documents."""
        if self.columns:
            return len(next(iter(self.columns.values())))
        return 0 if self.dialogues is None else len(self.dialogues.prompts)


class Source(ABC):
    """Parent of every `data=` choice.

    A source's constructor only stores its arguments; `load` reads. `seed` arguments default to a fixed number, not
    to the run's: two runs that differ in their seed see the same data.
    """

    @abstractmethod
    def load(self) -> Records:
        """Read or draw the records.

        Raises:
            UserError: a file that is missing or does not decode, a cell that is no number, an empty set, NaN.
        """
