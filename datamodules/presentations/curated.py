"""Demonstrations of which few are kept: complex, good, and unlike one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.presentations.graded import whole
from datamodules.presentations.preferences import DemonstrationData
from datamodules.source import Source
from datamodules.sources.checks import known

MEASURES = ("complexity", "quality", "length", "perplexity")
POOLS = ("last", "mean")
AT_ONCE = 1024
"""Texts of which a network is asked at once, and candidates that are looked at together."""


class CuratedData(DemonstrationData):
    """The first answer to each prompt as `Demonstrations`, of which `budget` training records are kept.

        s = the product of the measures in `by`, of which there are
            complexity: the grade of the prompt alone, by a `TextGrader`
            quality:    the grade of the prompt with its answer, by another one
            length:     tokens of the prompt
            perplexity: exp(-mean ln p of the answer's tokens) by a policy that has not been tuned

    Records are looked at from the highest s down, or in any order where `by` names nothing. One is kept if the cosine
    of its embedding and that of no record kept before is above tau, until there are `budget` of them, or none left.

    Liu et al. 2024, "What Makes Good Data for Alignment?" (Deita): s = complexity * quality, tau 0.9 in the authors'
    example (`filter_datasets.sh`). Score, order, direction of the filter (a record goes if any cosine is *above* tau)
    and the embedding (last layer, last token) are those of their code, hkust-nlp/deita `Combined_Filter`,
    `IterativeFilter` and `CLM_Embedder`, which were read; the baselines by length and perplexity are from notes.

    Deviations:

    1. Their code filters candidates in batches, in which a record also goes if it is like an earlier candidate of its
       batch that goes itself; with batches of one, their example's, and here it is compared with kept records alone.
    2. It adds up the scores of the turns of a conversation; here a conversation's last answer has one score.
    3. Embeddings may be means over the tokens of the text (`pool`): the features of the token that ends all answers
       tell little in a small model.

    Validation and test are as they are.

    Args:
        source: prompts with answers.
        budget: records to keep, at least 1; None: all that the filter lets through.
        by: measures to multiply; none: a random order.
        tau: cosine above which two records are alike, in (-1, 1]; None: no filter.
        complexity: checkpoint of the `TextGrader` that reads prompts.
        quality: checkpoint of the `TextGrader` that reads prompts with answers.
        model: checkpoint of the policy whose features are embeddings, and whose perplexity is meant.
        pool: `last`, features of the text's last token, or `mean`, over its tokens.
        parts: the arguments of `AnswersData`.

    Raises:
        UserError: a value out of range, an unknown measure, a checkpoint that is missing, of another kind, of another
            vocabulary, or of a network without features.
    """

    papers = ("liu2024makes",)

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        budget: int | None = 300,
        by: Sequence[str] = ("complexity", "quality"),
        tau: float | None = 0.9,
        complexity: str | None = None,
        quality: str | None = None,
        model: str | None = None,
        pool: str = "last",
        **parts: Any,
    ) -> None:
        super().__init__(source, of="chosen", **parts)
        if budget is not None and budget < 1:
            raise UserError(f"datamodule.budget={budget}: at least one record.")
        if tau is not None and not -1 < tau <= 1:
            raise UserError(f"datamodule.tau={tau}: a cosine, in (-1, 1].", "datamodule.tau=null for no filter")
        for name in by:
            known(name, MEASURES, "datamodule.by", "measure")
        known(pool, POOLS, "datamodule.pool", "pool")
        asked = {"complexity": complexity, "quality": quality, "model": model}
        needed = [*by, *["model"] * (tau is not None or "perplexity" in by)]
        for name, path in asked.items():
            if name in needed and path is None:
                raise UserError(f"datamodule.{name} is needed, and it is missing.", f"datamodule.{name}=CHECKPOINT")
        self.budget, self.by, self.tau, self.pool = budget, tuple(by), tau, pool
        self.complexity, self.quality, self.model = complexity, quality, model

    def setup(self, stage: str | None = None) -> None:
        if self._records is not None:
            return
        super().setup(stage)
        self.narrow({"train": self.kept(self.rows["train"])})

    def kept(self, rows: Tensor) -> Tensor:
        """The rows that stay, in the order in which they stood."""
        if self.by:
            order = self.scores(rows).argsort(stable=True, descending=True)
        else:
            order = torch.randperm(len(rows), generator=generator(self.seed, "curated"))
        if self.tau is None:
            chosen = order[: self.budget]
        else:
            chosen = order[unlike(self.embeddings(rows[order]), self.tau, self.budget)]
        return rows[chosen.sort().values]

    def scores(self, rows: Tensor) -> Tensor:
        """s of some rows (n,), float32 or more."""
        found = torch.ones(len(rows))
        for name in self.by:
            found = found * getattr(self, f"{name}_of")(rows)
        return found

    def complexity_of(self, rows: Tensor) -> Tensor:
        """The grades of prompts (n,)."""
        return self.graded(rows, "complexity", "prompt_length")

    def quality_of(self, rows: Tensor) -> Tensor:
        """The grades of prompts with their answers (n,)."""
        return self.graded(rows, "quality", "length")

    def length_of(self, rows: Tensor) -> Tensor:
        """Tokens of the prompts (n,)."""
        return self._columns["prompt_length"][rows * self._answers].float()

    def perplexity_of(self, rows: Tensor) -> Tensor:
        """exp of the mean of -ln p of the answers' tokens (n,)."""
        from modules.preference.policy import Policy

        policy = self.opened("model", Policy, "no Policy")

        def of(batch: Any) -> Tensor:
            return (-policy.answer_log_probs(batch.ids, batch.answer) / batch.answer.sum(1)).exp()

        return self.asked(rows, lambda columns: of(self.present(columns, "validation")))

    def graded(self, rows: Tensor, name: str, length: str) -> Tensor:
        """What the grader of a name says of so much of some rows' texts (n,)."""
        from modules.capabilities import TextGrader

        grader = self.opened(name, TextGrader, "which grades no texts")

        def of(columns: dict[str, Tensor]) -> Tensor:
            text = whole(columns["ids"][:, 0], columns[length][:, 0], columns[length][:, 0])
            return grader.expected_grade(text.ids, text.length)

        return self.asked(rows, of)

    def embeddings(self, rows: Tensor) -> Tensor:
        """Features of some rows' texts (n, D)."""
        from modules.method import Method

        net = getattr(self.opened("model", Method, ""), "net", None)
        if net is None or not hasattr(net, "embed"):
            raise UserError(f"datamodule.model={self.model} has no features of tokens.", "net=transformer")

        def of(columns: dict[str, Tensor]) -> Tensor:
            length = columns["length"][:, 0]
            features = net.embed(columns["ids"][:, 0])
            if self.pool == "last":
                return features[torch.arange(len(length)), length - 1]
            inside = torch.arange(features.shape[1]) < length[:, None]
            return (features * inside[..., None]).sum(1) / length[:, None]

        return self.asked(rows, of)

    @torch.no_grad()
    def asked(self, rows: Tensor, of: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        """What a network says of some rows (n, ...), of texts of about one length at once."""
        order = self._longest[rows].argsort(stable=True)
        found = torch.cat([of(columns) for columns in self.batches_of(rows[order])])
        return found[order.argsort()]

    def batches_of(self, rows: Tensor) -> Iterator[dict[str, Tensor]]:
        for part in rows.split(AT_ONCE):
            yield self.take(self._columns, part, "validation")

    def opened(self, name: str, kind: type, lack: str) -> Any:
        """The method of a checkpoint that is named in an argument."""
        from modules.method import method_of

        assert self._spec is not None
        where, vocabulary = f"datamodule.{name}", self._spec.vocabulary
        return method_of(getattr(self, name), kind, where, lack, vocabulary=vocabulary)


def unlike(embeddings: Tensor, tau: float, budget: int | None = None, at_once: int = AT_ONCE) -> Tensor:
    """Which records a greedy filter keeps.

    From the first record on, one is kept if its cosine with no record kept before is above tau. Blocks of candidates
    are compared with all that is kept, and those that are left with one another: of these, all that no open earlier one
    is like are kept at once, and what is like them goes, until none is open. Time is O(n kept D); no more than a block
    of rows against a block of kept ones is in memory.

    Args:
        embeddings: (n, D) in the order in which the records are looked at; one of length 0 is like none.
        tau: the cosine above which two are alike.
        budget: how many to keep at most; None: all.
        at_once: records in a block.

    Returns:
        Places of those that are kept, int64 (kept,), rising.
    """
    directions = torch.nn.functional.normalize(embeddings, dim=1)
    most = len(embeddings) if budget is None else budget
    kept = torch.empty(0, dtype=torch.int64)
    for block in torch.arange(len(embeddings)).split(at_once):
        if len(kept) >= most:
            break
        own = directions[block]
        open_ = torch.ones(len(block), dtype=torch.bool)
        for part in kept.split(at_once):
            open_ &= ~(own @ directions[part].T > tau).any(1)
        block, own = block[open_], own[open_]
        kept = torch.cat([kept, block[first_of(own @ own.T > tau)]])
    return kept[:most]


def first_of(alike: Tensor) -> Tensor:
    """Which records alike (n, n) are, bool -> which are like no earlier one that is kept, bool (n,)."""
    earlier = alike.tril(-1)
    kept = torch.zeros(len(alike), dtype=torch.bool)
    open_ = ~kept
    while bool(open_.any()):
        sure = open_ & ~(earlier & open_).any(1)
        kept |= sure
        open_ &= ~sure & ~(earlier & sure).any(1)
    return kept
