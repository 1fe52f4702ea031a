"""Graded texts: what is read of them, and their grades."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.graded import GradedData
from datamodules.presentations.preferences import DemonstrationData
from datamodules.source import Dialogues, Records
from datamodules.sources.evolved import EvolvedInstructions
from datamodules.spec import DataSpec
from tests.datamodules.fakes import Given


def test_a_text_is_the_prompt_alone_or_with_its_answer():
    source = EvolvedInstructions("quality", train=20)
    whole = DemonstrationData(source, of="chosen")
    texts, rows = whole.records("train"), whole.rows["train"]
    prompts, lengths = whole.prompts(rows)
    for of, ids, length in (
        ("prompt", prompts, lengths),
        ("answer", texts.ids, (texts.answer.any(1) * (texts.answer * torch.arange(texts.ids.shape[1])).amax(1)) + 1),
    ):
        found = GradedData(source, of=of).records("train")
        assert torch.equal(found.length, length)
        inside = torch.arange(ids.shape[1]) < length[:, None]
        assert torch.equal(found.ids, torch.where(inside, ids, 0)[:, : int(length.max())])
        assert torch.equal(found.grade, whole.dialogues.scores[rows, 0].float())


def test_each_of_several_answers_is_a_text():
    dialogues = Dialogues(
        ["a b", "c"] * 10, [("d", "e f"), ("g", "h")] * 10, torch.tensor([[2.0, 1.0], [3.0, 4.0]] * 10)
    )
    source = Given(Records(DataSpec("two", "text", (), target="preference"), dialogues=dialogues))
    data = GradedData(source, of="answer", batch_size=4)
    batch = next(iter(data.train_dataloader()))
    assert batch.ids.shape == (8, 5)
    said = [data.speech.decode(ids[:length]) for ids, length in zip(batch.ids, batch.length, strict=True)]
    grades = {"a b d": 2, "a b e f": 1, "c g": 3, "c h": 4}
    assert [grades[text] for text in said] == batch.grade.tolist()


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"datamodule\.of=both"):
        GradedData(EvolvedInstructions(train=5), of="both")
    dialogues = Dialogues(["a"] * 10, [("b",)] * 10)
    source = Given(Records(DataSpec("plain", "text", (), target="answer"), dialogues=dialogues))
    with pytest.raises(UserError, match="nobody has graded"):
        GradedData(source).records("train")
