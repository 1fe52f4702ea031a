"""Samplers that are as good and as bad as can be; pictures; the feature cache."""

from __future__ import annotations

import math

import matplotlib.image
import pytest
import torch

from callbacks import features
from callbacks.evaluation.samples import CHUNK, Samples
from callbacks.features import feature_space
from callbacks.pictures import grid, panels
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.digits import Digits
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate


class Resampler(Fake):
    """Draws training records."""

    def __init__(self, data):
        super().__init__()
        self.pool = data.records("train").x
        self.calls = []

    def sample(self, n):
        self.calls.append(n)
        return self.pool[torch.randint(len(self.pool), (n,))]


class Noise(Fake):
    """Draws uniform noise in the range of the data."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def sample(self, n):
        return 2 * torch.rand(n, *self.shape) - 1


@pytest.fixture(scope="module")
def digits():
    data = UnlabelledData(Digits())
    data.setup()
    return data


def test_training_records_score_like_real_ones_and_noise_far_worse(digits, tmp_path):
    method = Resampler(digits)
    good = evaluate(method, digits, Samples(), folder=tmp_path / "good")
    bad = evaluate(Noise((1, 8, 8)), digits, Samples(), folder=tmp_path / "bad")
    assert method.calls == [CHUNK] * 4
    assert good["frechet_real"] == bad["frechet_real"] > 0
    # Draws with replacement carry their own noise, the share of each class above all: 1.1 to 2.1 over five seeds.
    assert 0.8 < good["frechet"] / good["frechet_real"] < 2.5
    assert bad["frechet"] > 20 * good["frechet"]
    assert abs(good["mmd"]) < 0.005
    assert bad["mmd"] > 20 * abs(good["mmd"])
    assert bad["sliced_wasserstein"] > 2 * good["sliced_wasserstein"]
    picture = matplotlib.image.imread(tmp_path / "good" / "samples.png")
    assert picture.shape[1] > picture.shape[0] > 500
    assert [path.name for path in (tmp_path / "good").iterdir()] == ["samples.png"]


def test_figures_repeat_and_leave_the_random_state_alone(digits, tmp_path):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = evaluate(Noise((1, 8, 8)), digits, Samples(n=300), folder=tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    assert first == evaluate(Noise((1, 8, 8)), digits, Samples(n=300), folder=tmp_path)


def test_vectors_are_their_own_features(tmp_path):
    data = UnlabelledData(GaussianVectors(), test=0.4)

    class Shifted(Fake):
        def sample(self, n):
            return torch.randn(n, 2) + torch.tensor([3.0, 0.0])

    got = evaluate(Shifted(), data, Samples(n=400), folder=tmp_path)
    assert got["frechet"] == pytest.approx(9, rel=0.15)  # W2^2 of N(0, I) and its shift
    # On a direction with angle t the shift is 3 cos t: the root of the mean square is 3 / sqrt(2).
    assert got["sliced_wasserstein"] == pytest.approx(3 / math.sqrt(2), rel=0.1)
    # The median distance h has h^2 = 4 ln 2 (differences are N(0, 2 I)), and E k as in test_distances.
    h = 4 * math.log(2)
    assert got["mmd"] == pytest.approx(2 * h / (h + 2) * (1 - math.exp(-9 / (2 * (h + 2)))), rel=0.1)
    assert (tmp_path / "samples.png").stat().st_size > 5000


def test_a_sampler_that_repeats_the_training_records_is_told_by_their_distance(tmp_path):
    data = UnlabelledData(GaussianVectors(), test=0.4)
    train = data.records("train", 200).x

    class Copy(Fake):
        def sample(self, n):
            return train[:n]

    got = evaluate(Copy(), data, Samples(n=200), folder=tmp_path)
    assert got["sliced_wasserstein_train"] == 0
    assert got["sliced_wasserstein"] > 0.05
    assert got["frechet"] == got["frechet_real"]


def test_draws_that_are_not_finite_give_nan_and_no_crash(digits, tmp_path):
    class Diverged(Fake):
        def sample(self, n):
            return torch.full((n, 1, 8, 8), math.inf)

    got = evaluate(Diverged(), digits, Samples(n=50), folder=tmp_path)
    assert math.isnan(got["frechet"])
    assert math.isnan(got["mmd"])
    assert math.isfinite(got["frechet_real"])


def test_the_feature_network_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPENDIUM_CACHE", str(tmp_path))
    monkeypatch.setattr(features, "STEPS", 2)
    monkeypatch.setattr(features, "_NETS", {})
    trained = []
    fit = features.train
    monkeypatch.setattr(features, "train", lambda net, data: (trained.append(1), fit(net, data)))
    data = LabelledData(Digits())
    x = data.records("test", 20).x
    first = feature_space(data)(x)
    assert first.shape == (20, 64)
    (file,) = (tmp_path / "features").iterdir()
    assert torch.equal(feature_space(data)(x), first)  # kept in memory
    features._NETS.clear()
    assert torch.equal(feature_space(data)(x), first)  # read from disk
    assert len(trained) == 1
    for damaged in (file.read_bytes()[:1000], b"", b"no checkpoint"):
        file.write_bytes(damaged)
        features._NETS.clear()
        assert torch.equal(feature_space(data)(x), first)  # trained again, to the same weights
    assert len(trained) == 4
    features._NETS.clear()
    assert torch.equal(feature_space(data)(x), first)
    assert len(trained) == 4
    assert [path.name for path in (tmp_path / "features").iterdir()] == [file.name]


def test_fingerprints_tell_data_and_split_apart():
    same = [features.fingerprint(LabelledData(Digits())) for _ in range(2)]
    assert same[0] == same[1]
    assert features.fingerprint(LabelledData(Digits(), scale="none")) != same[0]
    assert features.fingerprint(LabelledData(Digits(), seed=1)) != same[0]


def test_features_tell_the_classes_apart(digits):
    feature_space(digits)
    net = features._NETS[features.fingerprint(digits)]
    x, y = digits.records("test").x, digits.columns["y"][digits.rows["test"]]
    assert (net(x).argmax(1) == y).double().mean() > 0.95


def test_grid_lays_pictures_out_in_rows():
    pictures = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 2, 2)
    laid = grid(pictures, 0, 5, columns=4)
    assert laid.shape == (5, 11, 3)
    assert laid[0, [0, 3, 6, 9], 0].tolist() == pytest.approx([0, 0.2, 0.4, 0.6])
    assert laid[3, [0, 3], 1].tolist() == pytest.approx([0.8, 1])
    assert (laid[2] == 1).all()
    assert (laid[:, 2] == 1).all()
    assert (laid[3:, 6:] == 1).all()


def test_panels_have_titles_and_axis_labels():
    x = torch.randn(60, 2)
    sets = {"samples": x[:50], "real": x}
    axes = panels(sets, DataSpec("d", "vector", (2,), features=("age", "height")), "title").axes
    assert [axis.get_xlabel() for axis in axes] == ["age", "age"]
    assert [axis.get_ylabel() for axis in axes] == ["height", "height"]
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert [axis.get_title() for axis in axes] == ["samples (50)", "real (60)"]
    far = panels({"samples": torch.full((7, 2), 99.0), "real": torch.randn(60, 2)}, DataSpec("d", "vector", (2,)), "t")
    assert far.axes[0].get_title() == "samples (7, 7 of them outside the frame)"
    for shape in ((1,), (5,)):
        sets = {"samples": torch.full((50, *shape), 99.0), "real": torch.randn(60, *shape)}
        assert all(axis.get_xlabel() for axis in panels(sets, DataSpec("d", "vector", shape), "title").axes)
