"""The named batch types: what a presentation yields and what a method says it learns from.

`B` is the number of records in the batch, `...` the shape of one record (`DataSpec.shape`).
A method that learns from `Unlabelled` also accepts any batch with an `x`: see `accepts`.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Anything(NamedTuple):
    """Any batch: for evaluations that look at no record, or only hand it to the method."""


class Unlabelled(NamedTuple):
    """Records alone: `x` float (B, ...)."""

    x: Tensor


class Labelled(NamedTuple):
    """Records with a target: `x` float (B, ...), `y` int64 (B,) class indices or float (B,) real targets."""

    x: Tensor
    y: Tensor


class Responses(NamedTuple):
    """Records with two independent responses: `x` float (B, ...), `y` and `other` int64 (B,), `law` float (B, classes).

    `law` is the true law of a response, for evaluations alone; NaN where it is not known.
    """

    x: Tensor
    y: Tensor
    other: Tensor
    law: Tensor


class Explained(NamedTuple):
    """Records with a real response: `x` float (B, ...), `y` float (B,) and its true mean, `mean` float (B,).

    `mean` is for evaluations alone; NaN where it is not known.
    """

    x: Tensor
    y: Tensor
    mean: Tensor


class Candidates(NamedTuple):
    """Records whose real response somebody may ask for: `x` float (B, ...), `y` float (B,) and `row` int64 (B,).

    `row` is which training record it is, -1 in evaluation.
    """

    x: Tensor
    y: Tensor
    row: Tensor


class Sourced(NamedTuple):
    """Labelled records of several sources: `x` float (B, ...), `y` int64 (B,), `source` int64 (B,), -1 for none."""

    x: Tensor
    y: Tensor
    source: Tensor


class TwoViews(NamedTuple):
    """Two random views of the same records, `a` and `b` float (B, ...). Row i of both comes from one record."""

    a: Tensor
    b: Tensor


class TaskBatch(NamedTuple):
    """Records of one task of a stream: `x` float (B, ...), `y` int64 (B,), `task` int64 (B,), one value repeated."""

    x: Tensor
    y: Tensor
    task: Tensor


class Tokens(NamedTuple):
    """Windows of text: `ids` int64 (B, T + 1); a language model reads ids[:, :-1] and predicts ids[:, 1:]."""

    ids: Tensor


class Masked(NamedTuple):
    """Pictures of which a part is hidden: `x` float (B, C, H, W) and `mask` float (B, 1, H, W), 1 seen and 0 hidden."""

    x: Tensor
    mask: Tensor


class Segmented(NamedTuple):
    """Pictures with a class at every pixel: `x` float (B, C, H, W), `segments` int64 (B, H, W)."""

    x: Tensor
    segments: Tensor


class Surveyed(NamedTuple):
    """Segmented pictures with the shape of what they show.

    `x` float (B, C, H, W), `segments` int64 (B, H, W), 0 for the background; `offset` float (B, 2, H, W), from a pixel
    to the centre of its instance, down and to the right, in pixels, and 0 on the background; `depth` float (B, H, W),
    inverse depth.
    """

    x: Tensor
    segments: Tensor
    offset: Tensor
    depth: Tensor


class Boxed(NamedTuple):
    """Pictures with boxes, filled up to K: `x` float (B, C, H, W), `boxes` float (B, K, 4), left, top, right and bottom
    edge in pixels, and `kinds` int64 (B, K), -1 for none.
    """

    x: Tensor
    boxes: Tensor
    kinds: Tensor


class Pointed(NamedTuple):
    """Pictures with P points that mean the same in each: `x` float (B, C, H, W) and `points` float (B, P, 2).

    A point's place is to the right and down, -1 and 1 at the edges of the picture.
    """

    x: Tensor
    points: Tensor


class Magnified(NamedTuple):
    """Pictures at two resolutions: `x` float (B, C, H, W) and `high` (B, C, f H, f W), the same f times as fine.

    Where `x` has noise, `high` is without, and f may be 1.
    """

    x: Tensor
    high: Tensor


class Captioned(NamedTuple):
    """Pictures with captions: `x` float (B, C, H, W) and `caption` int64 (B, T), words and then 0 up to T."""

    x: Tensor
    caption: Tensor


class Demonstrations(NamedTuple):
    """Prompts with an answer each: `ids` int64 (B, T), prompt and answer, filled up to T; `answer` bool (B, T), the
    tokens of the answer, the first of which has a token before it.
    """

    ids: Tensor
    answer: Tensor


class Graded(NamedTuple):
    """Texts with a grade each: `ids` int64 (B, T), filled up to T; `length` int64 (B,), tokens of each; `grade` float
    (B,), the better the higher, from 1 up.
    """

    ids: Tensor
    length: Tensor
    grade: Tensor


class Preferences(NamedTuple):
    """Prompts with two answers each, of which one was preferred.

    `pairs` int64 (B, 2, T): the prompt with the chosen answer, and with the rejected one, filled up to T; `answers`
    bool (B, 2, T), the tokens of the answers; `row` int64 (B,), which training record it is, -1 in evaluation.
    """

    pairs: Tensor
    answers: Tensor
    row: Tensor


class ScoredPairs(NamedTuple):
    """Preferences whose answers were scored, too: `scores` float (B, 2), of the chosen and the rejected answer."""

    pairs: Tensor
    answers: Tensor
    row: Tensor
    scores: Tensor


class SoftPreferences(NamedTuple):
    """Prompts with two answers each, and `first` float (B,), the probability that the first one is the better one.

    `pairs`, `answers` and `row` are those of `Preferences`; what is preferred in validation and test comes first there.
    """

    pairs: Tensor
    answers: Tensor
    row: Tensor
    first: Tensor


class ReasonedPairs(NamedTuple):
    """Preferences with a reason each: `explained` int64 (B, S), the prompt, the chosen answer, the rejected one, and
    why the first is preferred, filled up; `reason` bool (B, S), the tokens of the reason.
    """

    pairs: Tensor
    answers: Tensor
    row: Tensor
    explained: Tensor
    reason: Tensor


class Rankings(NamedTuple):
    """Answers in the order of preference, the best first: `ranked` float (B, K, D), features of each, and `problem`
    int64 (B,), which of several problems the ranking belongs to.
    """

    ranked: Tensor
    problem: Tensor


class Choices(NamedTuple):
    """Answers to choose from: `items` float (B, A, D), features, in the problem `problem` int64 (B,).

    `weight` float64 (B, D) is for evaluations alone: an answer with features f is worth <weight, f>.
    """

    items: Tensor
    problem: Tensor
    weight: Tensor


class OnlinePairs(NamedTuple):
    """Preferences between answers that were just written: `row` is -1, and `by_reference` bool (B, 2) says which of the
    answers the reference wrote, the others being the policy's own.
    """

    pairs: Tensor
    answers: Tensor
    row: Tensor
    by_reference: Tensor


class Rollouts(NamedTuple):
    """Answers that the policy has written, K to each prompt, one after the other.

    `ids` int64 (B K, T): prompt and answer, filled up to T; `answer` bool (B K, T), the tokens of the answer;
    `log_probs` float (B K, T), ln of their probabilities when they were drawn; `reward` float (B K,), what the answers
    are worth; `group` int64 (B K,), which of them answer the same prompt: 0 K times, 1 K times, ...
    """

    ids: Tensor
    answer: Tensor
    log_probs: Tensor
    reward: Tensor
    group: Tensor


class FeaturedPairs(NamedTuple):
    """Preferences between two answers that are known by frozen features.

    `prompt` float (B, P), features of the prompts; `pairs` float (B, 2, D), the same followed by features of the chosen
    answer, and of the rejected one; `row` int64 (B,), which training record it is, -1 in evaluation.
    """

    prompt: Tensor
    pairs: Tensor
    row: Tensor


class TeacherPairs(NamedTuple):
    """Records with what two teachers say of each: `x` float (B, ...), `y` int64 (B,), the class, and `chosen` and
    `rejected` int64 (B,), the classes that the better and the worse teacher name. They may agree.
    """

    x: Tensor
    y: Tensor
    chosen: Tensor
    rejected: Tensor


class JudgedRollouts(NamedTuple):
    """Rollouts that judges have looked at: `feasible` bool (B K,), whether an answer keeps every rule, and `baseline`
    float (B K,), what the recorded answer to the same prompt is worth.
    """

    ids: Tensor
    answer: Tensor
    log_probs: Tensor
    reward: Tensor
    group: Tensor
    feasible: Tensor
    baseline: Tensor


class SelectionTask(NamedTuple):
    """Problems of selection, B at once: which records of a pool have a target above `threshold` (B,)?

    Labelled records to calibrate with, `calibration_x` float (B, n, ...) and `calibration_y` float (B, n), and the pool
    `pool_x` float (B, m, ...), whose targets `pool_y` float (B, m) are for the evaluation alone.
    """

    calibration_x: Tensor
    calibration_y: Tensor
    pool_x: Tensor
    pool_y: Tensor
    threshold: Tensor


def size(batch: tuple[Tensor, ...]) -> int:
    """Number of records in a batch of any of these types."""
    return len(batch[0])


def accepts(wanted: type, given: type) -> bool:
    """Whether a method or evaluation that asks for `wanted` can be fed `given`: all the fields are there."""
    return set(wanted._fields) <= set(given._fields)  # type: ignore[attr-defined]
