"""Draws that are known to show what was asked for, or something else."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.prompts import Prompts
from datamodules.presentations.captioned import CaptionedPictures
from datamodules.sources.scenes import Scenes
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.datamodules.presentations.test_captioned import Told


class Recalled(Fake):
    """Draws the record whose caption was asked for, or what it is given."""

    def __init__(self, captions, pictures):
        super().__init__()
        self.captions, self.pictures = captions, pictures

    def sample_for(self, caption):
        rows = (caption[:, None] == self.captions).all(2).long().argmax(1)
        return self.pictures[rows]


@pytest.fixture
def data():
    return CaptionedPictures(Scenes(train=10, validation=10, test=60), eval_batch_size=7)


def test_the_records_themselves_are_right_and_nothing_shows_nothing(tmp_path, data):
    batch = data.records("test")
    perfect = evaluate(Recalled(batch.caption, batch.x), data, Prompts(n=50), folder=tmp_path)
    for name in ("attribute_accuracy", "count_accuracy", "position_accuracy", "position_given_objects"):
        assert perfect[name] == 1
    assert perfect["count_error"] == 0
    black = evaluate(Recalled(batch.caption, -torch.ones_like(batch.x)), data, Prompts(n=50), folder=tmp_path)
    assert black["attribute_accuracy"] == black["count_accuracy"] == black["position_accuracy"] == 0
    assert math.isnan(black["position_given_objects"])
    # Black pictures have no covariance: the squared distance of the means, and the data's variance.
    x = batch.x[:50].double().flatten(1)
    expected = (x.mean(0) + 1).square().sum() + x.var(0).sum()
    assert black["prompt_frechet"] == pytest.approx(float(expected), rel=1e-6)


def test_where_nobody_reads_the_distance_alone_is_left(tmp_path):
    data = CaptionedPictures(Told(), validation=0.0, test=0.0)
    data.setup()
    data.rows["test"] = torch.arange(4)
    batch = data.records("test")
    figures = evaluate(Recalled(batch.caption, batch.x), data, Prompts(n=4), folder=tmp_path)
    assert set(figures) == {"prompt_frechet"}
    assert figures["prompt_frechet"] >= 0


def test_a_method_that_reads_no_text_is_left_alone(data):
    data.setup()
    assert "TextSampler" in Prompts().why_not_on(Fake(), data)
