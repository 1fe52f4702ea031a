"""Errors before and after each acquisition by hand, their features by other packages, and a continued search."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.neighbors import KernelDensity
from torch import nn

from compendium.errors import UserError
from compendium.seeding import reseed
from datamodules.batches import Candidates
from modules.uncertainty.ei_deup import EIDEUP
from modules.uncertainty.processes import likeliest
from tests.modules.test_contract import planned, trained
from tests.modules.uncertainty.test_sequential import ADAM, NET, SPEC, pool, steps

FEW = {"acquisitions": 12, "initial": 6, "restarts": 0}
PROCESS = {**FEW, "predictor": "process"}


class Constant(nn.Module):
    """A predictor that finds the mean of the responses, and no more."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.value.expand(len(x), 1)


def of_constants(**settings) -> EIDEUP:
    torch.manual_seed(0)
    optimizer = {"_target_": "torch.optim.LBFGS", "lr": 1.0}  # any: the step is replaced
    return Exactly(SPEC, net=Constant(), optimizer=optimizer, **{**FEW, **settings})


class Exactly(EIDEUP):
    """Learns by solving."""

    def learn(self, net, x, y, among=None):
        share = torch.ones(1, len(y)) if among is None else among.float()
        means = (share * y.float()).sum(1) / share.sum(1)
        with torch.no_grad():
            next(net.parameters()).copy_(means if among is not None else means[0])


def test_errors_are_noted_of_halves_and_before_and_after_each_acquisition():
    search, batch = of_constants(), pool()
    rows = steps(search, batch, 0, 4)
    y = batch.y[rows].double()
    reseed(0, "step", 1)  # the halves are drawn at the first acquisition that is no random one
    expected = []
    for _ in range(2):
        half = torch.rand(6).argsort().argsort() < 3
        for mine in (half, ~half):
            expected += ((y[:6][mine].mean() - y[:6]) ** 2).tolist()
    for number in (6, 7, 8):
        expected.append(float((y[:number].mean() - y[number]) ** 2))
        if number < 8:  # what f says of it once it has learned from it
            expected.append(float((y[: number + 1].mean() - y[number]) ** 2))
    assert int(search.noted) == len(expected) == 24 + 5
    # Squares are not taken to be smaller than e^-10 of the responses' variance then.
    large = torch.tensor(expected, dtype=torch.float64).log() > -7
    torch.testing.assert_close(
        search.errors[:29][large].exp(), torch.tensor(expected, dtype=torch.float64)[large], atol=1e-5, rtol=1e-5
    )
    before, after = search.told[24], search.told[25]
    assert torch.equal(before[:2], after[:2])  # the place
    assert torch.equal(before[:2], search.points[6])
    assert float(before[2]) > float(after[2])  # the process's variance


def test_features_are_the_density_the_variances_and_whether_it_was_seen():
    search = of_constants(features=["place", "density", "variance", "log_variance", "seen"])
    draw = torch.Generator().manual_seed(0)
    known, whole = (torch.rand(count, 2, dtype=torch.float64, generator=draw) * 3 for count in (8, 50))
    y = known.sum(1)
    process = likeliest(known, y, restarts=0)
    x = torch.cat([known[:3], known[3:5] + 0.5])
    found = search.phi(x, whole, process)
    assert torch.equal(found[:, :2], x)
    peer = KernelDensity(bandwidth=8 ** (-1 / 6)).fit(known.numpy())
    density = (torch.from_numpy(peer.score_samples(at.numpy())) for at in (x, whole))
    variance = [process.moments(at)[1] / y.var(correction=0) for at in (x, whole)]
    for column, (here, there) in enumerate([density, variance, [(one + 1e-8).log() for one in variance]]):
        expected = (here - there.min()) / (there.max() - there.min())
        torch.testing.assert_close(found[:, 2 + column], expected)
    assert found[:, 5].tolist() == [1, 1, 1, 0, 0]
    assert search.told.shape == (2 * 2 * 6 + 2 * 6, 6)


@torch.no_grad()
@pytest.mark.parametrize("width", [1.0, 0.3, None])
def test_the_second_predictor_is_scikit_learns(width):
    """Of a fixed kernel, with no mean but one spread of the response; and of the likeliest kernel."""
    search = of_constants(width=width)
    steps(search, pool(), 0, 4)
    x = pool().x.double()
    search.moments(x)
    unit = float(search.measured()[1].std(correction=0))
    phi, told = (of.numpy() for of in (search.phi(x, x, search.process), search.told[: search.noted]))
    errors = search.errors[: search.noted].numpy() - 2 * math.log(unit)
    if width is None:
        start = ConstantKernel() * RBF(0.3, (1e-3, 1e3)) + WhiteKernel(0.1, (1e-8, 1e2))
        peer = GaussianProcessRegressor(start, normalize_y=True, random_state=0)
        phi, told = ((of - told.mean(0)) / told.std(0) for of in (phi, told))
    else:
        peer = GaussianProcessRegressor(RBF(width), alpha=1e-6, optimizer=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.from_numpy(peer.fit(told, errors).predict(phi)).clamp(-20, 3)
    found = search.error(x).log() - 2 * math.log(unit)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


@torch.no_grad()
def test_u_is_the_excess_risk_of_a_predictor_that_can_not_fit():
    """f is the mean of y = +-2, its excess risk about 4 everywhere, and that of the process's mean far smaller.

    Of the likeliest kernel: one without noise goes through all errors, and lies wide of their mean between them.
    """
    x = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 4 - 2
    batch = Candidates(x, 2 * torch.sign(x[:, 0]), torch.arange(400))
    search = of_constants(acquisitions=40, initial=30, width=None)
    steps(search, batch, 0, 3)
    mean, variance = search.moments(x.double())
    risk = (mean - batch.y.double()).square()
    assert float(variance.mean()) == pytest.approx(float(risk.mean()), rel=0.15)
    known = of_constants(acquisitions=40, initial=30, width=None, aleatoric=1e6)
    known.load_state_dict(search.state_dict())
    assert float(known.moments(x.double())[1].max()) == 0
    process = EIDEUP(SPEC, **{**PROCESS, "acquisitions": 40, "initial": 30, "width": None})
    steps(process, batch, 0, 3)
    assert float(process.moments(x.double())[1].mean()) < 0.5 * float(variance.mean())


@pytest.mark.parametrize("parts", [{"predictor": "process"}, {"net": NET, "optimizer": ADAM, "steps": 5}])
def test_a_continued_search_is_the_same(parts):
    torch.manual_seed(0)
    whole, begun = EIDEUP(SPEC, **FEW, **parts), EIDEUP(SPEC, **FEW, **parts)
    begun.load_state_dict(whole.state_dict())
    steps(begun, pool(), 0, 4)
    torch.manual_seed(1)
    again = EIDEUP(SPEC, **FEW, **parts)
    again.load_state_dict(begun.state_dict())
    assert steps(again, pool(), 4, 9) == steps(whole, pool(), 0, 9)
    assert int(whole.noted) == 24 + 2 * 6 - 1
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_its_mean_is_the_process_s_without_a_network():
    search = EIDEUP(SPEC, **PROCESS)
    steps(search, pool(), 0, 3)
    x = pool().x.double()
    mean, _ = search.moments(x)
    torch.testing.assert_close(mean, likeliest(*search.measured(), 0).moments(x)[0])


def test_a_schedule_begins_anew_at_each_acquisition(tmp_path):
    few = ("data.train=60", "datamodule.batch_size=64", "model.steps=4", "trainer.max_epochs=4", "model.restarts=0")
    parts = trained(planned("uncertainty/ei_deup", tmp_path, *few, "schedule=cosine"))
    assert parts.method.count() == 6 + 3
    assert len(parts.method.acquired_rows().unique()) == 9
    assert bool(parts.method.errors[: 24 + 5].isfinite().all())
    assert math.isfinite(float(parts.method.net.last.weight.detach().sum()))


@pytest.mark.parametrize(
    "settings",
    [
        {"features": ["place", "other"]},
        {"features": []},
        {"width": 0.0},
        {"aleatoric": -1.0},
        {"restarts": -1},
        {"initial": 3},
        {"predictor": "other"},
    ],
)
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match=r"model\."):
        EIDEUP(SPEC, **{**PROCESS, **settings})
