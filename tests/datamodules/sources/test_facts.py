"""Which statements of which facts are seen in training."""

from __future__ import annotations

import pytest

from compendium.errors import UserError
from datamodules.sources.facts import Facts


def test_what_is_tested_was_only_stated_the_other_way_round():
    source = Facts(pairs=20, both=0.25, repeats=3)
    documents = source.load().documents
    assert len(documents["train"]) == 3 * (20 + 5)
    assert (len(documents["validation"]), len(documents["test"])) == (5, 15)
    seen = set(documents["train"])
    assert len(seen) == 25
    for text in documents["test"]:
        b, a = text.split("<")
        assert text not in seen
        assert f"{a}>{b}" in seen
    assert set(documents["validation"]) < seen
    names = [name for fact in source.facts for name in fact]
    assert len(set(names)) == 40
    assert {len(name) for name in names} == {4}


def test_mistakes_are_named():
    for arguments in ({"pairs": 1}, {"both": 1.0}, {"both": 0.001}, {"letters": 1}, {"repeats": 0}):
        with pytest.raises(UserError, match=rf"data\.{next(iter(arguments))}="):
            Facts(**arguments)
