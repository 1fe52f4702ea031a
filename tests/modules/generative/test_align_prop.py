"""The gradient of a reward through a chain of draws."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from compendium.compose import compose
from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec

BATCH = Unlabelled(torch.zeros(16, 2))


def method(name="align_prop", **changes):
    values = compose([f"model=generative/{name}", "reward=near", "model.reward.centre=2.0", "net=mlp"]).values
    timesteps = {**values["model"]["timesteps"], "steps": 6}
    spec = DataSpec(name="records", kind="vector", shape=(2,))
    net = {**values["net"], "width": 8, "depth": 2}
    torch.manual_seed(0)
    model = instantiate({**values["model"], "timesteps": timesteps, **changes}, spec, net=net).double()
    with torch.no_grad():  # a change that is none has no slope along `down`
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))
    return model


def loss_of(model, seed=1, batch=BATCH):
    torch.manual_seed(seed)
    return model.loss(batch)


def gradient_of(model, seed=1, batch=BATCH):
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    parts = torch.autograd.grad(loss_of(model, seed, batch), weights, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


def test_the_gradient_is_the_numerical_derivative_of_the_reward_of_the_chain():
    model = method(truncation=99)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    direction = [torch.randn_like(weight) for weight in weights]
    exact = gradient_of(model) @ torch.cat([part.flatten() for part in direction])
    ends = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for weight, part in zip(weights, direction, strict=True):
                weight.add_(step * part)
        ends.append(loss_of(model).detach())
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-5, exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("truncation", [None, 2, 99])
def test_computing_activations_anew_changes_no_gradient_and_keeps_less(truncation):
    kept = {}
    found = {}
    for recompute in (True, False):
        model = method(truncation=truncation, recompute=recompute)
        held = []
        with saved_tensors_hooks(lambda x, held=held: held.append(x.numel()) or x, lambda x: x):
            loss_of(model)
        kept[recompute] = sum(held)
        found[recompute] = gradient_of(model)
    torch.testing.assert_close(found[True], found[False], rtol=0, atol=0)
    assert kept[True] < 0.2 * kept[False]


def test_truncation_to_one_step_is_the_gradient_of_the_last_denoising():
    model = method(truncation=1)
    torch.manual_seed(1)
    start = torch.randn(16, 2, dtype=torch.float64)
    times, field = model.grid, model.field()
    with torch.no_grad():
        x = start
        for s, t in pairwise(times):
            x = model.sampler.step(field, x, s, t, {})
    loss = -model.reward(field.data(x, times[-1])).mean()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])
    torch.testing.assert_close(gradient_of(model), expected)
    torch.testing.assert_close(loss.detach(), loss_of(model).detach())
    assert not torch.allclose(gradient_of(method(truncation=99)), expected)


def test_the_changes_begin_as_none_and_have_their_rank():
    values = compose(["model=generative/align_prop"]).values
    spec = DataSpec(name="records", kind="vector", shape=(2,))
    net = {**values["net"], "width": 16}
    model = instantiate({**values["model"], "rank": 3}, spec, net=net)
    layer = model.inner.net.hidden[0]
    assert torch.equal(layer.weight, layer.parametrizations.weight.original)
    change = layer.parametrizations.weight[0]
    with torch.no_grad():
        change.up.normal_()
    assert torch.linalg.matrix_rank(layer.weight - layer.parametrizations.weight.original, atol=1e-4) == 3
    assert all(("down" in name or "up" in name) == weight.requires_grad for name, weight in model.named_parameters())


@pytest.mark.parametrize("changes", [{"truncation": 0}, {"rank": 0}])
def test_numbers_out_of_range_are_refused(changes):
    with pytest.raises(UserError, match=f"model.{next(iter(changes))}"):
        method(**changes)
