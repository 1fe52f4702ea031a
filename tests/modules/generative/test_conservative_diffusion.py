"""Diffusion by the gradient of an energy."""

from __future__ import annotations

import pytest
import torch

from compendium.compose import compose
from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.paths import along

SPEC = DataSpec(name="records", kind="vector", shape=(3,))


def method(name="conservative_diffusion", **changes):
    values = compose([f"model=generative/{name}", "net=mlp", "path=vp"]).values
    torch.manual_seed(0)
    return instantiate({**values["model"], **changes}, SPEC, net={**values["net"], "width": 16, "depth": 2}).double()


def asymmetry(model):
    t, x = torch.full((5,), 0.4).double(), torch.randn(5, 3).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: model.denoise(x, t).sum(0), x).permute(1, 0, 2)
    return float((jacobian - jacobian.mT).abs().max())


def test_its_field_has_a_symmetric_jacobian_and_a_free_one_has_not():
    assert asymmetry(method()) < 1e-12
    assert asymmetry(method("diffusion", target="noise")) > 1e-3


def test_the_prediction_is_the_numerical_gradient_of_the_scalar():
    model = method(data_std=1.0)
    t, x = torch.full((4,), 0.6).double(), torch.randn(4, 3).double()
    size = (model.path.alpha(t).square() + model.path.sigma(t).square()).sqrt()
    u, times = x / along(size, x), model.path.conditioning(t)

    def scalar(u):
        return (u * model.net(u, times)).sum(1)

    steps = 1e-5 * torch.eye(3).double()
    expected = torch.stack([(scalar(u + step) - scalar(u - step)) / 2e-5 for step in steps], 1)
    torch.testing.assert_close(model.predict(x, t), expected.detach(), rtol=1e-6, atol=1e-9)


def test_it_learns_draws_and_gives_a_likelihood():
    model = method()
    model.loss(Unlabelled(torch.randn(8, 3).double())).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.net.hidden.parameters())
    assert model.sample(4).isfinite().all()
    assert model.log_prob(torch.randn(4, 3).double()).isfinite().all()


def test_another_target_is_refused():
    with pytest.raises(UserError, match=r"model\.target=v"):
        method(target="v")
