"""Windows of tokens: what is predicted, in which order, and from what text."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.token_windows import TokenWindows
from datamodules.presentations.tokenizers import Bytes, Characters
from tests.datamodules.fakes import attach, text

LETTERS = "".join(chr(33 + index % 90) for index in range(1000))


@pytest.mark.parametrize("context", [1, 7, 16, 99, 500])
@pytest.mark.parametrize("world", [1, 2])
def test_each_token_is_predicted_exactly_once_in_evaluation(context, world):
    held_out = "".join(chr(200 + index) for index in range(250))
    source = text(LETTERS, validation=[held_out[:101]], test=[held_out])
    targets: list[str] = []
    for rank in range(world):
        data = TokenWindows(source, tokenizer="byte", context=context, eval_batch_size=4)
        for batch in attach(data, rank, world).test_dataloader():
            assert batch.ids.dtype == torch.int64
            targets += batch.ids[:, 1:].flatten().tolist()
    data.setup()
    start, end = data.extent["test"]
    assert end - start == len(held_out.encode())
    assert sorted(targets) == sorted(data.tokens[start + 1 : end].tolist())
    if world == 1:
        assert targets == data.tokens[start + 1 : end].tolist()


def test_training_windows_move_and_cover_each_epoch():
    data = TokenWindows(
        text(LETTERS, test=["x" * 40], validation=["y" * 40]), context=16, batch_size=8, drop_last=False
    )
    data.setup()
    starts = set()
    for epoch in range(40):
        plan = data.plan(epoch)
        assert len(plan) == len(data.plan(0)) == len(data.train_dataloader())
        rows = torch.cat(plan).sort().values
        assert (rows.diff() == 16).all()
        assert 0 <= int(rows[0]) < 16
        assert int(rows[-1]) + 16 < data.extent["train"][1]
        assert len(rows) == (1000 - 16) // 16
        starts.add(int(rows[0]))
        assert torch.equal(torch.cat(plan), torch.cat(data.plan(epoch)))
    assert len(starts) > 10
    batch = next(iter(data.train_dataloader())).ids
    assert batch.shape == (8, 17)
    assert torch.equal(batch, data.tokens[data.plan(0)[0][:, None] + torch.arange(17)].long())


@pytest.mark.parametrize("length", [9, 10, 15, 16, 17, 31])
def test_short_training_texts_give_a_window(length):
    data = TokenWindows(text("a" * length, test=["b"], validation=["c"]), context=8, batch_size=4)
    for epoch in range(20):
        rows = torch.cat([batch.ids for batch in attach(data, epoch=epoch).train_dataloader()])
        assert (rows == ord("a")).all()
        assert rows.shape[1] == 9
    assert list(data.test_dataloader()) == []


def test_few_documents_are_cut_by_position():
    data = TokenWindows(text(LETTERS[:600], LETTERS[:399]), context=8, validation=0.1, test=0.2)
    data.setup()
    assert bytes(data.tokens.tolist()).decode() == LETTERS[:600] + "\0" + LETTERS[:399]
    assert data.extent == {"train": (0, 700), "validation": (700, 800), "test": (800, 1000)}


def test_many_documents_are_split_whole():
    documents = [f"<{index:03}>" for index in range(200)]
    data = TokenWindows(text(*documents), context=8, validation=0.1, test=0.2)
    data.setup()
    parts = {
        split: bytes(data.tokens[slice(*data.extent[split])].tolist()).decode().split("\0") for split in data.extent
    }
    assert {split: len(part) for split, part in parts.items()} == {"train": 140, "validation": 20, "test": 40}
    assert sorted(chain(*parts.values())) == documents
    assert parts["train"] != sorted(parts["train"])


def test_the_vocabulary_is_that_of_the_training_text():
    data = TokenWindows(text("hello world" * 3, validation=["held"], test=["help"]), tokenizer="character", context=4)
    assert data.spec.vocabulary == 2 + len(set("hello world"))
    assert data.tokens.dtype == torch.uint8
    test = data.tokens[slice(*data.extent["test"])]
    assert data.tokenizer.decode(test) == "hel\ufffd"
    assert data.spec.sizes["test"] == 0
    assert data.spec.shape == (4,)


def test_tokenizers_give_the_text_back():
    samples = "grüße, 世界 🎉\n"
    assert Bytes().decode(Bytes().encode(samples)) == samples
    assert Characters(samples).decode(Characters(samples).encode(samples)) == samples
    wide = "".join(chr(0x4E00 + index) for index in range(400))
    assert Characters(wide).encode(wide).dtype == torch.int32
    assert Characters(wide).encode(wide).tolist() == list(range(2, 402))
    assert Characters("ab").encode("b\0a?").tolist() == [3, 0, 2, 1]


def test_records_are_full_windows():
    data = TokenWindows(text(LETTERS, test=[LETTERS[:100]]), context=16)
    assert data.records("test").ids.shape == (6, 17)
    assert data.records("test", 1).ids.shape == (1, 17)
    assert data.records("train", 3).ids.shape == (3, 17)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": 2000}, "fewer than one window"),
        ({"context": 0}, "datamodule.context=0"),
        ({"tokenizer": "bytes"}, "did you mean byte"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        TokenWindows(text(LETTERS), **arguments).setup()
