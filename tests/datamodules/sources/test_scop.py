"""Each rule of a clear pair at its threshold, and the relations of boxes by hand."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.source import Captions, Records, Source
from datamodules.sources.digits import Digits
from datamodules.sources.scenes import Scenes
from datamodules.sources.scop import SpatialPairs, relations
from datamodules.spec import DataSpec

A = ("dog", (0.0, 0.0, 4.0, 4.0))


class Boxes(Source):
    """A picture of 20 x 20 pixels for each set of objects; the last one is of the test."""

    def __init__(self, *objects):
        self.objects = objects

    def load(self) -> Records:
        n = len(self.objects)
        rows = torch.arange(n)
        return Records(
            DataSpec("boxes", "image", (3, 20, 20), bounds=(0.0, 1.0)),
            {"x": torch.zeros(n, 3, 20, 20)},
            splits={"train": rows[:-1], "test": rows[-1:]},
            captions=Captions(["nothing"] * n, objects=self.objects),
        )


def kept(*objects, **thresholds) -> bool:
    """Whether a picture of the objects stays; beside one that always does."""
    sure = (("dog", (0.0, 0.0, 10.0, 10.0)), ("cat", (10.0, 0.0, 10.0, 10.0)))
    records = SpatialPairs(Boxes(objects, sure, sure), **thresholds).load()
    return 0 in records.splits["train"].tolist()


def test_each_rule_at_its_threshold():
    def pair(left=4.0, top=0.0, side=4.0, name="cat"):
        return A, (name, (left, top, side, side))

    # 16 + 16 of 400 pixels are a share of 0.08.
    assert kept(*pair(), significance=0.08)
    assert not kept(*pair(), significance=0.081)
    assert not kept(*pair(name="dog"), significance=0)
    # Diagonals of 32^(1/2) = 5.657: twice that is 11.31.
    assert kept(*pair(left=11.3), significance=0)
    assert not kept(*pair(left=11.4), significance=0)
    # 4 x 1.2 of 16 pixels in common are 0.3 of the smaller one.
    assert kept(*pair(left=2.81), significance=0)
    assert not kept(*pair(left=2.79), significance=0)
    # An area of 2.83^2 = 8.01 is half of 16.
    assert kept(*pair(side=2.83), significance=0)
    assert not kept(*pair(side=2.82), significance=0)


def test_relations_of_boxes_by_hand():
    """The axis with less overlap; both where each is below a third."""
    box = (0.0, 0.0, 3.0, 3.0)
    assert relations(box, (4.0, 1.0, 3.0, 3.0)) == ["left of"]
    assert relations((4.0, 1.0, 3.0, 3.0), box) == ["right of"]
    assert relations(box, (1.0, 2.0, 3.0, 3.0)) == ["above"]
    assert relations((1.0, 4.0, 3.0, 3.0), box) == ["below"]
    assert relations(box, (4.0, 4.0, 3.0, 3.0)) == ["left of and above", "above and left of"]
    assert relations(box, (2.5, 2.1, 3.0, 3.0)) == ["left of and above", "above and left of"]
    assert relations(box, (2.5, 1.9, 3.0, 3.0)) == ["left of"]


def test_captions_of_noisy_scenes_become_true_and_the_test_stays():
    scenes = Scenes(train=600, pairs=1.0, clear=False, vague=0.5, wrong=0.5)
    raw, clean = scenes.load(), SpatialPairs(scenes).load()
    rows = clean.splits["train"]
    assert 0.2 < len(rows) / 600 < 0.9
    texts = [clean.captions.texts[row] for row in rows.tolist()]
    simple = [number for number, text in enumerate(texts) if " and " not in text]
    x = raw.columns["x"][rows[simple]]
    figures = clean.captions.reader.judge(x, [texts[number] for number in simple])
    assert (figures["position_accuracy"] == 1).all()
    assert (figures["count_accuracy"] == 1).all()
    assert {text.split()[1] for text in texts} == {"red", "green", "blue"}
    for split in ("validation", "test"):
        for row in raw.splits[split].tolist():
            assert raw.captions.texts[row] == clean.captions.texts[row]
    assert set(" ".join(texts).split()) <= set(clean.captions.words)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="objects of 'digits' are not known"):
        SpatialPairs(Digits()).load()
    with pytest.raises(UserError, match="no training picture"):
        SpatialPairs(Boxes((A, A), (A, A))).load()
    for wrong in ({"significance": 2}, {"clarity": 0}, {"overlap": -1}, {"balance": 1.1}):
        with pytest.raises(UserError, match=f"data.{next(iter(wrong))}="):
            SpatialPairs(Scenes(), **wrong)
