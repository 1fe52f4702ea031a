"""Strings of a chain against their law, summed over all strings and worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.sources.chains import Chain


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("topics", [1, 3])
def test_the_law_sums_to_one_and_its_pairs_are_those_of_all_strings(topics, memory):
    source = Chain(letters=3, successors=2, topics=topics, memory=memory, slip=0.1, length=4)
    texts = ["".join(letters) for letters in product("abc", repeat=4)]
    law = source.log_prob(texts).exp()
    assert float(law.sum()) == pytest.approx(1, abs=1e-12)
    pairs = torch.zeros(3, 3, dtype=torch.float64)
    for text, p in zip(texts, law, strict=True):
        for a, b in pairwise(text):
            pairs["abc".index(a), "abc".index(b)] += p / 3
    torch.testing.assert_close(source.pairs(), pairs, rtol=0, atol=1e-12)


def test_probabilities_by_hand():
    """Of five letters two usually follow, the first twice as likely; 0.1 of all steps slip to any of the five."""
    row = Chain(letters=5, successors=2, exponent=1.0, slip=0.1).transition[0, 3].sort(descending=True).values
    expected = torch.tensor([0.9 * 2 / 3 + 0.02, 0.9 / 3 + 0.02, 0.02, 0.02, 0.02], dtype=torch.float64)
    torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("arguments", [{}, {"topics": 2}, {"topics": 2, "memory": False}])
def test_documents_follow_the_law(arguments):
    source = Chain(letters=4, successors=2, length=3, **arguments)
    drawn = source.texts(source.draw(50_000, generator(1)))
    texts = ["".join(letters) for letters in product("abcd", repeat=3)]
    law = source.log_prob(texts).exp()
    shares = torch.tensor([drawn.count(text) / len(drawn) for text in texts])
    assert float(((shares - law).abs() / (law * (1 - law) / len(drawn)).sqrt()).max()) < 4.5


def test_a_topic_holds_for_a_whole_document():
    """Two topics without memory, each of one letter: a document repeats it, whatever its first letter is."""
    source = Chain(letters=6, successors=1, topics=2, memory=False, slip=0.0, length=5, law_seed=2)
    usual = [source.alphabet[int(topic[0].argmax())] for topic in source.transition]
    assert usual[0] != usual[1]
    assert source.log_prob(["a" + usual[0] * 4]).item() == pytest.approx(-math.log(12), rel=1e-12)
    assert source.log_prob(["a" + usual[0] * 2 + usual[1] * 2]).item() == -math.inf


def test_other_strings_have_no_probability():
    source = Chain(letters=4, length=3)
    assert source.log_prob(["ab", "abz", "abcd"]).tolist() == [-math.inf] * 3
    assert source.log_prob([]).shape == (0,)
    assert len(set(Chain(letters=300, train=5, length=2).alphabet)) == 300


def test_the_law_stays_where_documents_change():
    one, other = Chain(seed=0), Chain(seed=1)
    assert torch.equal(one.transition, other.transition)
    assert one.load().documents["test"] != other.load().documents["test"]
    assert not torch.equal(one.transition, Chain(law_seed=1).transition)


def test_mistakes_are_named():
    zeros = ({"topics": 0}, {"length": 0}, {"test": 0})
    for arguments in ({"letters": 1}, {"successors": 17}, {"slip": 2.0}, {"exponent": -1.0}, *zeros):
        with pytest.raises(UserError, match=rf"data\.{next(iter(arguments))}="):
            Chain(**arguments)
