"""Captions that are true, untrue, or say too little."""

from __future__ import annotations

import torch

from callbacks.evaluation.captions import Captions
from datamodules.presentations.captioned import CaptionedPictures
from datamodules.sources.scenes import Scenes
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.datamodules.presentations.test_captioned import Told


class Says(Fake):
    """Captions of known pictures."""

    def __init__(self, pictures, captions):
        super().__init__()
        self.pictures, self.captions = pictures, captions

    def caption(self, x):
        return self.captions[torch.cdist(x.flatten(1), self.pictures.flatten(1)).argmin(1)]


def test_own_true_untrue_and_incomplete_captions(tmp_path):
    data = CaptionedPictures(Scenes(train=10, validation=10, test=40, pairs=1.0, side=14, grid=1), eval_batch_size=7)
    x, own = data.records("test")
    say = lambda captions: evaluate(Says(x, captions), data, Captions(), folder=tmp_path)  # noqa: E731
    assert say(own) == {"caption_match": 1, "caption_complete": 1, "caption_true": 1}
    # The relation turned around, with the objects in their places.
    turned = {"left": "right", "right": "left", "above": "below", "below": "above"}
    texts = [data.words.decode(row) for row in own]
    untrue = [" ".join(turned.get(word, word) for word in text.split()) for text in texts]
    encoded = torch.stack([data.words.encode(text, own.shape[1]) for text in untrue])
    assert say(encoded) == {"caption_match": 0, "caption_complete": 1, "caption_true": 0}
    assert say(own[:, :3]) == {"caption_match": 0, "caption_complete": 1, "caption_true": 1}  # one of the two
    assert say(own[:, :2]) == {"caption_match": 0, "caption_complete": 0, "caption_true": 0}


def test_where_nobody_reads_the_words_are_compared(tmp_path):
    data = CaptionedPictures(Told(), validation=0.0)
    x, own = data.records("test")
    assert evaluate(Says(x, own), data, Captions(), folder=tmp_path) == {"caption_match": 1}
