"""Prompts with answers in files: instruction pairs, preferences, scored responses, prompts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from compendium.errors import UserError
from compendium.extras import require
from datamodules.source import Dialogues, Records, Source, Text
from datamodules.sources.checks import existing, known, not_empty
from datamodules.sources.hugging_face import HuggingFace
from datamodules.sources.text_file import JsonLines
from datamodules.spec import DataSpec, Target

FORMATS = (
    "prompt, chosen, rejected",
    "chosen, rejected",
    "prompt, completion",
    "prompt, completion, label",
    "prompt, answers, scores",
    "messages",
    "instruction, input, output",
    "prompt",
)


class Exchange(NamedTuple):
    """A prompt, its answers with the best one first, and what they are worth, where that is said."""

    prompt: Text
    answers: tuple[Text, ...]
    scores: tuple[float, ...] | None = None
    preferred: bool = False


class DialogueFile(Source):
    """JSON Lines with a prompt and its answers in each line, in the formats of `trl` and of the hub:

    - `prompt`, `chosen`, `rejected`: a preference; `score_chosen` and `score_rejected` are read where they are there
    - `chosen`, `rejected`: a preference whose prompt is what both have in common at their beginning
    - `prompt`, `completion`, and perhaps `label` (true, false): an answer, and whether it is a good one
    - `prompt`, `answers`, `scores`: several answers and what each is worth; as preferences, the best and the worst one
    - `messages`: a conversation; the answer is its last message
    - `instruction`, `output`, and perhaps `input`: an answer, as in Alpaca
    - `prompt` alone

    A prompt or an answer is a string, or a list of messages {"role": ..., "content": ...}. All lines are of one format.

    Args:
        path: the file.

    Raises:
        UserError: no such file, a line that is no JSON object, of no format, or of another one than the first; a field
            of a wrong type, an empty answer, a message without role or content; each names the line.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def load(self) -> Records:
        path = existing(self.path)
        numbered = list(JsonLines.objects(path))
        not_empty(numbered, str(path), "Each line is a JSON object.")
        lines, objects = zip(*numbered, strict=True)
        return records(path.stem, objects, lambda row: f"{path}, line {lines[row]}")


class HubDialogues(Source):
    """Prompts with answers from the Hugging Face hub, or from a folder in its layout; formats as in `DialogueFile`.

    Args:
        name: `owner/name` on the hub, or a folder.
        config: name of the configuration, where the data set has several.
        revision: branch, tag or commit on the hub.
        splits: {train, validation, test} -> the data set's own split names, see `HuggingFace`.
        columns: {field of a format -> the data set's own column}, where they are called otherwise.
        cache_dir: where the library keeps what it downloads; None: its default.

    Raises:
        UserError: not on this machine and no network, no such data set, split or column, see `DialogueFile`.
    """

    def __init__(
        self,
        name: str,
        config: str | None = None,
        revision: str | None = None,
        splits: Mapping[str, str | None] | None = None,
        columns: Mapping[str, str] | None = None,
        cache_dir: str | None = None,
    ) -> None:
        self.name, self.columns = name, dict(columns or {})
        self.found = HuggingFace(name, config, revision, splits, cache_dir=cache_dir)

    def load(self) -> Records:
        library = require("datasets", extra="hub", needed_by=f"data.name={self.name}")
        parts = self.found.parts(self.found.loaded(library))
        names: list[str] = []
        objects: list[dict[str, Any]] = []
        splits = {}
        for split, part in parts.items():
            for field, column in self.columns.items():
                known(column, part.features, f"data.columns.{field}", f"column in {self.name}:")
            first = len(objects)
            for number, row in enumerate(part):
                renamed = row | {field: row[column] for field, column in self.columns.items()}
                objects.append({field: value for field, value in renamed.items() if value is not None})
                names.append(f"{self.name}, split '{split}', row {number}")
            splits[split] = torch.arange(first, len(objects))
        not_empty(objects, self.name)
        loaded = records(self.name.rstrip("/").rsplit("/", 1)[-1], objects, names.__getitem__)
        loaded.splits = splits if len(splits) > 1 else {}
        return loaded


def records(name: str, objects: Sequence[Mapping[str, Any]], position: Callable[[int], str]) -> Records:
    """Objects of one of the formats -> records; `position` names the place of an object.

    Raises:
        UserError: see `DialogueFile`.
    """
    read = form(objects[0], position(0))
    exchanges = []
    for row, one in enumerate(objects):
        where = position(row)
        if form(one, where) is not read:
            raise UserError(f"{where}: this is another format than that of {position(0)}.")
        exchanges.append(read(one, where))
    first = exchanges[0]
    if len({exchange.scores is None for exchange in exchanges}) > 1:
        row = next(row for row, one in enumerate(exchanges) if (one.scores is None) != (first.scores is None))
        raise UserError(f"{position(row)}: answers have scores in some lines, and in others not.")
    target: Target = "preference" if first.preferred else "answer"
    dialogues = Dialogues([one.prompt for one in exchanges], [one.answers for one in exchanges])
    if first.scores is not None:
        fewest = min(len(one.answers) for one in exchanges)
        if first.preferred and fewest > 2:  # the best one and the worst one
            dialogues.answers = [(one.answers[0], one.answers[-1]) for one in exchanges]
            dialogues.scores = torch.tensor([(one.scores[0], one.scores[-1]) for one in exchanges if one.scores])
        else:
            dialogues.scores = torch.tensor([one.scores[:fewest] for one in exchanges if one.scores])
    return Records(DataSpec(name, "text", (), target=target), dialogues=dialogues)


def form(one: Mapping[str, Any], where: str) -> Callable[[Mapping[str, Any], str], Exchange]:
    """How an object is read, by its fields.

    Raises:
        UserError: no format has them.
    """
    fields = set(one)
    for needed, read in READERS:
        if needed <= fields:
            return read
    raise UserError(
        f"{where}: no format has the fields {', '.join(sorted(map(str, fields))) or '(none)'}.",
        f"there are: {'; '.join(FORMATS)}",
    )


def preferred(one: Mapping[str, Any], where: str) -> Exchange:
    prompt, chosen, rejected = (text(one, field, where) for field in ("prompt", "chosen", "rejected"))
    scores = tuple(number(one, f"score_{field}", where) for field in ("chosen", "rejected") if f"score_{field}" in one)
    return Exchange(prompt, (alike(prompt, chosen), alike(prompt, rejected)), scores or None, True)


def preferred_whole(one: Mapping[str, Any], where: str) -> Exchange:
    chosen, rejected = text(one, "chosen", where), text(one, "rejected", where)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise UserError(f"{where}: 'chosen' and 'rejected' are a string and a conversation.")
    common = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    if common is None:
        raise UserError(f"{where}: 'chosen' and 'rejected' do not differ.")
    if isinstance(chosen, str):
        while common and not chosen[common - 1].isspace():  # a word that both begin with belongs to the answers
            common -= 1
        common = len(chosen[:common].rstrip(" "))
    return Exchange(chosen[:common], (chosen[common:], rejected[common:]), None, True)


def completed(one: Mapping[str, Any], where: str) -> Exchange:
    prompt, completion = text(one, "prompt", where), text(one, "completion", where)
    if "label" not in one:
        return Exchange(prompt, (alike(prompt, completion),))
    if not isinstance(one["label"], bool):
        raise UserError(f"{where}: 'label' is {type(one['label']).__name__}, not true or false.")
    return Exchange(prompt, (alike(prompt, completion),), (float(one["label"]),))


def scored(one: Mapping[str, Any], where: str) -> Exchange:
    prompt, answers, scores = text(one, "prompt", where), one["answers"], one["scores"]
    if not isinstance(answers, list) or not isinstance(scores, list) or len(answers) != len(scores) or len(answers) < 2:
        raise UserError(f"{where}: 'answers' and 'scores' are no two lists of one length, at least 2.")
    found = [text({"answers": answer}, "answers", where) for answer in answers]
    worth = [number({"scores": score}, "scores", where) for score in scores]
    order = sorted(range(len(worth)), key=lambda place: -worth[place])
    return Exchange(
        prompt, tuple(alike(prompt, found[place]) for place in order), tuple(worth[place] for place in order), True
    )


def conversed(one: Mapping[str, Any], where: str) -> Exchange:
    messages = text(one, "messages", where)
    if isinstance(messages, str) or len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise UserError(f"{where}: 'messages' is no conversation that ends with a message of the assistant.")
    return Exchange(messages[:-1], (messages[-1:],))


def instructed(one: Mapping[str, Any], where: str) -> Exchange:
    parts = [str(text(one, "instruction", where)), str(one.get("input") or "")]
    return Exchange("\n".join(filter(None, parts)), (text(one, "output", where),))


def prompted(one: Mapping[str, Any], where: str) -> Exchange:
    return Exchange(text(one, "prompt", where), ())


READERS: tuple[tuple[set[str], Callable[[Mapping[str, Any], str], Exchange]], ...] = (
    ({"prompt", "chosen", "rejected"}, preferred),
    ({"chosen", "rejected"}, preferred_whole),
    ({"prompt", "completion"}, completed),
    ({"prompt", "answers", "scores"}, scored),
    ({"messages"}, conversed),
    ({"instruction", "output"}, instructed),
    ({"prompt"}, prompted),
)


def text(one: Mapping[str, Any], field: str, where: str) -> Text:
    """A field that is a string or a conversation.

    Raises:
        UserError: it is neither, or empty.
    """
    value = one[field]
    if isinstance(value, str):
        if not value and field != "prompt":
            raise UserError(f"{where}: '{field}' is empty.")
        return value
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: '{field}' is {type(value).__name__}, neither a string nor a list of messages.")
    for place, message in enumerate(value):
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise UserError(f"{where}: message {place} of '{field}' has no 'role' and 'content' that are strings.")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def number(one: Mapping[str, Any], field: str, where: str) -> float:
    """A field that is a finite number.

    Raises:
        UserError: it is none.
    """
    value = one[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise UserError(f"{where}: '{field}' is {value!r}, no finite number.")
    return float(value)


def alike(prompt: Text, answer: Text) -> Text:
    """An answer in the form of its prompt: a string where that is one."""
    if isinstance(prompt, str) and not isinstance(answer, str):
        return "".join(message["content"] for message in answer)
    return answer
