"""Errors of known reconstructions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from callbacks.evaluation.reconstructions import Reconstructions
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Gaussians
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Off(Fake):
    """Gives back what it got plus a constant."""

    def __init__(self, by):
        super().__init__()
        self.by, self.weight = by, nn.Parameter(torch.zeros(()))

    def reconstruct(self, x):
        return x + self.by


def test_vectors_that_are_all_moved_alike(tmp_path):
    """A shift by c in D dimensions: a squared difference of c^2, and a Fréchet distance of D c^2."""
    data = UnlabelledData(Gaussians([[0.0, 0.0]], 1.0, train=20, validation=5, test=300))
    data.setup()
    figures = evaluate(Off(0.5), data, Reconstructions(), folder=tmp_path)
    assert figures["reconstruction_mse"] == pytest.approx(0.25, rel=1e-5)
    assert figures["reconstruction_frechet"] == pytest.approx(0.5, rel=1e-3)
    assert "reconstruction_psnr" not in figures


def test_pictures_of_a_known_range(tmp_path):
    data = LabelledData(Digits(), scale="symmetric", batch_size=64)
    data.setup()
    figures = evaluate(Off(0.1), data, Reconstructions(), folder=tmp_path)
    assert figures["reconstruction_psnr"] == pytest.approx(10 * math.log10(4 / 0.01), rel=1e-4)
    exact = evaluate(Off(0.0), data, Reconstructions(), folder=tmp_path)
    assert exact["reconstruction_frechet"] == pytest.approx(0, abs=1e-3)
    assert exact["reconstruction_mse"] == 0
