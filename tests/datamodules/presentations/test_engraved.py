"""Engraving: what a teacher says with principles before it stands after prompts without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.engraved import EngravedData
from datamodules.sources.arithmetic import Arithmetic
from datamodules.sources.principles import Principles
from tests.modules.test_contract import planned, trained

SMALL = (
    "data=principles",
    "data.train=40",
    "data.validation=8",
    "data.test=12",
    "net=small_transformer",
    "net.width=8",
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A policy whose answers depend on what stands before a request."""
    run = planned("preference/fine_tuning", tmp_path_factory.mktemp("teacher"), *SMALL, "optimizer.lr=0.03", "trainer.max_epochs=30")
    parts = trained(run)
    return parts.method.eval(), str(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")


def source():
    return Principles(role="principled", train=40, validation=8, test=12)


def test_training_prompts_are_bare_and_answered_by_the_teacher(teacher):
    method, path = teacher
    data = EngravedData(source(), teacher=path)
    batch, tested = data.records("train"), data.records("test")
    speech, dialogues = data.tokenizer, data.dialogues
    for row, ids, answer in zip(data.rows["train"].tolist(), batch.ids, batch.answer, strict=True):
        assert speech.decode(ids[: int(answer.nonzero()[0])]) == dialogues.bare[row]
        assert len(dialogues.prompts[row].split()) == len(dialogues.bare[row].split()) + 4
    for row, ids, answer in zip(data.rows["test"].tolist(), tested.ids, tested.answer, strict=True):
        assert speech.decode(ids[answer]) == dialogues.answers[row][0]
        assert speech.decode(ids[: int(answer.nonzero()[0])]) == dialogues.prompts[row]
    # What the teacher said is likely under the teacher, with the principles before it, and what was recorded is not.
    said = [speech.decode(ids[answer]) for ids, answer in zip(batch.ids, batch.answer, strict=True)]
    recorded = [dialogues.answers[row][0] for row in data.rows["train"].tolist()]

    def likelihood(answers):
        texts = [
            speech.encoded(dialogues.prompts[r], a) for r, a in zip(data.rows["train"].tolist(), answers, strict=True)
        ]
        total = 0.0
        for prompt, answer in texts:
            ids = torch.cat([prompt, answer])[None].long()
            own = torch.arange(ids.shape[1])[None] >= len(prompt)
            total += float(method.answer_log_probs(ids, own)) / len(answer)
        return total / len(texts)

    with torch.no_grad():
        assert likelihood(said) > likelihood(recorded) + 0.1
    again = EngravedData(source(), teacher=path).records("train")
    assert torch.equal(again.ids, batch.ids)
    assert not torch.equal(EngravedData(source(), teacher=path, seed=1).records("train").ids, batch.ids)


def test_what_cannot_be_engraved_is_refused(teacher, tmp_path):
    _, path = teacher
    with pytest.raises(UserError, match="have no principles before them"):
        EngravedData(Arithmetic(train=20, validation=2, test=2), tokens="character", teacher=path).setup()
    other = trained(planned("supervised/classifier", tmp_path, "data=wine", "net=mlp"))
    with pytest.raises(UserError, match="which writes no answers"):
        EngravedData(source(), teacher=f"{other.trainer.default_root_dir}/checkpoints/last.ckpt").setup()
    with pytest.raises(UserError, match="has other tokens"):
        EngravedData(source(), tokens="byte", teacher=path).setup()
