"""The game of a GAN: penalties in closed form, and the dynamics of the simplest one there is."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.adversarial import Adversarial, squared_slopes
from modules.generative.nsgan import NSGAN
from modules.generative.r3gan import R3GAN

LINE = DataSpec(name="line", kind="vector", shape=(1,))
NET = {"_target_": "modules.networks.mlp.MLP", "width": 4, "depth": 1}


class Point(nn.Module):
    """A generator of one record: the Dirac-GAN's, theta, whatever the noise."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([[theta]], dtype=torch.float64))

    def forward(self, z):
        return self.theta.expand(len(z), 1)


def dirac(kind, gamma: float, rate: float, theta: float = 1e-3, **arguments):
    """D(x) = psi x from psi = 0, G = theta, data at 0 (Mescheder et al. 2018, Definition 2.1), by gradient descent."""
    optimizer = {"_target_": "torch.optim.SGD", "lr": rate}
    method = kind(LINE, latent=1, r1=gamma, net=NET, optimizer=optimizer, **arguments)
    method.generator = Point(theta)
    method.discriminator = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(method.discriminator.weight)
    return method


def played(method, rounds: int) -> complex:
    """psi + i theta after some rounds of the run's own training loop."""
    zeros = [Unlabelled(torch.zeros(2, 1, dtype=torch.float64))] * rounds
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=1, limit_val_batches=0, **quiet)
    trainer.fit(method, *[DataLoader(zeros, batch_size=None)] * 2)
    assert trainer.global_step == rounds  # a round is one step, whoever plays in it
    return complex(method.discriminator.weight.item(), method.generator.theta.item())


def predicted(damping: float, rate: float, rounds: int, theta: float = 1e-3) -> complex:
    """The same, linearised at the equilibrium: f'(0) = 1/2, penalties of `damping` / 2 psi^2 in all, in turns.

    psi <- (1 - rate damping) psi - rate / 2 theta, then theta <- theta + rate / 2 psi.
    """
    psi = 0.0
    for _ in range(rounds):
        psi = (1 - rate * damping) * psi - rate / 2 * theta
        theta = theta + rate / 2 * psi
    return complex(psi, theta)


@pytest.mark.parametrize(("gamma", "both"), [(0.0, True), (0.2, True), (0.2, False), (2.0, True)])
def test_relativistic_dirac_gan_moves_as_its_eigenvalues_say(gamma, both):
    rate, rounds = 0.1, 300
    damping = 2 * gamma if both else gamma
    end = played(dirac(R3GAN, gamma, rate, r2=gamma if both else 0.0), rounds)
    assert cmath.isclose(end, predicted(damping, rate, rounds), rel_tol=1e-4)
    # The determinant of a round is 1 - rate damping: the modulus of both eigenvalues, squared, where they are complex.
    radius = math.sqrt(1 - rate * damping)
    if gamma == 0:
        assert 0.9 < abs(end) / 1e-3 < 1.1, "without penalties it circles the equilibrium and never gets there"
    elif damping < 1:
        assert 0.5 < abs(end) / (1e-3 * radius**rounds) < 2, "with them it spirals in, at the rate of the eigenvalues"
    else:
        creeping = math.exp(-rounds * rate / (4 * damping))  # psi follows theta, which falls at 1 / (4 damping)
        assert abs(end) / 1e-3 == pytest.approx(creeping, rel=0.05), "over-damped, it creeps in"


def test_the_second_penalty_doubles_the_damping():
    ends = [abs(played(dirac(R3GAN, 0.2, 0.1, r2=r2), 200)) for r2 in (0.0, 0.2)]
    radii = [math.sqrt(1 - 0.1 * damping) ** 200 for damping in (0.2, 0.4)]
    assert math.log(ends[1] / ends[0]) == pytest.approx(math.log(radii[1] / radii[0]), rel=0.2)


def test_non_saturating_dirac_gan_shares_the_slope_at_the_equilibrium():
    """Its terms have slopes 1/2 there too, so that with R1 it moves as the relativistic one."""
    end = played(dirac(NSGAN, 0.4, 0.1), 100)
    assert cmath.isclose(end, predicted(0.4, 0.1, 100), rel_tol=1e-3)


def test_slopes_of_linear_and_quadratic_scores():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    slopes = squared_slopes(x @ w, x)
    torch.testing.assert_close(slopes, torch.full((5,), 14.0).double())
    torch.testing.assert_close(torch.autograd.grad(slopes.mean(), w)[0], 2 * w)
    torch.testing.assert_close(squared_slopes(x.square().sum(1), x), 4 * x.square().sum(1))
    image = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(squared_slopes(image.sum((1, 2, 3)), image), torch.full((2,), 9.0).double())


@pytest.mark.parametrize("kind", [NSGAN, R3GAN])
def test_penalties_are_weighted_means_on_either_side(kind):
    """D(x) = x^2 / 2 has the squared slope x^2; the generator makes 3."""
    method = kind(LINE, latent=1, r1=0.5, r2=4.0, net=NET)
    method.generator = Point(3.0)
    method.discriminator.forward = lambda x: x.square() / 2
    terms = method.discriminate(torch.tensor([[1.0], [2.0]]).double(), torch.zeros(2, 1))
    assert terms["r1"].item() == pytest.approx(0.5 / 2 * (1 + 4) / 2)
    assert terms["r2"].item() == pytest.approx(4.0 / 2 * 9)
    method.r1 = method.r2 = 0.0
    assert set(method.discriminate(torch.ones(2, 1), torch.zeros(2, 1))) == {"discriminator"}


def test_each_player_moves_its_own_weights_alone():
    method = NSGAN(LINE, latent=2, net=NET)
    batch = Unlabelled(torch.randn(8, 1))
    for player, other in (method.turns, method.turns[::-1]):
        method.zero_grad()
        torch.stack(tuple(method.play(player, batch).values())).sum().backward()
        assert all(weight.grad is not None for weight in getattr(method, player).parameters())
        if player == "discriminator":
            assert all(weight.grad is None for weight in getattr(method, other).parameters())


def test_the_discriminator_can_have_an_optimizer_of_its_own():
    node = {"_target_": "torch.optim.Adam", "lr": 1e-3, "betas": [0.0, 0.9]}
    method = NSGAN(LINE, latent=2, net=NET, optimizer=node, discriminator_optimizer={"lr": 4e-3})
    method.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    discriminator, generator = method.configure_optimizers()
    assert (discriminator.defaults["lr"], generator.defaults["lr"]) == (4e-3, 1e-3)
    assert discriminator.defaults["betas"] == generator.defaults["betas"]
    assert sum(p.numel() for p in generator.param_groups[0]["params"]) == 2 * 4 + 4 + 4 + 1


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"model\.r2=-1"):
        R3GAN(LINE, r2=-1.0, net=NET)
    with pytest.raises(UserError, match=r"model\.latent=0"):
        NSGAN(LINE, latent=0, net=NET)
    with pytest.raises(TypeError, match="abstract"):
        Adversarial(LINE, 1, 0.0, 0.0, net=NET)
    method = NSGAN(LINE, net=NET)
    method.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    method.trainer.strategy.precision_plugin.precision = "16-mixed"
    with pytest.raises(UserError, match="scales no loss"):
        method.configure_optimizers()
