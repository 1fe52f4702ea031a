"""Gaussian diffusion: its loss has the exact denoiser as its minimiser, whatever is predicted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion
from modules.generative.gaussian.paths import NoiseLevel
from modules.generative.gaussian.targets import TARGETS, target_of, value_of
from tests.modules.generative.exact import LAW, PATHS, Known, configured

SPEC = DataSpec(name="mixture", kind="vector", shape=(2,))


def nodes(**choices: str):
    """The config of the model with other choices of its axes, without its network."""
    composed = compose(["model=generative/diffusion", *(f"{group}={name}" for group, name in choices.items())])
    return {key: value for key, value in composed.values["model"].items() if key != "_target_"}


class Exact(nn.Module):
    """The network that predicts a target exactly; it undoes the scaling of its inputs."""

    def __init__(self, path: str, target: str, shift: float = 0.0) -> None:
        super().__init__()
        self.model, self.target, self.data_std = Known(configured("path", path)), target, 0.5
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(self, x, t):
        path = self.model.path
        if isinstance(path, NoiseLevel):
            low, high = torch.tensor([path.start, path.end], dtype=torch.float64).log()
            t = (low + t * (high - low)).exp()
        else:
            t = t * path.end
        x = x * (path.alpha(t).square() * self.data_std**2 + path.sigma(t).square()).sqrt()[:, None]
        value = value_of(self.model.denoise(x, t), x, t, target_of(self.target, path, t, self.data_std), path)
        return value + self.shift


def exact(path: str = "vp", target: str = "v", weighting: str | None = None, shift: float = 0.0, **choices: str):
    arguments = nodes(path=path, **choices) | {"target": target, "weighting": weighting or target, "data_std": 0.5}
    return Diffusion(SPEC, net=Exact(path, target, shift), **arguments).double()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", PATHS)
def test_the_denoiser_is_put_together_from_any_target(path, target):
    method = exact(path, target)
    t = torch.linspace(method.path.start, method.path.end, 7, dtype=torch.float64)[1:-1]
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(method.denoise(x, t), Known(method.path).denoise(x, t), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_a_network_that_predicts_the_velocity_is_the_flow(path):
    method, x = exact(path, "velocity"), torch.randn(5, 2, dtype=torch.float64)
    t = torch.tensor(0.4 * method.path.end, dtype=torch.float64)
    field = method.field()
    torch.testing.assert_close(field.velocity(x, t), Known(method.path).field().velocity(x, t), rtol=1e-6, atol=1e-6)
    assert field.calls == 1
    assert exact(path, "v").flow() is None


def test_a_subclass_with_another_denoiser_has_another_flow():
    class Shrunk(Diffusion):
        def denoise(self, x, t, y=None):
            return super().denoise(x, t, y) / 2

    arguments = nodes(path="linear") | {"target": "velocity"}
    assert Shrunk(SPEC, net=Exact("linear", "velocity"), **arguments).flow() is None


@pytest.mark.parametrize("target", TARGETS)
def test_the_exact_network_minimises_the_loss(target):
    """The gradient with respect to a shift of its output is zero in the mean."""
    method = exact("cosine", target)
    torch.manual_seed(0)
    x = LAW.sample(200_000, torch.Generator().manual_seed(0)).double()
    gradients = []
    for part in x.split(20_000):
        (gradient,) = torch.autograd.grad(method.loss(Unlabelled(part)), method.net.shift)
        gradients.append(gradient)
    gradients = torch.stack(gradients)
    assert gradients.mean().abs() < 4 * gradients.std() / len(gradients) ** 0.5 + 1e-12
    wrong = exact("cosine", target, shift=0.1)
    (gradient,) = torch.autograd.grad(wrong.loss(Unlabelled(x)), wrong.net.shift)
    assert float(gradient) == pytest.approx(0.2, rel=0.5)


def test_a_weighting_of_its_own_is_the_other_targets_error():
    """Predicting v and weighting as noise costs as much as the error of the noise that v implies."""
    data, t = LAW.sample(50).double(), torch.linspace(0.1, 0.9, 50, dtype=torch.float64)
    noise, guess = torch.randn(2, 50, 2, dtype=torch.float64)
    method = exact("vp", "v", "noise")
    alpha, sigma = (part(t)[:, None] for part in (method.path.alpha, method.path.sigma))
    x = alpha * data + sigma * noise
    implied = sigma * x + alpha * guess  # eps = sigma x + alpha v, Salimans and Ho 2022, appendix D
    torch.testing.assert_close(method.error(guess, data, noise, t), (implied - noise).square().mean(1))


@pytest.mark.parametrize("path", ["vp", "edm", "linear"])
def test_likelihood_and_draws_are_the_laws(path):
    method = exact(path, timesteps="log_snr")
    x = LAW.sample(200, torch.Generator().manual_seed(0)).double()
    assert (method.log_prob(x) - LAW.log_prob(x)).mean().abs() < 0.01
    torch.manual_seed(0)
    draws = method.sample(4000)
    torch.testing.assert_close(draws.mean(0), (LAW.weights[:, None] * LAW.means).sum(0), atol=0.12, rtol=0)
    assert method.evaluations == 20


@pytest.mark.parametrize("key", ["target", "weighting", "times"])
def test_an_unknown_choice_is_refused(key):
    with pytest.raises(UserError, match=f"model.{key}=nothing is unknown"):
        Diffusion(SPEC, net=nn.Identity(), **nodes() | {key: "nothing"})
