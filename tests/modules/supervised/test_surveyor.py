"""The three losses of a survey written out in NumPy, and how they are added up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Trainer
from scipy.special import log_softmax
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Surveyed
from datamodules.presentations.surveyed import SurveyedData
from datamodules.sources.shapes import Shapes
from datamodules.spec import DataSpec
from modules.capabilities import Segmenter, Surveyor
from modules.supervised.surveyor import WeightedSurvey

SPEC = DataSpec("masks", "image", (6, 4, 5), target="mask", classes=("background", "left", "right"))


def batch(n=3):
    segments = torch.randint(3, (n, 4, 5))
    return Surveyed(torch.randn(n, 6, 4, 5), segments, torch.randn(n, 2, 4, 5), torch.rand(n, 4, 5))


def survey(**arguments):
    return WeightedSurvey(SPEC, net=nn.Identity(), **arguments)


def test_losses_written_out():
    given, method = batch(), survey()
    method.units.copy_(torch.tensor([4.0, 0.5]))
    x, offset, depth = (part.double().numpy() for part in (given.x, given.offset, given.depth))
    segments = given.segments.numpy()
    inside = segments > 0
    apart = np.abs(4 * x[:, 3:5] - offset)[np.broadcast_to(inside[:, None], offset.shape)]
    said = np.take_along_axis(log_softmax(x[:, :3], 1), segments[:, None], 1)
    expected = {"semantic": -said.mean(), "offset": apart.mean(), "depth": np.abs(0.5 * x[:, 5] - depth).mean()}
    losses = method.losses(given)
    assert {task: loss.item() for task, loss in losses.items()} == pytest.approx(expected, rel=1e-5)
    weighed = survey(semantic=2.0, offset=0.1, depth=0.0)
    weighed.units.copy_(method.units)
    total = sum(weighed.loss(given).values()).item()
    assert total == pytest.approx(2 * expected["semantic"] + 0.1 * expected["offset"], rel=1e-5)


def test_pictures_without_an_instance_have_no_error_of_offset():
    given = batch()._replace(segments=torch.zeros(3, 4, 5, dtype=torch.int64))
    assert survey().losses(given)["offset"].item() == 0


def test_it_surveys():
    method = survey()
    assert isinstance(method, Surveyor)
    assert isinstance(method, Segmenter)
    offset, depth = method.predict_geometry(batch().x)
    assert offset.shape == (3, 2, 4, 5)
    assert depth.shape == (3, 4, 5)


def test_units_are_the_spreads_of_the_training_targets():
    data = SurveyedData(Shapes(train=20, validation=1, test=1, disparity=100.0), batch_size=10)
    method = WeightedSurvey(data.spec, net={"_target_": "modules.networks.unet.UNet", "channels": [8]})
    method.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    method.trainer.datamodule = data
    method.on_fit_start()
    told = {name: column[data.rows["train"]].double().numpy() for name, column in data.columns.items()}
    inside = np.broadcast_to(told["segments"][:, None] > 0, told["offset"].shape)
    assert method.units.tolist() == pytest.approx([told["offset"][inside].std(), told["depth"].std()], rel=1e-5)


@pytest.mark.parametrize("weights", [(-1.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_weights_that_make_no_loss_are_refused(weights):
    with pytest.raises(UserError, match="at least 0"):
        survey(**dict(zip(("semantic", "offset", "depth"), weights, strict=True)))
