"""GaLore against its definition written out, against Adam, and against an independent implementation."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer import GaLore as Theirs

from compendium.errors import UserError
from modules.optimization.galore import GaLore, foremost, into, out_of, without
from modules.optimization.stacked import Product
from tests.modules.optimization.contract import keeps_the_contract
from tests.modules.optimization.test_soap import gradients, walk, weights

SHAPES = [(5, 4), (4,), (3, 6), (5, 4), (4, 3, 2), ()]


def written_out(w, steps, lr, beta1, beta2, eps, decay, rank, refresh, scale):
    """One matrix that is wider than high, in the order of the paper's algorithm."""
    m, v = torch.zeros(rank, w.shape[1]).double(), torch.zeros(rank, w.shape[1]).double()
    for t, g in enumerate(steps, 1):
        if (t - 1) % refresh == 0:
            p = torch.linalg.svd(g)[0][:, :rank]
        r = p.T @ g
        m, v = beta1 * m + (1 - beta1) * r, beta2 * v + (1 - beta2) * r**2
        psi = m / (1 - beta1**t) / ((v / (1 - beta2**t)) ** 0.5 + eps)
        w = w - lr * decay * w - lr * scale * p @ psi
    return w


def test_is_the_algorithm_written_out():
    parameters, steps = weights(SHAPES), gradients(13, SHAPES)
    start = [parameter.detach().clone() for parameter in parameters]
    arguments = {"eps": 1e-3, "weight_decay": 0.3, "rank": 2, "refresh": 5, "scale": 0.4}
    walk(GaLore(parameters, lr=0.1, betas=(0.8, 0.9), **arguments), parameters, steps)
    settings = (0.1, 0.8, 0.9, 1e-3, 0.3, 2, 5, 0.4)
    for index in (0, 2, 3, 4):
        turn = index in (0, 3)  # higher than wide

        def lie(x, turn=turn):
            return x.T if turn else x.flatten(1)

        expected = written_out(lie(start[index]), [lie(step[index]) for step in steps], *settings)
        torch.testing.assert_close(lie(parameters[index].detach()), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("arguments", [{"rank": 6}, {"rank": 1, "max_dim": 2}])
def test_without_a_projection_it_is_adamw(arguments):
    ours, adam, steps = weights(SHAPES[:4]), weights(SHAPES[:4]), gradients(20, SHAPES[:4])
    shared = {"lr": 0.05, "betas": (0.9, 0.97), "eps": 1e-4, "weight_decay": 0.2}
    walk(GaLore(ours, **shared, **arguments), ours, steps)
    walk(torch.optim.AdamW(adam, **shared), adam, steps)
    for one, other in zip(ours, adam, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_agrees_with_an_independent_implementation_for_a_hundred_steps():
    """Theirs projects from step 1 and then at multiples of the gap; it decomposes in float32."""
    shapes = [(5, 4), (3, 6)]
    ours, theirs, steps = weights(shapes), weights(shapes), gradients(100, shapes)
    shared = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-30}
    walk(GaLore(ours, rank=2, refresh=1000, scale=0.5, **shared), ours, steps)
    group = {"params": theirs, "rank": 2, "update_proj_gap": 1000, "scale": 0.5, "projection_type": "std"}
    walk(Theirs([group], **shared), theirs, steps)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_steps_stay_in_the_span_of_the_basis():
    parameters, steps = weights([(6, 9)]), gradients(7, [(6, 9)])
    start = parameters[0].detach().clone()
    optimizer = GaLore(parameters, lr=0.1, rank=2, refresh=100)
    walk(optimizer, parameters, steps)
    basis, moved = optimizer.state[parameters[0]]["basis"], parameters[0].detach() - start
    torch.testing.assert_close(basis @ basis.T @ moved, moved, rtol=1e-9, atol=1e-9)


def test_the_state_is_of_low_rank():
    parameters = weights([(6, 9)])
    optimizer = GaLore(parameters, rank=2)
    walk(optimizer, parameters, gradients(1, [(6, 9)]))
    numbers = sum(value.numel() for value in optimizer.state[parameters[0]].values() if isinstance(value, torch.Tensor))
    assert numbers == (6 + 2 * 9) * 2


def test_keeps_the_contract_of_optimizers():
    keeps_the_contract(lambda parameters: GaLore(parameters, lr=0.01, rank=2, refresh=3), SHAPES)


def test_what_is_not_finite_is_named():
    with pytest.raises(UserError, match="not finite"):
        foremost(torch.full((1, 3, 3), torch.nan), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, r"optimizer\.lr=-1"),
        ({"rank": 0}, r"optimizer\.rank=0"),
        ({"refresh": 0}, r"optimizer\.refresh=0"),
        ({"scale": -1}, r"optimizer\.scale=-1"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        GaLore(weights(), **arguments)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
def test_matrices_apart_and_in_a_stack_are_the_same(shape):
    torch.manual_seed(0)
    matrices, basis = torch.randn(3, *shape), torch.linalg.qr(torch.randn(3, min(shape), 2))[0]
    apart = list(matrices.unbind())
    low = into(matrices, basis)
    torch.testing.assert_close(into(apart, basis), low)
    inside = out_of(low, basis)
    torch.testing.assert_close(without(apart, low, basis), matrices - inside.left @ inside.right)
    torch.testing.assert_close(without(matrices, low, basis), matrices - inside.left @ inside.right)


@pytest.mark.parametrize("kept", ["plain", "turned", "bfloat16"])
def test_product_is_added_to_weights_however_they_are_kept(kept):
    torch.manual_seed(0)
    product = Product(torch.randn(3, 4, 2), torch.randn(3, 2, 6), factor=0.5)
    weights = [torch.randn(4, 2, 3) for _ in range(3)]
    if kept == "turned":
        weights = [weight.permute(2, 1, 0).contiguous().permute(2, 1, 0) for weight in weights]
        assert not weights[0].is_contiguous()
    if kept == "bfloat16":
        weights = [weight.bfloat16() for weight in weights]
    expected = [
        weight.double() - (left @ right).double().view(4, 2, 3)
        for weight, left, right in zip(weights, product.left, product.right, strict=True)
    ]
    product.added_to(weights, -2)
    tolerance = {"rtol": 0.02, "atol": 0.05} if kept == "bfloat16" else {}
    for weight, whole in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight, whole.to(weight.dtype), **tolerance)
