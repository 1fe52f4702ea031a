"""Shifts do what they say, more with each severity."""

from __future__ import annotations

import math

import pytest
import scipy.ndimage
import torch

from compendium.errors import UserError
from datamodules.presentations.shifts import SEVERITIES, SHIFTS, blur, rotation, shift, statistics


def records(kind: str) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shape = (400, 1, 8, 8) if kind == "image" else (400, 5)
    x = torch.rand(shape, generator=draw)
    return {"x": x, "y": torch.arange(400) % 4}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in SHIFTS.items() for name in names])
def test_each_severity_moves_records_further_and_keeps_their_shape_and_bounds(kind, name):
    plain = records(kind)
    moved = []
    for severity in SEVERITIES:
        torch.manual_seed(0)
        columns = shift(kind, name)(plain, severity, statistics(plain["x"]))
        assert columns["x"].shape == plain["x"].shape
        if kind == "image":
            assert columns["x"].min() >= 0
            assert columns["x"].max() <= 1
        same = name not in ("covariate", "label")
        assert torch.equal(columns["y"], plain["y"]) == same
        if same:
            moved.append(float((columns["x"] - plain["x"]).square().mean()))
        elif name == "label":
            moved.append(float((columns["y"] == 0).double().mean()))
        else:
            moved.append(float((columns["x"].mean(0) - plain["x"].mean(0)).norm()))
    # A square is turned onto itself by 90 degrees: beyond 45 its pixels come nearer again.
    upto = 3 if name == "rotation" else 5
    assert moved[:upto] == sorted(moved[:upto])
    assert min(moved[1:]) > moved[0]


def test_blur_is_scipy_s_gaussian():
    x = records("image")["x"][:3]
    ours = blur(x, 5, statistics(x))
    for one, blurred in zip(x, ours, strict=True):
        expected = scipy.ndimage.gaussian_filter(one[0].double().numpy(), 1.0, mode="mirror", truncate=3.0)
        torch.testing.assert_close(blurred[0].double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_rotation_by_45_degrees_twice_is_about_one_by_90():
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 6] = 1  # two pixels right of the centre
    turned = rotation(x, 3, statistics(x))
    row, column = divmod(int(turned.flatten().argmax()), 9)
    assert abs(row - 4) == abs(column - 4) == 1  # on a diagonal, at about the same distance


def test_shifted_classes_have_the_weights_that_are_said():
    plain = records("vector") | {"y": torch.arange(400) % 2}
    torch.manual_seed(0)
    counts = torch.zeros(2)
    for _ in range(50):
        counts += torch.bincount(shift("vector", "label")(plain, 2, statistics(plain["x"]))["y"], minlength=2)
    assert float(counts[0] / counts[1]) == pytest.approx(math.e**2, rel=0.1)


def test_an_unknown_shift_is_refused():
    with pytest.raises(UserError, match="there is no shift 'fog' of image records"):
        shift("image", "fog")
