"""Supershapes against circles, and points against the boundary in the picture."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Pointed
from datamodules.presentations.pointed import PointedData
from datamodules.sources.shapes import Shapes
from datamodules.sources.supershapes import BRIGHT, DARK, Supershapes, blurred, superformula


def test_equal_exponents_of_two_give_a_circle_and_of_one_a_square():
    angle = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    two, one = torch.full((1, 3), 2.0, dtype=torch.float64), torch.ones(1, 3, dtype=torch.float64)
    torch.testing.assert_close(superformula(angle, two, 3), torch.ones(1, 64, dtype=torch.float64))
    # With four lobes and exponents of one |x| + |y| = 1.
    radius = superformula(angle, one, 4)[0]
    torch.testing.assert_close(radius * (angle.cos().abs() + angle.sin().abs()), torch.ones(64, dtype=torch.float64))


def test_points_lie_where_the_picture_changes():
    data = Supershapes(train=50, test=50, blur=(0.1, 0.1), noise=(0.0, 0.0), curvature=0.1).load()
    x, points = data.columns["x"], data.columns["points"]
    assert points.abs().max() <= 1
    centre = points.mean(1, keepdim=True)

    def brightness(places):
        return torch.nn.functional.grid_sample(x, places[:, :, None], align_corners=False)[:, 0, :, 0]

    inner, outer = centre + 0.8 * (points - centre), centre + 1.25 * (points - centre)
    assert (brightness(inner) - BRIGHT).abs().mean() < 0.02
    assert (brightness(outer) - DARK).abs().mean() < 0.02
    assert (brightness(points) - (DARK + BRIGHT) / 2).abs().mean() < 0.06


def test_a_blur_spreads_a_pixel_by_its_width():
    picture = torch.zeros(2, 33, 33)
    picture[:, 16, 16] = 1
    spread = blurred(picture, torch.tensor([1.0, 2.0])).sum(1)
    place = torch.arange(33) - 16.0
    torch.testing.assert_close((spread * place**2).sum(1), torch.tensor([1.0, 4.0]), atol=0.01, rtol=0)


def test_shapes_in_test_are_spread_further():
    source = Supershapes(train=500, test=500, unusual=2.0)
    records = source.load()
    middle = records.columns["points"].mean(1, keepdim=True)
    form = (records.columns["points"] - middle).norm(dim=2)
    form = form / form.amax(1, keepdim=True)
    train, test = (form[records.splits[split]].std(0).mean() for split in ("train", "test"))
    assert test > 1.3 * train
    assert torch.equal(Supershapes(train=3).load().columns["x"], Supershapes(train=3).load().columns["x"])


def test_pictures_come_with_their_points():
    data = PointedData(Supershapes(train=20, points=8), scale="none")
    batch = data.records("test")
    assert isinstance(batch, Pointed)
    assert data.spec.points == 8
    assert torch.equal(batch.points, data.columns["points"][data.rows["test"]])
    assert batch.points.shape == (500, 8, 2)
    with pytest.raises(UserError, match=r"points as its target"):
        PointedData(Shapes(train=1, validation=1, test=1)).setup()


@pytest.mark.parametrize(
    "wrong", [{"lobes": 0}, {"unusual": -1.0}, {"blur": (0.0, 1.0)}, {"radius": (9.0, 20.0)}, {"noise": (0.3, 0.1)}]
)
def test_bad_values(wrong):
    with pytest.raises(UserError, match=rf"data\.{next(iter(wrong))}"):
        Supershapes(**wrong)
