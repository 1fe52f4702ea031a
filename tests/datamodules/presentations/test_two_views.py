"""Two views of one record, drawn from the seed."""

from __future__ import annotations

import pytest
import torch
import yaml

from compendium.config import CONF
from compendium.errors import UserError
from datamodules.batches import Labelled, Unlabelled
from datamodules.presentations.corruptions import FeatureMask, GaussianJitter
from datamodules.presentations.two_views import TwoViewsData
from datamodules.source import Records
from datamodules.spec import DataSpec
from tests.datamodules.fakes import Given, attach, numbered, source_of

DEFAULT = yaml.safe_load((CONF / "datamodule" / "two_views.yaml").read_text())["augmentations"]
JITTER = "datamodules.presentations.corruptions.GaussianJitter"


def views(choice: str, rank: int = 0, world: int = 1, epoch: int = 0, seed: int = 0, **arguments):
    data = TwoViewsData(source_of(choice), augmentations=DEFAULT, seed=seed, **arguments)
    return list(attach(data, rank, world, epoch).train_dataloader())


@pytest.mark.parametrize("choice", ["digits", "wine"])
def test_views_are_a_function_of_seed_and_epoch(choice):
    if choice == "digits":
        pytest.importorskip("kornia")
    torch.manual_seed(1)
    first = views(choice, batch_size=32)
    torch.manual_seed(2)
    again, later, other = (views(choice, batch_size=32, **at) for at in ({}, {"epoch": 1}, {"seed": 1}))
    assert all(torch.equal(a.a, b.a) and torch.equal(a.b, b.b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].a, first[0].b)
    assert not torch.equal(first[0].a, later[0].a)
    assert not torch.equal(first[0].a, other[0].a)


def test_rows_of_both_views_come_from_one_record():
    """A crop of a plain picture has its brightness, and what is not masked keeps its value."""
    pytest.importorskip("kornia")
    value = torch.arange(60).float() / 60
    plain = Records(DataSpec("plain", "image", (1, 8, 8)), {"x": value[:, None, None, None].expand(60, 1, 8, 8)})
    crop = {"image": [{"_target_": "kornia.augmentation.RandomResizedCrop", "scale": [0.3, 0.9]}]}
    for batch in TwoViewsData(Given(plain), augmentations=crop, scale="none", batch_size=16).train_dataloader():
        torch.testing.assert_close(batch.a, batch.a[:, :, :1, :1].expand_as(batch.a))
        torch.testing.assert_close(batch.a, batch.b)
        assert len(batch.a[:, 0, 0, 0].unique()) == 16
    mask = {"vector": [{"_target_": "datamodules.presentations.corruptions.FeatureMask"}]}
    batch = next(iter(TwoViewsData(source_of("wine"), augmentations=mask).train_dataloader()))
    both = (batch.a != 0) & (batch.b != 0)
    assert torch.equal(batch.a[both], batch.b[both])
    assert float(both.float().mean()) == pytest.approx(0.7**2, abs=0.05)


def test_augmented_images_stay_within_bounds():
    pytest.importorskip("kornia")
    batch = views("digits", scale="symmetric")[0]
    assert batch.a.min() >= -1
    assert batch.a.max() <= 1


def test_colour_pictures_take_the_same_defaults():
    pytest.importorskip("kornia")
    data = TwoViewsData(source_of("pictures", channels=3, patch=32), augmentations=DEFAULT, batch_size=16)
    assert next(iter(data.train_dataloader())).a.shape == (16, 3, 32, 32)


@pytest.mark.parametrize(("choice", "kind"), [("wine", Labelled), ("moons", Unlabelled)])
def test_evaluation_shows_the_records_themselves(choice, kind):
    data = TwoViewsData(source_of(choice), augmentations=DEFAULT)
    assert data.evaluation_batch_type is kind
    batch = next(iter(data.test_dataloader()))
    assert type(batch) is kind
    assert torch.equal(batch.x, data.scaling(data.columns["x"][data.rows["test"]])[: len(batch.x)])


def test_corruptions_have_their_declared_moments():
    torch.manual_seed(0)
    x = torch.full((4000, 5), 2.0)
    jittered, masked = GaussianJitter(0.3)(x), FeatureMask(0.25)(x)
    assert float((jittered - x).std()) == pytest.approx(0.3, rel=0.03)
    assert float((masked == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert set(masked.unique().tolist()) == {0, 2}
    with pytest.raises(UserError, match="rate=1"):
        FeatureMask(1)
    with pytest.raises(UserError, match="negative"):
        GaussianJitter(-1)


@pytest.mark.parametrize(
    ("augmentations", "message"),
    [
        ({"image": []}, "has none for vector data"),
        ({"vector": [{"_target_": JITTER, "sdt": 1}]}, r"datamodule\.augmentations\.vector\[0\]\.sdt"),
        ({"vector": [{"std": 1}]}, "names no _target_"),
        ({"vector": [{"_target_": "os.system"}]}, "not in a package that configs may call"),
    ],
)
def test_wrong_augmentations_are_refused(augmentations, message):
    with pytest.raises(UserError, match=message):
        TwoViewsData(numbered(20), augmentations=augmentations).setup()
