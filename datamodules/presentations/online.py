"""Records that the policy itself writes while it learns: rollouts, and pairs of answers that are compared at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.collectives import rows_of_all
from compendium.errors import UserError
from compendium.seeding import derive
from datamodules.batches import Demonstrations, JudgedRollouts, OnlinePairs, Preferences, Rollouts
from datamodules.presentations.answers import AnswersData, answers_of
from datamodules.source import Source
from datamodules.sources.checks import known
from datamodules.spec import DataSpec
from modules.capabilities import AnswerScorer, AnswerWriter


class OnlineData(AnswersData):
    """Prompts come in rounds: the policy writes answers to a batch of them, and learns from these `passes` times.

    What is kept of earlier rounds lies in the checkpoint, so that a run that is killed within a round goes on with the
    same answers. In validation and test the recorded answers come, as `Preferences` or `Demonstrations`.

    Args:
        source: prompts, and a judge where `reward` is None.
        passes: training batches to each round.
        keep: rounds that are learned from; 1: the last one alone, None: all.
        longest: tokens of an answer at most; None: as many as the longest recorded one.
        reward: checkpoint of an `AnswerScorer`, such as a reward model, that says what answers are worth; None: the
            judge of the data does.
        parts: the arguments of `AnswersData`.

    Raises:
        UserError: a value out of range; data without recorded answers and no `longest`; a checkpoint of no scorer; a
            method that writes no answers.
    """

    draws = ("train",)
    fresh = True
    """Training records are not the same each time: there is nothing to note of them beforehand."""

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        passes: int = 1,
        keep: int | None = 1,
        longest: int | None = None,
        reward: str | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        if passes < 1 or (keep is not None and keep < 1) or (longest is not None and longest < 1):
            raise UserError(f"datamodule: passes={passes} keep={keep} longest={longest}: at least 1 each.")
        self.passes, self.keep, self.longest, self.reward = passes, keep, longest, reward
        self.scorer: Any = None
        self.kept: list[dict[str, Tensor]] = []
        self.round: tuple[int, int] | None = None

    # What a presentation overrides

    @abstractmethod
    def collect(self, policy: AnswerWriter, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A round: columns of a batch of prompts -> tensors with a row for each thing learned from, (n, ...), texts
        filled up to the context.
        """

    @abstractmethod
    def batch(self, kept: Mapping[str, Tensor]) -> Any:
        """What is kept of all rounds -> a training batch."""

    # Rounds

    @property
    def evaluation_batch_type(self) -> type:
        self.setup()
        assert self._records is not None
        return Preferences if self._records.spec.target == "preference" else Demonstrations

    @property
    def answer_tokens(self) -> int:
        recorded = super().answer_tokens
        found = self.longest or recorded
        if not found:
            raise UserError("no answers are recorded that would say how long one is.", "datamodule.longest=64, say")
        return found

    def describe(self, spec: DataSpec) -> DataSpec:
        described = super().describe(spec)
        if self.longest is None or self.context is not None:
            return described
        prompt = described.shape[0] - self._longest_answer
        return described.but(shape=(prompt + max(self.longest, self._longest_answer),))

    def plan(self, epoch: int) -> list[Tensor]:
        return [rows for rows in super().plan(epoch) for _ in range(self.passes)]

    def present(self, columns: dict[str, Tensor], split: str) -> Any:
        if split != "train":
            if self.evaluation_batch_type is Preferences:
                return Preferences(columns["ids"], answers_of(columns), columns["place"])
            return Demonstrations(columns["ids"][:, 0], answers_of(columns)[:, 0])
        epoch, number = self._place()
        now = (epoch, number // self.passes)
        if self.round != now:
            self._begin(columns)
            self.round = now
        # Drawn from anew: whether the round began in this process must not matter.
        torch.manual_seed(derive(self.seed, "batch", epoch, number, self.share[0]))
        return self.batch({name: torch.cat([one[name] for one in self.kept]) for name in self.kept[0]})

    def _place(self) -> tuple[int, int]:
        """(epoch, number) of the training batch that is asked for: the trainer's own count, which never runs ahead."""
        if self.trainer is None:
            raise UserError(f"{type(self).__name__} has nobody to write answers before a trainer fits a policy.")
        loop = self.trainer.fit_loop
        return self.trainer.current_epoch, loop.epoch_loop.batch_progress.current.completed

    def _begin(self, columns: dict[str, Tensor]) -> None:
        policy: Any = self.trainer.lightning_module  # type: ignore[union-attr]
        if not isinstance(policy, AnswerWriter):
            raise UserError(
                f"{type(policy).__name__} writes no answers.", "methods that do: model=preference/policy_gradient"
            )
        training = policy.training  # type: ignore[attr-defined]
        policy.eval()  # type: ignore[attr-defined]
        with torch.no_grad():
            found = self.collect(policy, columns)
        policy.train(training)  # type: ignore[attr-defined]
        before = self.kept if self.keep is None else self.kept[len(self.kept) + 1 - self.keep :]
        self.kept = [*before, found]

    def room(self, lengths: Tensor) -> int:
        """Tokens that an answer to prompts of these lengths (B,) may have."""
        return max(1, min(self.answer_tokens, self.spec.shape[0] - int(lengths.max())))

    def filled(self, texts: Tensor) -> Tensor:
        """Texts (..., T) -> the same filled up with 0 to the context."""
        return F.pad(texts, (0, self.spec.shape[0] - texts.shape[-1]))

    def worth(self, rows: Tensor, ids: Tensor, answer: Tensor) -> Tensor:
        """What answers are worth, by the scorer or the judge: see `judged`; float32 (n,), where the texts are."""
        if self.reward is None:
            return self.judged(rows, ids, answer)["reward"].to(device=ids.device, dtype=torch.float32)
        if self.scorer is None:
            self.scorer = scorer(self.reward).to(ids.device)
        return self.scorer.answer_scores(ids, answer)

    # Lightning writes it into checkpoints

    def state_dict(self) -> dict[str, Any]:
        if self.passes == 1 and self.keep == 1:
            return {}
        return {
            "round": self.round,
            "kept": [{name: rows_of_all(part).cpu() for name, part in one.items()} for one in self.kept],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not state:
            return
        self.round = None if state["round"] is None else tuple(state["round"])
        rank, world = self.share
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        self.kept = [
            {name: part.tensor_split(world)[rank].to(device) for name, part in one.items()} for one in state["kept"]
        ]


class RolloutData(OnlineData):
    """Answers of the policy with what they are worth, as `Rollouts` batches.

    Args:
        source: prompts.
        samples: answers to each prompt, at least 2 for methods that compare them.
        parts: the arguments of `OnlineData`, of which `keep` is 1. `batch_size` counts prompts.
    """

    batch_type = Rollouts

    def __init__(self, source: Source | Mapping[str, Any], *, samples: int = 4, **parts: Any) -> None:
        if samples < 1:
            raise UserError(f"datamodule.samples={samples}: at least one answer to each prompt.")
        super().__init__(source, keep=1, **parts)
        self.samples = samples

    def collect(self, policy: AnswerWriter, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rows = columns["row"]
        prompts, lengths = of_one(columns)
        written = policy.write_answers(prompts, lengths, self.room(lengths), end=self.end, samples=self.samples)
        prompt_row = rows.repeat_interleave(self.samples)
        return {
            "ids": self.filled(written.ids),
            "answer": self.filled(written.answer),
            "log_probs": self.filled(written.log_probs),
            "prompt_row": prompt_row,
            **self.told(prompt_row, written.ids, written.answer),
        }

    def told(self, rows: Tensor, ids: Tensor, answer: Tensor) -> dict[str, Tensor]:
        """What is learned from answers beside themselves, `reward` and perhaps more (n,): see `worth`."""
        return {"reward": self.worth(rows, ids, answer)}

    def batch(self, kept: Mapping[str, Tensor]) -> Rollouts:
        answer = kept["answer"]
        used = int(answer.any(0).nonzero().max()) + 1
        ids, answer, log_probs = (kept[name][:, :used] for name in ("ids", "answer", "log_probs"))
        prompts = len(ids) // self.samples
        group = torch.arange(prompts, device=ids.device).repeat_interleave(self.samples)
        return Rollouts(ids, answer, log_probs, kept["reward"], group)


class JudgedRolloutData(RolloutData):
    """Rollouts beside what judges say of them, as `JudgedRollouts` batches.

    Args:
        source: prompts with recorded answers, and a judge.
        rules: figure of the judge -> its highest value that is allowed, such as {rude: 0, words: 8}.
        parts: the arguments of `RolloutData`.

    Raises:
        UserError: a rule about something that the judge does not say.
    """

    batch_type = JudgedRollouts

    def __init__(self, source: Source | Mapping[str, Any], *, rules: Mapping[str, float], **parts: Any) -> None:
        super().__init__(source, **parts)
        self.rules = dict(rules)

    def feasible(self, figures: Mapping[str, Tensor]) -> Tensor:
        """What a judge says of answers (n,) each -> which of them keep every rule, bool (n,)."""
        for name in self.rules:
            known(name, figures, "datamodule.rules", "figure of the judge")
        kept = torch.ones_like(figures["reward"], dtype=torch.bool)
        for name, most in self.rules.items():
            kept &= figures[name] <= most
        return kept

    def collect(self, policy: AnswerWriter, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        baseline = self.worth(columns["row"], columns["ids"][:, 0], answers_of(columns)[:, 0])
        return super().collect(policy, columns) | {"baseline": baseline.repeat_interleave(self.samples)}

    def told(self, rows: Tensor, ids: Tensor, answer: Tensor) -> dict[str, Tensor]:
        figures = self.judged(rows, ids, answer)
        reward = figures["reward"] if self.reward is None else self.worth(rows, ids, answer)
        return {"reward": reward.to(ids.device, torch.float32), "feasible": self.feasible(figures).to(ids.device)}

    def batch(self, kept: Mapping[str, Tensor]) -> JudgedRollouts:  # type: ignore[override]
        return JudgedRollouts(*super().batch(kept), kept["feasible"], kept["baseline"])


class OnlinePreferenceData(OnlineData):
    """Two answers to each prompt, just written and compared, as `OnlinePairs` batches.

    Preferences are drawn from Bradley and Terry's model of what the answers are worth, at the data's temperature.

    Args:
        source: prompts.
        second: who writes the second answer: the `policy` or its `reference`.
        temperature: at which answers are drawn, above 0.
        parts: the arguments of `OnlineData`. A training batch has `batch_size` pairs of those that are kept.

    Raises:
        UserError: another `second`, a temperature that is not above 0.
    """

    batch_type = OnlinePairs

    def __init__(
        self, source: Source | Mapping[str, Any], *, second: str = "policy", temperature: float = 1.0, **parts: Any
    ) -> None:
        super().__init__(source, **parts)
        if temperature <= 0:
            raise UserError(f"datamodule.temperature={temperature}: it is above 0.")
        if second not in ("policy", "reference"):
            raise UserError(f"datamodule.second={second} is unknown.", "there are: policy, reference")
        self.second, self.drawn_at = second, temperature

    def collect(self, policy: AnswerWriter, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rows = columns["row"]
        prompts, lengths = of_one(columns)
        arguments = {"end": self.end, "temperature": self.drawn_at}
        writers = (policy.write_answers, policy.write_answers)
        if self.second == "reference":
            writers = (policy.write_answers, policy.write_reference_answers)  # type: ignore[attr-defined]
        both = [write(prompts, lengths, self.room(lengths), **arguments) for write in writers]
        ids, answer = (torch.stack([self.filled(getattr(one, name)) for one in both], 1) for name in ("ids", "answer"))
        worth = self.worth(rows.repeat_interleave(2), ids.flatten(0, 1), answer.flatten(0, 1)).view(-1, 2)
        first = torch.rand(len(rows), device=ids.device) < torch.sigmoid((worth[:, 0] - worth[:, 1]) / self.temperature)
        order = torch.stack([~first, first], 1).long()  # the chosen answer comes first
        row = torch.arange(len(ids), device=ids.device)[:, None]
        by_reference = torch.tensor([False, self.second == "reference"], device=ids.device)[order]
        return {"ids": ids[row, order], "answer": answer[row, order], "by_reference": by_reference, "prompt_row": rows}

    def batch(self, kept: Mapping[str, Tensor]) -> OnlinePairs:
        wanted = self.batch_size // self.share[1]
        if len(kept["ids"]) > wanted:
            some = torch.randperm(len(kept["ids"]))[:wanted].to(kept["ids"].device)
            kept = {name: part[some] for name, part in kept.items()}
        used = int(kept["answer"].any(0).any(0).nonzero().max()) + 1
        ids, answer = kept["ids"][..., :used], kept["answer"][..., :used]
        return OnlinePairs(ids, answer, torch.full_like(kept["prompt_row"], -1), kept["by_reference"])


def of_one(columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Columns of a batch -> prompts int64 (B, T), and their lengths int64 (B,)."""
    lengths = columns["prompt_length"][:, 0]
    return columns["ids"][:, 0, : int(lengths.max())], lengths


def scorer(path: str) -> Any:
    """The scorer of answers that a checkpoint holds.

    Raises:
        UserError: it holds none.
    """
    from modules.method import method_of

    return method_of(path, AnswerScorer, "datamodule.reward", "which scores no answers").requires_grad_(False)
