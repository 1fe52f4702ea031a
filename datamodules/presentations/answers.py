"""Prompts and answers as tokens: what all presentations of them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.datamodule import DataModule
from datamodules.presentations.speech import Speech, speech
from datamodules.presentations.tokenizers import SEPARATOR, TOKENIZERS
from datamodules.ragged import Ragged
from datamodules.source import Column, Dialogues, Source, World
from datamodules.spec import DataSpec

WINDOW = 16
"""Batches among whose records those of one length come together."""


class AnswersData(DataModule):
    """Records are a prompt with K answers, each as one text: prompt, answer, and the token that ends it.

    Texts of about the same length come in one batch, so that little of it is filled up: the order of an epoch is cut
    into windows of 16 batches, each window is put in the order of length, and the batches come in any order.

    Args:
        source: prompts with answers, as text or, in a world that can be listed, as tokens.
        tokens: `byte`, `character`, `word` (those of the training texts), or a Hugging Face model's own, by its name or
            folder; worlds that can be listed have tokens of their own.
        context: tokens that a network is to read; longer prompts lose their beginning, longer answers their end. None:
            as many as the longest prompt and the longest answer have.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: records without answers, a context that leaves no room for an answer, see `Speech`.
    """

    kinds = ("text",)
    targets = ("answer", "preference")
    answers_needed = 1
    """How many answers a record has at least."""

    speech: Speech | None = None

    def __init__(
        self, source: Source | Mapping[str, Any], *, tokens: str = "word", context: int | None = None, **parts: Any
    ) -> None:
        super().__init__(source, **parts)
        if context is not None and context < 2:
            raise UserError(f"datamodule.context={context}: a prompt and an answer have two tokens at least.")
        self.tokens, self.context = tokens, context
        self._columns: dict[str, Column] = {}

    # What presentations, evaluations and rollouts use

    @property
    def world(self) -> World:
        """What answers are worth, over all prompts and answers.

        Raises:
            UserError: the answers cannot be listed.
        """
        self.setup()
        assert self._records is not None
        if self._records.world is None:
            raise UserError(
                f"the answers of '{self._records.spec.name}' cannot be listed.", "data that would do: bandit"
            )
        return self._records.world

    @property
    def dialogues(self) -> Dialogues | None:
        """The records as text, where they are."""
        self.setup()
        assert self._records is not None
        return self._records.dialogues

    @property
    def tokenizer(self) -> Speech | None:
        """How texts become tokens; None where they always were."""
        self.setup()
        return self.speech

    @property
    def end(self) -> int | None:
        """The token that ends an answer; None where all answers are of one length."""
        return None if self.speech is None else self.speech.end

    @property
    def answer_tokens(self) -> int:
        """Tokens of the longest answer, its end included."""
        self.setup()
        return self._longest_answer

    @property
    def columns(self) -> Mapping[str, Column]:
        """`ids`, all texts: the K of record 0, of record 1, ...; `length` and `prompt_length` of each int64 (N K,);
        `place` int64 (N,), which training record a record is, or -1; `score` float32 (N K,), where they have one.
        """
        self.setup()
        return self._columns

    def prompts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows int64 (B,) -> prompts int64 (B, T), filled up with 0, and their lengths int64 (B,)."""
        ids, length = self._columns["ids"], self._columns["prompt_length"]
        lengths = length[rows * self._answers]
        return ids[rows * self._answers][:, : int(lengths.max())], lengths

    def judged(self, rows: Tensor, ids: Tensor, answer: Tensor) -> dict[str, Tensor]:
        """What answers are worth.

        Args:
            rows: which records' prompts they answer, int64 (n,).
            ids: texts int64 (n, T).
            answer: which tokens are the answer's, bool (n, T).

        Returns:
            `reward` float64 (n,), and what it is made of.

        Raises:
            UserError: nobody knows.
        """
        assert self._records is not None
        rows, ids, answer = rows.cpu(), ids.cpu(), answer.cpu()
        if (world := self._records.world) is not None:
            said = ids[answer].view(len(ids), -1)
            which = (said[:, None] == world.answers).all(2)
            reward = (world.reward[self._records.columns["prompt"][rows]] * which).sum(1)
            return {"reward": torch.where(which.any(1), reward, world.reward.min())}
        dialogues = self.dialogues
        if dialogues is None or dialogues.judge is None:
            raise UserError(
                f"nobody knows what an answer is worth in '{self._records.spec.name}'.",
                "take data with a judge (data=requests, arithmetic, bandit), or a reward model: "
                "datamodule.reward=CHECKPOINT",
            )
        prompts = [dialogues.prompts[row] for row in rows.tolist()]
        return dialogues.judge.judge(prompts, self.spoken(ids, answer))

    def spoken(self, ids: Tensor, answer: Tensor) -> list[str]:
        """Texts int64 (n, T) and which tokens are the answer's, bool (n, T) -> the answers as text."""
        assert self.speech is not None
        return [self.speech.decode(one[mine]) for one, mine in zip(ids.cpu(), answer.cpu(), strict=True)]

    @property
    def temperature(self) -> float:
        """Of preferences under the judge."""
        dialogues = self.dialogues
        return 1.0 if dialogues is None else dialogues.preference

    # Tokens

    def describe(self, spec: DataSpec) -> DataSpec:
        assert self._records is not None
        if self._records.world is not None:
            ids, prompt_length = self._listed()
            context = int(ids.lengths.max())
        else:
            ids, prompt_length, context = self._cut(*self._spoken(spec.name))
            context = max(context, self._room_for_reasons(ids, prompt_length))
        self._hold(ids, prompt_length)
        vocabulary = spec.vocabulary if self.speech is None else self.speech.vocabulary
        return spec.but(shape=(context,), vocabulary=vocabulary)

    def _hold(self, ids: Ragged, prompt_length: Tensor) -> None:
        """Keep texts as columns."""
        length = ids.lengths
        self._columns = {
            "ids": ids, "length": length, "prompt_length": prompt_length, "place": self.training_places(),
        }  # fmt: skip
        self._longest = length.view(-1, self._answers).amax(1)
        if (scores := self._scores()) is not None:
            self._columns["score"] = scores.flatten()

    def narrow(self, rows: Mapping[str, Tensor]) -> None:
        """Have these rows of a split, by its name, and no others; for presentations that leave records out."""
        self.rows |= rows
        assert self._spec is not None
        self._columns["place"] = self.training_places()
        self._spec = self._spec.but(sizes={split: len(kept) for split, kept in self.rows.items()})

    def _room_for_reasons(self, ids: Ragged, prompt_length: Tensor) -> int:
        """Tokens of the longest text with both answers and a reason; 0 where nobody gives any."""
        if self.dialogues is None or not self.dialogues.reasons:
            return 0
        assert self.speech is not None
        longest = max(len(self.speech.encode(reason)) for reason in self.dialogues.reasons) + 1
        return int(prompt_length.max()) + 2 * self._longest_answer + longest

    def _cut(self, prompts: list[Tensor], answers: list[Tensor]) -> tuple[Ragged, Tensor, int]:
        """Prompts and answers -> texts that the context has room for, the lengths of their prompts, and the context."""
        self._longest_answer = max((len(answer) for answer in answers), default=0)
        context = max(map(len, prompts)) + self._longest_answer
        if self.context is not None and context > self.context:
            answers = [answer[: self.context - 1] for answer in answers]
            self._longest_answer = min(self._longest_answer, self.context - 1)
            prompts = [
                prompt[len(prompt) - min(len(prompt), self.context - len(answer)) :]
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
        context = self.context or context
        texts = Ragged([torch.cat(pair) for pair in zip(prompts, answers, strict=True)])
        return texts, torch.tensor([len(prompt) for prompt in prompts]), context

    def _listed(self) -> tuple[Ragged, Tensor]:
        """Texts of a world that can be listed, one after the other, and the lengths of their prompts."""
        world, own = self.world, self.source_columns
        self._answers, self._longest_answer = 2, world.answers.shape[1]
        pair = torch.stack([own["chosen"], own["rejected"]], 1).flatten()
        prompts = world.prompts[own["prompt"].repeat_interleave(2)]
        texts = torch.cat([prompts, world.answers[pair]], 1)
        return Ragged.even(texts), torch.full((len(texts),), prompts.shape[1])

    def _spoken(self, name: str) -> tuple[list[Tensor], list[Tensor]]:
        """Prompts and answers that are text, one after the other; a prompt without answers has an empty one."""
        dialogues = self.dialogues
        if dialogues is None:
            raise UserError(f"'{name}' has no prompts with answers.", "data that would do: dialogues, requests")
        found = {len(answers) for answers in dialogues.answers}
        self._answers = max(1, min(found))
        if min(found) < self.answers_needed:
            raise UserError(
                f"{type(self).__name__} needs {self.answers_needed} answers to each prompt; "
                f"'{name}' has records with {min(found)}."
            )
        learned = (
            SEPARATOR.join([*self._training_texts(dialogues), *dialogues.words]) if self.tokens in TOKENIZERS else ""
        )
        self.speech = speech(self.tokens, learned)
        pairs = [
            self.speech.encoded(prompt, answer)
            for prompt, answers in zip(dialogues.prompts, dialogues.answers, strict=True)
            for answer in (answers[: self._answers] or (None,))
        ]
        prompts, answers = zip(*pairs, strict=True)
        return list(prompts), list(answers)

    def _training_texts(self, dialogues: Dialogues) -> Iterator[str]:
        for row in self.rows["train"].tolist():
            for text in (dialogues.prompts[row], *dialogues.answers[row]):
                if isinstance(text, str):
                    yield text
                else:
                    yield from (part for message in text for part in (message["role"], ": ", message["content"], "\n"))
            if dialogues.reasons:
                yield dialogues.reasons[row]

    def _scores(self) -> Tensor | None:
        """What the recorded answers are worth (N, K) float32, where that is known."""
        assert self._records is not None
        if (world := self._records.world) is not None:
            own = self._records.columns
            pair = torch.stack([own["chosen"], own["rejected"]], 1)
            return world.reward.float()[own["prompt"][:, None], pair]
        scores = self._records.dialogues.scores if self._records.dialogues is not None else None
        return None if scores is None else scores[:, : self._answers].float()

    # Batches

    def plan(self, epoch: int) -> list[Tensor]:
        """Rows of each global batch of one epoch, those of about one length together."""
        draw = generator(self.seed, "order", epoch)
        rows = self.rows["train"]
        order = rows[torch.randperm(len(rows), generator=draw)]
        length = self._longest
        if bool((length == length[0]).all()):
            return self.cut(order)
        windows = [window[length[window].argsort(stable=True)] for window in order.split(WINDOW * self.batch_size)]
        batches = self.cut(torch.cat(windows))
        return [batches[number] for number in torch.randperm(len(batches), generator=draw).tolist()]

    def take(self, columns: Mapping[str, Column], rows: Tensor, split: str) -> dict[str, Tensor]:
        numbers = rows[:, None] * self._answers + torch.arange(self._answers, device=rows.device)
        alone = {"place": columns["place"][rows], "row": rows}
        return {name: column[numbers] for name, column in columns.items() if name not in alone} | alone


def answers_of(columns: Mapping[str, Tensor]) -> Tensor:
    """Columns of a batch -> which tokens are the answers', bool (B, K, T)."""
    place = torch.arange(columns["ids"].shape[-1], device=columns["ids"].device)
    begun = place >= columns["prompt_length"][..., None]
    return begun & (place < columns["length"][..., None])
