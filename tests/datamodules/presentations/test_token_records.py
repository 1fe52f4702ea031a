"""Short texts as records: which tokens, in which split."""

from __future__ import annotations

import pytest

from compendium.errors import UserError
from datamodules.presentations.token_records import TokenRecords
from tests.datamodules.fakes import text


def test_a_record_is_a_separator_its_tokens_and_separators():
    data = TokenRecords(text("ab", "c", validation=["b"], test=["ca", "x"]))
    assert data.spec.shape == (2,)
    assert data.spec.vocabulary == 2 + 3
    assert sorted(data.records("train").ids.tolist()) == [[0, 2, 3], [0, 4, 0]]
    assert data.records("test").ids.tolist() == [[0, 4, 2], [0, 1, 0]]
    assert dict(data.spec.sizes) == {"train": 2, "validation": 1, "test": 2}


def test_missing_splits_are_cut_from_the_training_documents():
    data = TokenRecords(text(*(f"{i:03}" for i in range(100))), context=5, validation=0.1, test=0.2)
    seen = [
        data.tokenizer.decode(row[1:4]) for split in ("train", "validation", "test") for row in data.records(split).ids
    ]
    assert sorted(seen) == [f"{i:03}" for i in range(100)]
    assert dict(data.spec.sizes) == {"train": 70, "validation": 10, "test": 20}
    assert data.spec.shape == (5,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"context": 2}, "a document of 3 tokens"), ({"tokenizer": "bytes"}, "did you mean byte")],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        TokenRecords(text("abc"), **arguments).setup()
