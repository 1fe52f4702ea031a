"""Likelihood of text whose law is known."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.language import Language
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.token_windows import TokenWindows
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, FakeEverything, evaluate
from tests.datamodules.fakes import text

HELD_OUT = "abcbabacab" * 12 + "ccab"


class Letters(Fake):
    """Every token is a with probability 1/2, b with 1/3, c with 1/6, whatever came before."""

    def __init__(self, proba=(1 / 2, 1 / 3, 1 / 6)) -> None:
        super().__init__()
        self.log_probs = torch.full((256,), -torch.inf)
        self.log_probs[97:100] = torch.tensor(proba).log()
        self.widths = set()

    def next_token_log_probs(self, ids):
        self.widths.add(ids.shape[1])
        return self.log_probs.expand(*ids.shape, 256)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_each_token_but_the_first_counts_once(batch, tmp_path):
    data = TokenWindows(text("abc" * 100, validation=["a"], test=[HELD_OUT]), context=16, eval_batch_size=batch)
    method = Letters()
    got = evaluate(method, data, Language(), folder=tmp_path)
    following = HELD_OUT[1:]
    bits = sum(following.count(letter) * math.log2(part) for letter, part in zip("abc", (2, 3, 6), strict=True))
    expected = bits / len(following)
    assert got["bits_per_byte"] == pytest.approx(expected, rel=1e-6)
    assert got["nll"] == pytest.approx(expected * math.log(2), rel=1e-6)
    assert got["perplexity"] == pytest.approx(2**expected, rel=1e-6)
    assert method.widths == {16, len(following) % 16}


def test_what_has_no_probability_is_infinitely_unlikely(tmp_path):
    data = TokenWindows(text("abc" * 100, validation=["a"], test=[HELD_OUT]), context=16)
    got = evaluate(Letters((0.5, 0.5, 0.0)), data, Language(), folder=tmp_path)
    assert got["nll"] == got["perplexity"] == math.inf
    got = evaluate(Letters((0.5, 0.5, math.nan)), data, Language(), folder=tmp_path)
    assert math.isnan(got["nll"])
    assert math.isnan(got["perplexity"])


def test_characters_are_no_bytes(tmp_path):
    source = text("abc" * 100, validation=["a"], test=[HELD_OUT])
    data = TokenWindows(source, context=16, tokenizer="character")
    got = evaluate(Letters(), data, Language(), folder=tmp_path)
    assert set(got) == {"nll", "perplexity"}


def test_asks_for_a_language_model_and_tokens():
    data = TokenWindows(text("abc" * 100, validation=["a"], test=[HELD_OUT]), context=16)
    assert Language().why_not(FakeEverything(), data.batch_type, data.spec) == "FakeEverything is no LanguageModel"
    digits = LabelledData(Digits())
    assert Language().why_not(Letters(), digits.batch_type, digits.spec) == "Labelled batches have no ids"
