"""Minority scores, which are known for a Gaussian and its linear denoiser."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.minority_diffusion import MinorityDiffusion
from tests.modules.generative.samplers.checkpoints import fitted

X = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
X = (X - X.mean(0)) / X.std(0, correction=0)


def method(checkpoint, **changes):
    values = compose(["model=generative/minority_diffusion", "net=mlp"]).values
    arguments = {key: value for key, value in values["model"].items() if key != "_target_"}
    spec = DataSpec(name="records", kind="vector", shape=(2,), sizes={"train": len(X)})
    arguments |= {"model": checkpoint, "net": {**values["net"], "width": 8}, "data_std": 1.0} | changes
    return MinorityDiffusion(spec, **arguments)


class Data:
    """As much of a trainer and its DataModule as is asked for."""

    def __init__(self, x) -> None:
        self.datamodule = self
        self.x = x

    def records(self, split, limit):
        assert split == "train"
        return Unlabelled(self.x[:limit])


def test_the_score_of_a_gaussian_is_that_of_shrinkage(tmp_path):
    """E[x_0 | x_t] = alpha x_t for unit variances: x_0 - D = sigma^2 x_0 - alpha sigma eps, whose mean square is
    sigma^4 |x_0|^2 + 2 alpha^2 sigma^2. Far out it is sigma^2 |x_0|.
    """
    _, checkpoint = fitted(X, tmp_path)
    model = method(checkpoint, probes=4000).double()
    path, t = model.path, torch.tensor(model.time, dtype=torch.float64)
    sigma = float(path.sigma(t))
    alpha = float(path.alpha(t))
    assert alpha == pytest.approx(math.exp(-(0.1 * 0.6004 + 19.9 * 0.6004**2 / 2) / 2), rel=1e-6)
    far = torch.tensor([[30.0, 0.0], [0.0, -50.0]], dtype=torch.float64)
    torch.testing.assert_close(model.minority(far), sigma**2 * far.norm(dim=1), rtol=0.01, atol=0)
    assert float(model.minority(torch.zeros(1, 2, dtype=torch.float64))) == pytest.approx(
        alpha * sigma * math.sqrt(math.pi / 2),
        rel=0.03,  # the mean of Rayleigh's law
    )


def test_levels_are_equally_frequent_and_rise_with_the_distance(tmp_path):
    _, checkpoint = fitted(X, tmp_path)
    model = method(checkpoint, levels=4)
    model._trainer = Data(X)
    model.on_fit_start()
    level = model.level(X)
    assert torch.equal(level.bincount(), torch.tensor([1000] * 4))
    size = X.norm(dim=1)
    assert all(size[level == k].mean() < size[level == k + 1].mean() for k in range(3))
    assert model.level(torch.tensor([[0.0, 0.0], [9.0, 9.0]])).tolist() == [0, 3]


def test_without_a_checkpoint_the_model_is_fitted_at_the_start(tmp_path):
    known, checkpoint = fitted(X, tmp_path)
    model = method(None)
    model._trainer = Data(X)
    model.on_fit_start()
    x, t = torch.randn(3, 2), torch.rand(3)
    torch.testing.assert_close(model.denoise(x, t), known.denoise(x, t))


def test_guided_draws_are_rarer(tmp_path):
    """With a classifier in closed form: whether a record lies in the outer tenth by its distance from the mean."""
    _, checkpoint = fitted(X, tmp_path)
    model = method(checkpoint)
    edge = math.sqrt(-2 * math.log(0.1))  # P(|x| > edge) = 0.1 for a standard normal in the plane

    def log_proba_at(x, t):
        alpha, sigma = model.path.alpha(t), model.path.sigma(t)
        # x_0 | x_t ~ N(alpha x_t, sigma^2 I), of which the component along x_t counts alone.
        margin = (alpha * x.norm(dim=1) - edge) / sigma
        return torch.stack([torch.special.log_ndtr(-margin), torch.special.log_ndtr(margin)], 1)

    model.log_proba_at, model.known, model.guidance.scale = log_proba_at, 2, 1.0
    torch.manual_seed(0)
    assert (model.sample(1000).norm(dim=1) > edge).double().mean() > 0.5
    model.guidance.scale = 0.0
    assert (model.sample(1000).norm(dim=1) > edge).double().mean() < 0.2


@pytest.mark.parametrize(
    ("changes", "what"), [({"levels": 1}, "levels"), ({"probes": 0}, "probes"), ({"perturbation": 0.0}, "perturbation")]
)
def test_numbers_out_of_range_are_refused(changes, what):
    with pytest.raises(UserError, match=f"model.{what}"):
        method(None, **changes)


def test_another_path_is_refused(tmp_path):
    _, checkpoint = fitted(X, tmp_path, path="cosine")
    with pytest.raises(UserError, match="another path"):
        method(checkpoint)
