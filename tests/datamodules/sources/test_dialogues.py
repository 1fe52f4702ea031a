"""Prompts with answers in files, in every format, and what is said of wrong ones."""

from __future__ import annotations

import json

import datasets
import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.preferences import DemonstrationData, PreferenceData, ScoredPairData
from datamodules.sources.dialogues import DialogueFile, HubDialogues

ASKED = [{"role": "user", "content": "hi"}]


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def written(tmp_path):
    def write(*lines):
        path = tmp_path / "pairs.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
        return str(path)

    return write


FORMATS = {
    "explicit": ({"prompt": "a b", "chosen": "c", "rejected": "d"}, "a b", ("c", "d"), None, "preference"),
    "scored pair": (
        {"prompt": "a", "chosen": "c", "rejected": "d", "score_chosen": 2, "score_rejected": -1.5},
        "a", ("c", "d"), [2, -1.5], "preference",
    ),
    "implicit": ({"chosen": "a b cat", "rejected": "a b cow"}, "a b", (" cat", " cow"), None, "preference"),
    "implicit conversation": (
        {"chosen": ASKED + said("c"), "rejected": ASKED + said("d")}, ASKED, (said("c"), said("d")), None, "preference",
    ),
    "conversation": (
        {"prompt": ASKED, "chosen": said("c"), "rejected": said("d")},
        ASKED, (said("c"), said("d")), None, "preference",
    ),
    "completion": ({"prompt": "a", "completion": "c"}, "a", ("c",), None, "answer"),
    "labelled": ({"prompt": "a", "completion": "c", "label": False}, "a", ("c",), [0], "answer"),
    "several": (
        {"prompt": "a", "answers": ["b", "c", "d"], "scores": [1, 3, 2]}, "a", ("c", "b"), [3, 1], "preference",
    ),
    "messages": ({"messages": ASKED + said("c")}, ASKED, (said("c"),), None, "answer"),
    "instruction": ({"instruction": "a", "input": "b", "output": "c"}, "a\nb", ("c",), None, "answer"),
    "prompt alone": ({"prompt": "a"}, "a", (), None, "answer"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read(name, written):
    line, prompt, answers, scores, target = FORMATS[name]
    records = DialogueFile(written(line, "", line)).load()
    found = records.dialogues
    assert records.spec.target == target
    assert (found.prompts[1], tuple(found.answers[1])) == (prompt, answers)
    assert found.scores is None if scores is None else found.scores[1].tolist() == scores
    assert records.size == 2


GOOD = {"prompt": "a", "chosen": "c", "rejected": "d"}
WRONG = {
    "{nothing": "line 3: no JSON",
    "[1]": "line 3: no JSON object",
    '{"text": "a"}': r"line 3: no format has the fields text(.|\n)*there are: prompt, chosen, rejected",
    '{"prompt": "a"}': "line 3: this is another format than that of .*line 1",
    '{"prompt": "a", "chosen": 3, "rejected": "d"}': "line 3: 'chosen' is int, neither a string nor a list of messages",
    '{"prompt": "a", "chosen": "", "rejected": "d"}': "line 3: 'chosen' is empty",
    '{"prompt": [{"role": "user"}], "chosen": "c", "rejected": "d"}': "line 3: message 0 of 'prompt' has no 'role'",
    '{"prompt": "a", "chosen": "c", "rejected": "d", "score_chosen": "x", "score_rejected": 1}': (
        "line 3: 'score_chosen' is 'x', no finite number"
    ),
    '{"prompt": "a", "chosen": "c", "rejected": "d", "score_chosen": 2, "score_rejected": 1}': (
        "line 3: answers have scores in some lines, and in others not"
    ),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_is_named(line, written):
    with pytest.raises(UserError, match=WRONG[line]):
        DialogueFile(written(GOOD, "", line)).load()


def test_whole_answers_that_do_not_differ_and_labels_that_are_none_are_refused(written):
    with pytest.raises(UserError, match="line 1: 'chosen' and 'rejected' do not differ"):
        DialogueFile(written({"chosen": "a b", "rejected": "a b"})).load()
    with pytest.raises(UserError, match="line 1: 'label' is int"):
        DialogueFile(written({"prompt": "a", "completion": "b", "label": 1})).load()
    with pytest.raises(UserError, match="no two lists of one length"):
        DialogueFile(written({"prompt": "a", "answers": ["b"], "scores": [1]})).load()


def test_the_hub_s_layout_is_read_with_its_splits(tmp_path):
    rows = [{"question": f"ask {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(6)]
    folder = tmp_path / "pairs"
    datasets.Dataset.from_list(rows[:4]).to_parquet(str(folder / "data/train-00000.parquet"))
    datasets.Dataset.from_list(rows[4:]).to_parquet(str(folder / "data/test-00000.parquet"))
    source = HubDialogues(str(folder), columns={"prompt": "question"}, cache_dir=str(tmp_path / "cache"))
    records = source.load()
    assert records.dialogues.prompts[5] == "ask 5"
    assert records.dialogues.answers[0] == ("good 0", "bad 0")
    assert {split: rows.tolist() for split, rows in records.splits.items()} == {"train": [0, 1, 2, 3], "test": [4, 5]}
    with pytest.raises(UserError, match="did you mean question"):
        HubDialogues(str(folder), columns={"prompt": "questio"}, cache_dir=str(tmp_path / "cache")).load()


def test_texts_become_tokens_with_their_answers_marked(written):
    pairs = [
        {"prompt": "a" * n, "chosen": "yes", "rejected": "n", "score_chosen": n, "score_rejected": 0} for n in (1, 4)
    ]
    data = ScoredPairData(
        DialogueFile(written(*pairs)), tokens="byte", validation=0.0, test=0.0, batch_size=2, drop_last=False
    )
    assert data.spec.shape == (8,)
    batch = data.records("train")
    short = int((batch.scores[:, 0] == 1).nonzero())
    assert batch.pairs[short].tolist() == [[97, *b"yes", 0, 0, 0, 0], [97, *b"n", 0, 0, 0, 0, 0, 0]]
    assert batch.answers[short].int().tolist() == [[0, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0]]
    assert data.tokenizer.decode(batch.pairs[short, 0][batch.answers[short, 0]]) == "yes"


def test_a_context_cuts_the_end_of_answers_and_the_beginning_of_prompts(written):
    path = written({"prompt": "abcdefgh", "completion": "xyz"}, {"prompt": "a", "completion": "uvwxyz"})
    data = DemonstrationData(DialogueFile(path), tokens="byte", context=6, validation=0.0, test=0.0)
    batch = data.records("train")
    texts = {bytes(ids.tolist()) for ids in batch.ids}
    assert texts == {b"ghxyz\0", b"auvwxy"}
    assert data.spec.shape == (6,)


def test_texts_of_one_length_come_together(written):
    lines = [{"prompt": "a", "completion": "b" * (1 + n % 32)} for n in range(512)]
    data = DemonstrationData(DialogueFile(written(*lines)), tokens="byte", validation=0.0, test=0.0, batch_size=16)
    filled = sum(int((batch.ids == 0).sum()) - len(batch.ids) for batch in data.train_dataloader())
    assert filled < 0.1 * 512 * 16
    first, second = ([batch.ids.shape[1] for batch in data.train_dataloader()] for _ in range(2))
    assert first == second
    assert first != sorted(first)
    rows = torch.cat(data.plan(1))
    assert sorted(rows.tolist()) == sorted(data.rows["train"].tolist())


def test_one_answer_is_no_preference(written):
    with pytest.raises(UserError, match="an answer as its target"):
        PreferenceData(DialogueFile(written({"prompt": "a", "completion": "b"}))).setup()
