"""Shapes against the geometry of regular polygons, and what is said of them against what is seen."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Boxed, Segmented, Surveyed
from datamodules.presentations.boxed import BoxedData
from datamodules.presentations.segmented import SegmentedData
from datamodules.presentations.surveyed import SurveyedData
from datamodules.source import Records, Source
from datamodules.sources.shapes import Shapes, extents, outline, waves
from datamodules.spec import DataSpec


def columns(**arguments):
    return Shapes(**{"train": 60, "validation": 1, "test": 1, **arguments}).load().columns


@pytest.mark.parametrize("corners", [0, 3, 4, 6])
def test_outlines_enclose_the_area_of_the_polygon(corners):
    phi = torch.linspace(0, 2 * math.pi, 20001, dtype=torch.float64)[:-1]
    radius = outline(phi, torch.tensor(corners))
    area = math.pi if corners == 0 else corners / 2 * math.sin(2 * math.pi / corners)
    assert float(radius.square().mean() * math.pi) == pytest.approx(area, rel=1e-6)
    assert float(radius.max()) == pytest.approx(1, abs=1e-5)


def test_a_boundary_wobbles_by_a_standard_normal_number_at_each_angle():
    draws = waves(torch.tensor([0.3, 2.0]).view(2, 1).expand(20000, 2, 1), torch.randn(20000, 9))
    assert draws.mean(0).abs().max() < 0.03
    torch.testing.assert_close(draws.std(0), torch.ones(2, 1), rtol=0, atol=0.03)


def test_a_single_shape_is_where_it_is_said_to_be():
    told = columns(objects=[1, 1], noise=0.0, radii=[6, 9])
    inside = told["segments"] > 0
    lit = told["x"][:, 0] - 0.2
    assert float(lit[~inside].max()) < float(lit[inside].max()) / 2 + 0.1  # at most half of an edge pixel
    assert torch.equal(told["segments"].flatten(1).amax(1) - 1, told["kinds"][:, 0])
    left, top, right, bottom = told["boxes"][:, 0].unbind(1)
    for i, mask in enumerate(inside):
        rows, places = mask.nonzero().unbind(1)
        assert (rows.min(), rows.max() + 1, places.min(), places.max() + 1) == (top[i], bottom[i], left[i], right[i])
        # Every pixel points to the same centre.
        centre = told["offset"][i][:, mask] + mask.nonzero().T + 0.5
        assert float(centre.std(1).max()) < 1e-5
        assert len(told["depth"][i][mask].unique()) == 1
    assert not told["offset"][:, 0][~inside].any()
    torch.testing.assert_close(told["depth"][~inside].unique(), torch.tensor([0.1]))


def test_the_nearer_shape_hides_the_farther_one_and_is_brighter():
    told = columns(objects=[3, 3], tint=0.0, noise=0.0, radii=[8, 10], train=200)
    # At pixels within a shape of one brightness the brightness is that of the depth there.
    flat = (told["x"][:, 0] - 0.2) / 0.6
    deep = told["depth"][:, 1:-1, 1:-1] > 0.1
    for down, across in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        deep &= told["depth"][:, down : down + 30, across : across + 30] == told["depth"][:, 1:-1, 1:-1]
    torch.testing.assert_close(flat[:, 1:-1, 1:-1][deep], told["depth"][:, 1:-1, 1:-1][deep], rtol=0, atol=1e-5)
    assert (told["kinds"] < 0).any()  # somebody is hidden


def test_only_labels_wobble_and_depth_has_its_unit():
    steady, unsteady = columns(), columns(wobble=1.0)
    assert torch.equal(steady["x"], unsteady["x"])
    assert torch.equal(steady["boxes"], unsteady["boxes"])
    differ = (steady["segments"] != unsteady["segments"]).double().mean()
    assert 0.01 < differ < 0.1
    torch.testing.assert_close(columns(disparity=50.0)["depth"], 50 * steady["depth"])


def test_noise_and_blur_are_as_asked():
    plain, noisy, blurred = columns(noise=0.0), columns(noise=0.05), columns(noise=0.0, blur=1.0)
    torch.testing.assert_close((noisy["x"] - plain["x"]).std(), torch.tensor(0.05), rtol=0.02, atol=0)
    assert blurred["x"].flatten(1).std(1).mean() < plain["x"].flatten(1).std(1).mean()


def test_splits_are_functions_of_the_seed_and_training_size_moves_no_test_picture():
    one, more, other = Shapes(), Shapes(train=50), Shapes(seed=1)
    test = [s.load().columns["x"][s.load().splits["test"]] for s in (one, more, other)]
    assert torch.equal(test[0], test[1])
    assert not torch.equal(test[0], test[2])
    assert {name: len(rows) for name, rows in one.load().splits.items()} == {
        "train": 300,
        "validation": 100,
        "test": 200,
    }


def test_extents_of_an_empty_mask_are_empty():
    assert not extents(torch.zeros(1, 1, 4, 4, dtype=torch.bool)).any()


@pytest.mark.parametrize(
    ("presentation", "kind"), [(SegmentedData, Segmented), (SurveyedData, Surveyed), (BoxedData, Boxed)]
)
def test_presentations_hand_on_the_columns_of_their_batch(presentation, kind):
    data = presentation(Shapes(), batch_size=50)
    batch = next(iter(data.train_dataloader()))
    assert type(batch) is kind
    rows, told = data.plan(0)[0], data.columns
    for name in kind._fields[1:]:
        assert torch.equal(getattr(batch, name), told[name][rows])
    x = data.records("train").x
    assert abs(float(x.mean())) < 1e-3
    assert float(x.std()) == pytest.approx(1, abs=1e-3)


class MasksAlone(Source):
    """Masks, and nothing else."""

    def load(self):
        spec = DataSpec("masks", "image", (1, 4, 4), target="mask", classes=("background", "thing"))
        return Records(spec, {"x": torch.rand(10, 1, 4, 4), "segments": torch.zeros(10, 4, 4, dtype=torch.int64)})


def test_what_a_source_does_not_know_cannot_be_shown():
    assert SegmentedData(MasksAlone()).spec.classes == ("background", "thing")
    with pytest.raises(UserError, match="no offset and depth"):
        SurveyedData(MasksAlone()).spec  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, "data.train=0"),
        ({"kinds": ["disk"]}, "disk"),
        ({"objects": [2, 1]}, "data.objects"),
        ({"radii": [0, 1]}, "data.radii"),
        ({"contrast": 0.9}, "data.contrast"),
        ({"wobble": -1}, "data.wobble"),
        ({"disparity": 0}, "data.disparity"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Shapes(**arguments)
