"""Orders measured on an exact field, limits that are exact, and laws that are kept."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.config import choices
from compendium.errors import UserError
from modules.generative.gaussian.phase_space import PhaseField, PhaseSpace, acted
from modules.generative.integrators.base import integral
from modules.generative.integrators.conjugate import Conjugate
from modules.generative.integrators.euler import Adaptive, Euler, SymmetricSplitting
from modules.generative.integrators.splitting import Splitting, relaxed
from tests.modules.generative.exact import configured
from tests.modules.generative.gaussian.test_phase_space import exact

SPACE = PhaseSpace(start=0.02)
DETERMINISTIC = {
    "euler": Euler(),
    "exponential": Conjugate(),
    "identity": Conjugate(0.7),
    "ones": Conjugate(0.7, "ones"),
    **{
        f"{scheme} {reduced}": Splitting(scheme, reduced)
        for scheme in ("ba", "bab", "aba")
        for reduced in (True, False)
    },
    "conjugate bab": Splitting("bab", strength=0.5),
    "conjugate ba ones": Splitting("ba", strength=-0.5, shape="ones"),
}


def field_of(space=SPACE):
    return PhaseField(space, exact(space).predict)


def grid(steps, space=SPACE):
    return torch.linspace(math.sqrt(space.end), math.sqrt(space.start), steps, dtype=torch.float64).square()


def start(n=60):
    torch.manual_seed(0)
    return SPACE.prior(n, (2,), torch.empty(0).double())


@pytest.fixture(scope="module")
def reference():
    return Adaptive(rtol=1e-8, atol=1e-8).sample(field_of(), start(), grid(2))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_declared_order_is_the_measured_one(name, reference):
    """Doubling the steps at least about halves the error; Verlet does better on the way."""
    integrator = DETERMINISTIC[name]
    few, many = (
        (integrator.sample(field_of(), start(), grid(n + 1)) - reference).norm(dim=1).median() for n in (100, 200)
    )
    assert integrator.order == 1
    assert 0.8 < math.log2(few / many) < 2.2
    assert many < 0.2


def test_without_conjugation_a_step_is_exact_where_the_noise_does_not_change():
    """z_t = e^(F (t - s)) z_s + int e^(F (t - u)) G G' L_u^-T du eps / 2: the exponential integrator, by a fine sum."""
    field = PhaseField(SPACE, lambda z, t: torch.ones_like(z))
    s, t = torch.tensor([0.5, 0.3], dtype=torch.float64)
    z = start(5)
    u = torch.linspace(0.5, 0.3, 20_001, dtype=torch.float64)
    kernel = torch.linalg.matrix_exp((t - u)[:, None, None] * SPACE.drift)
    weight = torch.trapezoid(kernel @ SPACE.diffusion @ SPACE.whitening(u) / 2, u, dim=0)
    expected = acted(torch.linalg.matrix_exp((t - s) * SPACE.drift), z) + acted(weight, torch.ones_like(z))
    torch.testing.assert_close(Conjugate().step(field, z, s, t), expected, rtol=1e-6, atol=1e-8)


def test_without_momentum_it_is_ddim():
    """Friction of the position alone: a single diffusion with rate beta gamma, whose DDIM step is known."""
    space = PhaseSpace(gamma=4.0, nu=0.0)
    space.drift = torch.diag(space.drift.diagonal())  # uncoupled
    space.transition = lambda t: torch.diag_embed(torch.stack([(-16 * t).exp(), torch.ones_like(t)], -1))
    field = PhaseField(space, lambda z, t: torch.cat([0.3 * z[:, :1], 0 * z[:, 1:]], 1))
    s, t = torch.tensor([0.05, 0.03], dtype=torch.float64)
    z = torch.randn(4, 2, 1).double()
    alpha, sigma = (
        torch.stack([part(-16 * u) for u in (s, t)]) for part in (torch.exp, lambda e: (1 - (2 * e).exp()).sqrt())
    )
    eps = 0.3 * z[:, 0]
    expected = alpha[1] / alpha[0] * (z[:, 0] - sigma[0] * eps) + sigma[1] * eps
    torch.testing.assert_close(Conjugate().step(field, z, s, t)[:, 0], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("scheme", "reduced", "calls"),
    [("ba", True, 1), ("ba", False, 2), ("bab", True, 2), ("bab", False, 3), ("oba", True, 1), ("oba", False, 2)],
)
def test_a_reduced_step_shares_evaluations(scheme, reduced, calls):
    field = field_of()
    Splitting(scheme, reduced).step(field, start(3), *torch.tensor([0.5, 0.4], dtype=torch.float64))
    assert field.calls == calls


def test_a_step_of_symplectic_euler_by_hand():
    """Momentum first, then the position with the new momentum; eps = (1, 2) everywhere."""
    eps = torch.tensor([1.0, 2.0]).double()[:, None]
    field = PhaseField(SPACE, lambda z, t: eps.expand_as(z))
    s, t = torch.tensor([0.5, 0.4], dtype=torch.float64)
    x, m, h = 0.6, -0.2, -0.1
    g = (SPACE.diffusion / 2 @ SPACE.whitening(s) @ eps)[:, 0]
    m = m + h * (SPACE.drift[1, 0] * x + SPACE.drift[1, 1] * m + g[1])
    x = x + h * (SPACE.drift[0, 0] * x + SPACE.drift[0, 1] * m + g[0])
    z = Splitting("ba").step(field, torch.tensor([[[0.6], [-0.2]]]).double(), s, t)
    torch.testing.assert_close(z[0, :, 0], torch.stack([x, m]))


def test_the_ornstein_uhlenbeck_part_keeps_the_stationary_law():
    torch.manual_seed(0)
    z = relaxed(SPACE, SPACE.prior(200_000, (1,), torch.empty(0).double()), torch.tensor(0.2))[:, :, 0]
    torch.testing.assert_close(z.T.cov(), SPACE.stationary, rtol=0.02, atol=0.01)
    still = relaxed(SPACE, torch.zeros(100, 2, 1).double(), torch.tensor(0.2), noise=0.0)
    assert not still[:, 0].any()
    assert still[:, 1].any()


@pytest.mark.parametrize("integrator", [Euler(noise=True), SymmetricSplitting(), Splitting("oba"), Splitting("bao")])
def test_a_stochastic_one_draws_the_law(integrator):
    """Mean and covariance of the mixture of 0.7 N((-1, 0.3), 0.09 I) and 0.3 N((0.8, -0.4), 0.36 I)."""
    torch.manual_seed(0)
    x = integrator.sample(field_of(), start(4000), grid(200))
    mean = torch.tensor([-0.46, 0.09]).double()
    apart = torch.tensor([1.8, -0.7]).double()
    covariance = 0.171 * torch.eye(2).double() + 0.21 * apart.outer(apart)
    assert integrator.order in (None, 1)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.06)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0, atol=0.08)


def test_quadrature_of_a_power():
    one, two = torch.tensor([1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(integral(lambda u: u**5, one, two), torch.tensor(63 / 6).double())


@pytest.mark.parametrize("name", sorted(choices("integrator")))
def test_a_config_draws_records(name):
    draws = configured("integrator", name).sample(field_of(), start(3), grid(4))
    assert draws.shape == (3, 2)
    assert draws.isfinite().all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="scheme=oo"):
        Splitting("oo")
    with pytest.raises(UserError, match="shape=round"):
        Conjugate(shape="round")
    with pytest.raises(UserError, match="noise=-1"):
        Splitting("oba", noise=-1)
