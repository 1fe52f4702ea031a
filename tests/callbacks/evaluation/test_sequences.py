"""The bound of texts whose likelihood is known."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.sequences import Sequences
from datamodules.presentations.token_records import TokenRecords
from datamodules.presentations.token_windows import TokenWindows
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.datamodules.fakes import text


class Letters(Fake):
    """Each token is a (2) with probability 1/2, b (3) with 1/4, c (4) with 1/8, the separator (0) with 1/8."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def sequence_log_prob(self, x):
        self.seen += x.tolist()
        return torch.tensor([1 / 8, 0, 1 / 2, 1 / 4, 1 / 8]).log()[x].sum(1)


def test_all_tokens_but_the_first_separator_count(tmp_path):
    data = TokenRecords(text("abc", validation=["a"], test=["ab", "cca"]), eval_batch_size=1)
    got = evaluate(Letters(), data, Sequences(), folder=tmp_path)
    bits = ((1 + 2 + 3) + (3 + 3 + 1)) / 6
    assert got["nll_bound"] == pytest.approx(bits * math.log(2), rel=1e-6)
    assert got["perplexity_bound"] == pytest.approx(2**bits, rel=1e-6)


def test_a_shorter_window_is_left_out(tmp_path):
    data = TokenWindows(text("abc" * 20, validation=["a"], test=["abcab"]), tokenizer="character", context=3)
    method = Letters()
    got = evaluate(method, data, Sequences(), folder=tmp_path)
    assert method.seen == [[3, 4, 2]]
    assert got["nll_bound"] == pytest.approx(2 * math.log(2), rel=1e-6)
