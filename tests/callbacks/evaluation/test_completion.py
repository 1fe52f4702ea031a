"""Completions whose distances are known by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from callbacks.evaluation.completion import Completion
from compendium.errors import UserError
from datamodules.presentations.masked_pictures import MaskedPictures
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Off(Fake):
    """Misses each hidden pixel by the next of some amounts, in the range of 2."""

    def __init__(self, *amounts):
        super().__init__()
        self.amounts = itertools.cycle(amounts)

    def inpaint(self, x, mask):
        return x + (1 - mask) * next(self.amounts)


def test_by_hand(tmp_path):
    """0.2, -0.2 and 0.6 in a range of 2 are 0.1, 0.1 and 0.3 of it; between them 0.2, 0.2 and 0.4."""
    data = MaskedPictures(Digits(), mask="random", eval_batch_size=100)
    got = evaluate(Off(0.2, -0.2, 0.6), data, Completion(draws=3), folder=tmp_path)
    assert got["psnr_best"] == pytest.approx(20, abs=1e-4)
    assert got["psnr_mean"] == pytest.approx((20 + 20 - 20 * math.log10(0.3)) / 3, abs=1e-4)
    assert got["l1_best"] == pytest.approx(0.1, rel=1e-5)
    assert got["completion_diversity"] == pytest.approx((0.2 + 0.2 + 0.4) / 3, rel=1e-5)


def test_one_completion_over_and_over_has_no_diversity(tmp_path):
    got = evaluate(Off(0.3), MaskedPictures(Digits()), Completion(draws=4), folder=tmp_path)
    assert got["completion_diversity"] == pytest.approx(0, abs=1e-7)
    assert got["psnr_best"] == got["psnr_mean"]


def test_noise_has_the_distances_of_gaussians(tmp_path):
    """Draws x + 0.2 e: 16 hidden pixels, d^2 is 0.01 chi^2_16 / 16 to the truth and twice that between draws."""

    class Noise(Fake):
        def inpaint(self, x, mask):
            return x + 0.2 * (1 - mask) * torch.randn_like(x)

    got = evaluate(Noise(), MaskedPictures(Digits()), Completion(draws=5), folder=tmp_path)
    mean_chi = math.sqrt(2) * math.gamma(8.5) / math.gamma(8)
    assert got["completion_diversity"] == pytest.approx(0.1 * math.sqrt(2 / 16) * mean_chi, rel=0.02)
    assert 20 < got["psnr_best"] < 25


def test_one_draw_is_refused():
    with pytest.raises(UserError, match="draws=1"):
        Completion(draws=1)
