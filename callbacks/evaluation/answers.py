"""What a policy's own answers are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.means import mean
from callbacks.metrics.precision import precise
from callbacks.metrics.wins import distinct, length_controlled
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Anything
from modules.capabilities import AnswerWriter, ReferencedWriter

UNKNOWN = "nobody knows what answers are worth"


class Answers(Evaluation):
    """Figures of an AnswerWriter where a judge knows what answers are worth; one answer to each prompt.

    - `answer_reward`, and what else the judge says of answers: means over prompts.
    - `answer_feasible`: share of answers that keep the rules of the data, where it has any.
    - `answer_tokens`: their length, the end included, and `answer_ended`: share of answers that came to their end.
    - `answer_distinct_2`: different pairs of tokens over all pairs.
    - `recorded_win_rate`: probability that the answer is preferred to the recorded (chosen) one, by Bradley and Terry's
      model at the data's temperature.

    Of a policy with a reference also, beside an answer of the reference to the same prompt,

    - `reference_reward`, `answer_win_rate`, and `length_controlled_win_rate`: what it would be at the same length.
    - `answer_kl`: mean of ln pi / pi_ref of the policy's answers, an estimate of the divergence, nats.

    Answers are functions of the data's seed, the batch, and how many processes there are.

    Args:
        limit: prompts of a split, at least 1; None: all.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a limit below 1.
    """

    capabilities = (AnswerWriter,)
    batch_type = Anything

    def __init__(self, limit: int | None = 512, **parts: Any) -> None:
        super().__init__(**parts)
        if limit is not None and limit < 1:
            raise UserError(f"{self.name}.limit={limit}: at least one prompt.")
        self.limit = limit

    def misfit_of_records(self, data):
        records = getattr(data, "_records", None)
        if not hasattr(data, "judged"):
            return "the records are no prompts"
        dialogues = getattr(records, "dialogues", None)
        known = getattr(records, "world", None) is not None or getattr(dialogues, "judge", None) is not None
        return None if known else UNKNOWN

    def start(self, method, data) -> None:
        self.data = data
        self.rows: dict[str, list[Tensor]] = {}

    def update(self, method, batch) -> None:
        data = self.data
        positions = self.positions(data)
        rows = data.rows[self.split][positions if self.limit is None else positions[positions < self.limit]]
        if not len(rows):
            return
        prompts, lengths = (part.to(method.device) for part in data.prompts(rows))
        longest = data.answer_tokens
        with seeded(data.seed, "answers", self.split, self.batch_idx, data.share[0]):
            written = method.write_answers(prompts, lengths, longest, end=data.end)
            beside = None
            if isinstance(method, ReferencedWriter):
                beside = method.write_reference_answers(prompts, lengths, longest, end=data.end)
        judged = data.judged(rows, written.ids, written.answer)
        found = {f"answer_{name}": value for name, value in judged.items()}
        if hasattr(data, "feasible"):
            found["answer_feasible"] = data.feasible(judged).double()
        found |= {
            "answer_tokens": written.answer.sum(1),
            "answer_ended": written.ended.double(),
            "ids": whole(written.ids, data.spec.shape[0]),
            "own": whole(written.answer, data.spec.shape[0]),
        }
        if (recorded := self.recorded(data, rows)) is not None:
            found["recorded_win_rate"] = wins(found["answer_reward"], recorded, data.temperature)
        if beside is not None:
            other = data.judged(rows, beside.ids, beside.answer)["reward"]
            change = method.answer_log_probs(written.ids, written.answer) - method.reference_log_probs(
                written.ids, written.answer
            )
            found |= {
                "reference_reward": other,
                "answer_win_rate": wins(found["answer_reward"], other, data.temperature),
                "longer": found["answer_tokens"] - beside.answer.sum(1),
                "answer_kl": precise(change),
            }
        for name, values in found.items():
            self.rows.setdefault(name, []).append(values.cpu())

    @staticmethod
    def recorded(data: Any, rows: Tensor) -> Tensor | None:
        """What the recorded answers are worth (n,), where that is known."""
        scores = data.columns.get("score")
        return None if scores is None else scores.view(len(data.columns["place"]), -1)[rows, 0].double()

    def compute(self, method, data) -> Mapping[str, float]:
        names = sorted(self.rows) if self.rows else []
        merged = {name: self.rows_of_all(torch.cat(self.rows[name])) for name in names}
        if not merged:
            return {}
        figures = {name: mean(values) for name, values in merged.items() if name not in ("ids", "own", "longer")}
        figures["answer_distinct_2"] = distinct(merged["ids"], merged["own"])
        if "longer" in merged:
            figures["length_controlled_win_rate"] = length_controlled(merged["answer_win_rate"], merged["longer"])
        return figures


def wins(reward: Tensor, other: Tensor, temperature: float) -> Tensor:
    """What answers and others are worth (n,) -> probabilities that they are preferred (n,), float64."""
    return torch.sigmoid((reward.double().cpu() - other.double().cpu()) / temperature)


def whole(texts: Tensor, length: int) -> Tensor:
    """Texts (n, T) -> the same, filled up to one length."""
    return torch.nn.functional.pad(texts, (0, length - texts.shape[1]))
