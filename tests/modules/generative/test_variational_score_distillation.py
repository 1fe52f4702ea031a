"""The direction of particles between two Gaussians, in closed form, and where it leads."""

from __future__ import annotations

import pytest
import torch

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.sources.densities import GaussianMixture
from modules.generative.diffusion import Diffusion
from modules.generative.variational_score_distillation import VariationalScoreDistillation
from tests.modules.generative.exact import Known
from tests.modules.generative.particles import MEAN, STD, arguments, given_times
from tests.modules.generative.samplers.checkpoints import fitted


def made(**changes):
    net = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 2}
    return VariationalScoreDistillation(**arguments("variational_score_distillation", net=net, **changes)).double()


def knows(method, mean, std):
    """Makes the fake network the exact one of particles from N(mean, std^2 I)."""
    law = GaussianMixture(torch.tensor([mean]), std)
    method.fake.denoise = lambda x, t, y=None: Known(method.path, law).denoise(x, t)


def test_the_direction_between_two_gaussians_is_that_of_their_scores(monkeypatch):
    """sigma^3 (score of N(alpha m_q, alpha^2 s_q^2 + sigma^2) - that of the teacher's), averaged over eps by hand."""
    torch.manual_seed(0)
    method, t = made(particles=200_000), 0.4
    given_times(monkeypatch, t)
    other, spread = [-1.0, 0.3], 1.2
    knows(method, other, spread)
    theta = torch.tensor([[0.5, 2.0]], dtype=torch.float64).expand(200_000, 2)
    alpha, sigma = (part(torch.tensor(t, dtype=torch.float64)) for part in (method.path.alpha, method.path.sigma))
    mine, theirs = (alpha**2 * s**2 + sigma**2 for s in (spread, STD))
    score = -alpha * (theta[0] - torch.tensor(other)) / mine + alpha * (theta[0] - torch.tensor(MEAN)) / theirs
    direction = method.direction(theta)
    error = direction.std(0) / len(theta) ** 0.5
    assert ((direction.mean(0) - sigma**3 * score).abs() < 5 * error).all()


def test_where_both_laws_are_one_no_particle_moves():
    torch.manual_seed(0)
    method = made(particles=50)
    knows(method, MEAN, STD)
    assert method.direction(torch.randn(50, 2, dtype=torch.float64)).abs().max() < 1e-10


def test_particles_keep_the_spread_of_the_teacher():
    """With the score of the Gaussian with their own mean and spread they end as the teacher's law, not in its mode."""
    torch.manual_seed(0)
    method = made(particles=2000)
    optimizer = torch.optim.SGD(method.particles, lr=1.0)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 2000 * (1 - step / 300)  # the loss is a mean over particles
        theta = method.particles[0].detach()
        knows(method, theta.mean(0).tolist(), float((theta - theta.mean(0)).std()))
        optimizer.zero_grad()
        method.play("particles", Unlabelled(torch.empty(0, 2)))["particles"].backward()
        optimizer.step()
    theta = method.particles[0].detach()
    torch.testing.assert_close(theta.mean(0), torch.tensor(MEAN).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(theta.std(0), torch.full((2,), STD).double(), rtol=0.05, atol=0)


def test_the_fake_network_of_a_trained_teacher_starts_as_the_teacher(tmp_path):
    values = compose(["model=generative/diffusion", "path=vp", "data=ring"]).values
    parts = {name: value for name, value in values["model"].items() if name != "_target_"}
    spec = {**arguments()["spec"].to_dict()}
    teacher = Diffusion(spec, **{**parts, "net": {"_target_": "modules.networks.mlp.MLP", "width": 8}})
    checkpoint = {"state_dict": teacher.state_dict(), "hyper_parameters": dict(teacher.hparams)}
    teacher.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "teacher.ckpt")
    method = VariationalScoreDistillation(
        **arguments("variational_score_distillation", teacher=str(tmp_path / "teacher.ckpt"), source=None)
    )
    x, t = torch.randn(5, 2), torch.rand(5)
    torch.testing.assert_close(method.fake.denoise(x, t), teacher.denoise(x, t))
    assert not any(weight.requires_grad for weight in method.teacher.parameters())
    assert all(weight.requires_grad for weight in method.fake.parameters())


def test_a_teacher_on_another_path_is_refused(tmp_path):
    _, path = fitted(torch.randn(20, 2), tmp_path, path="edm")
    with pytest.raises(UserError, match="another path"):
        VariationalScoreDistillation(**arguments("variational_score_distillation", teacher=path))
