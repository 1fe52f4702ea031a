"""Models that know facts in one direction, and in both."""

from __future__ import annotations

import torch

from callbacks.evaluation.recall import Recall, left_to_right
from datamodules.presentations.token_records import TokenRecords
from datamodules.sources.facts import Facts
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.datamodules.fakes import text

SOURCE = Facts(pairs=12, both=0.5, letters=3)


class Library(Fake):
    """Fills a gap in with a training statement that fits, or else with letters a (token 4)."""

    mask = 99

    def __init__(self, data) -> None:
        super().__init__()
        self.known = data.records("train").ids[:, 1:]

    def complete(self, z):
        fits = ((z[:, None] == self.known) | (z[:, None] == self.mask)).all(2)
        return torch.where(fits.any(1, keepdim=True), self.known[fits.int().argmax(1)], z.where(z != self.mask, 4))


class Prefixes(Fake):
    """The next token of the first training statement that begins like the text."""

    def __init__(self, data) -> None:
        super().__init__()
        self.known = data.records("train").ids

    def next_token_log_probs(self, ids):
        width = ids.shape[1]
        fits = (ids[:, None] == self.known[:, :width]).all(2)
        following = self.known[fits.int().argmax(1), 1 : width + 1]
        return torch.nn.functional.one_hot(following, 40).float().log()


def test_who_reads_both_ways_knows_what_was_stated_one_way(tmp_path):
    data = TokenRecords(SOURCE)
    got = evaluate(Library(data), data, Recall(), folder=tmp_path)
    assert got == {"forward": 1.0, "backward": 0.0, "infilled": 1.0}


def test_who_reads_left_to_right_does_not(tmp_path):
    data = TokenRecords(SOURCE)
    got = evaluate(Prefixes(data), data, Recall(), folder=tmp_path)
    # Of the gap at the beginning it says the first statement there is, and that may be one of the six.
    assert (got["forward"], got["backward"]) == (1.0, 0.0)
    assert got["infilled"] <= 1 / 6


def test_what_is_given_is_read():
    data = TokenRecords(SOURCE)
    method = Prefixes(data)
    x = data.records("train", 4).ids[:, 1:]
    gap = torch.zeros_like(x, dtype=torch.bool)
    gap[:, [2, 5]] = True
    assert torch.equal(left_to_right(method, x, gap), x)


def test_it_asks_for_facts(tmp_path):
    data = TokenRecords(text("ab", "c", validation=["b"], test=["ca"]))
    recall = Recall()
    assert evaluate(Prefixes(data), data, recall, folder=tmp_path) == {}
    assert recall.reason == "the data are no facts"
    assert evaluate(Fake(), TokenRecords(SOURCE), recall, folder=tmp_path) == {}
    assert recall.reason == "Fake is no Completer and no LanguageModel"
