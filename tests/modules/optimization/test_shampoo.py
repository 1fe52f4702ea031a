"""Shampoo with grafting against values worked out by hand and its definition written out."""

from __future__ import annotations

import io

import pytest
import torch
from pytorch_optimizer import Shampoo as Theirs

from compendium.errors import UserError
from modules.optimization.shampoo import Shampoo, inverse_power
from tests.modules.optimization.test_soap import SHAPES, gradients, walk, weights


def written_out(start, steps, lr, beta1, beta2, eps, decay, frequency, power, ridge):
    """One matrix, term by term."""
    w, m, v = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    left, right = torch.zeros(len(start), len(start)).double(), torch.zeros(start.shape[1], start.shape[1]).double()
    for t, g in enumerate(steps, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        left, right = beta2 * left + (1 - beta2) * g @ g.T, beta2 * right + (1 - beta2) * g.T @ g
        if t % frequency == 0:
            roots = []
            for matrix in (left, right):
                values, vectors = torch.linalg.eigh(matrix / (1 - beta2**t) + ridge * torch.eye(len(matrix)))
                roots.append(vectors @ torch.diag(values**-power) @ vectors.T)
        step = m / (1 - beta1**t) / ((v / (1 - beta2**t)) ** 0.5 + eps)
        if t >= frequency:
            shampoo = roots[0] @ m @ roots[1]
            step = shampoo * step.norm() / shampoo.norm()
        w = w - lr * step - lr * decay * w
    return w


@pytest.mark.parametrize(("frequency", "power"), [(1, 0.5), (5, 0.25)])
def test_is_the_definition_written_out(frequency, power):
    arguments = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.3, "power": power, "matrix_eps": 1e-2}
    parameters, steps = weights(), gradients(13)
    start = [parameter.detach().clone() for parameter in parameters]
    optimizer = Shampoo(parameters, betas=(0.8, 0.9), precondition_frequency=frequency, **arguments)
    walk(optimizer, parameters, steps)
    for index in (0, 2, 5, 6):
        own = [step[index] for step in steps]
        expected = written_out(start[index], own, 0.1, 0.8, 0.9, 1e-3, 0.3, frequency, power, 1e-2)
        torch.testing.assert_close(parameters[index].detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("arguments", [{"max_precond_dim": 0}, {"precondition_frequency": 99}])
def test_without_a_preconditioner_it_is_adamw(arguments):
    common = {"lr": 0.05, "betas": (0.9, 0.97), "eps": 1e-4, "weight_decay": 0.2}
    ours, adam, steps = weights(), weights(), gradients(20)
    walk(Shampoo(ours, **common, **arguments), ours, steps)
    walk(torch.optim.AdamW(adam, **common), adam, steps)
    for one, other in zip(ours, adam, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_preconditioner_of_a_constant_gradient_is_known():
    """G = [[3, 0], [0, 1]] at every step: L^ = R^ = diag(9, 1), so that L^-1/2 G R^-1/2 = diag(1/3, 1).

    Adam's step is the sign of G, of norm sqrt 2, and |diag(1/3, 1)| = sqrt(10) / 3: theta moves by
    lr diag(1, 3) / sqrt 5. With the power 1/4 it is L^-1/4 G R^-1/4 = I, and theta moves by lr I.
    """
    gradient = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    for power, expected in ((0.5, [5**-0.5, 3 * 5**-0.5]), (0.25, [1.0, 1.0])):
        parameters = [torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))]
        optimizer = Shampoo(parameters, lr=0.1, weight_decay=0.0, eps=1e-15, precondition_frequency=1, power=power)
        for step in range(1, 8):
            walk(optimizer, parameters, [[gradient]])
            moved = -0.1 * step * torch.diag(torch.tensor(expected, dtype=torch.float64))
            torch.testing.assert_close(parameters[0].detach(), moved, rtol=1e-9, atol=1e-12)
        root = optimizer.state[parameters[0]]["root_0"]
        torch.testing.assert_close(root, torch.diag(torch.tensor([9.0, 1.0]).double() ** -power), rtol=1e-9, atol=0)


def test_points_where_an_independent_implementation_points():
    """On the first step, where a sum of G G' and an average of it agree up to a factor, with Gupta et al.'s power."""
    shape = (5, 5)
    ours, theirs, steps = weights([shape]), weights([shape]), gradients(1, [shape])
    start = ours[0].detach().clone()
    arguments = {"power": 0.25, "matrix_eps": 1e-9, "weight_decay": 0.0}
    walk(Shampoo(ours, lr=1.0, precondition_frequency=1, **arguments), ours, steps)
    walk(Theirs(theirs, lr=1.0, preconditioning_compute_steps=1, matrix_eps=1e-9), theirs, steps)
    moves = [(after[0].detach() - start).flatten() for after in (ours, theirs)]
    assert torch.cosine_similarity(*moves, dim=0) == pytest.approx(1, abs=1e-6)


def test_inverse_powers_of_a_nearly_singular_matrix_are_finite():
    vector = torch.arange(1.0, 9).view(1, 8, 1)
    root = inverse_power(1e-6 * vector @ vector.mT, 0.5, 1e-12)
    assert root.isfinite().all()
    assert torch.linalg.matrix_norm(root, 2).item() == pytest.approx(1e6, rel=1e-3)  # of the eigenvalue 0 + 1e-12
    exact = inverse_power(torch.diag(torch.tensor([4.0, 0.25]).double())[None], 0.5, 0.0)
    torch.testing.assert_close(exact[0], torch.diag(torch.tensor([0.5, 2.0]).double()))


def test_continues_from_its_state_to_the_same_bits():
    steps = gradients(30, dtype=torch.float32)
    whole, half = weights(SHAPES, torch.float32), weights(SHAPES, torch.float32)
    walk(Shampoo(whole), whole, steps)
    first = Shampoo(half)
    walk(first, half, steps[:17])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Shampoo(half)
    second.load_state_dict(torch.load(file, weights_only=True))
    walk(second, half, steps[17:])
    for one, other in zip(whole, half, strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_decomposed_is_named():
    parameters = weights([(3, 3)])
    with pytest.raises(UserError, match="not finite"):
        walk(Shampoo(parameters, precondition_frequency=1), parameters, [[torch.full((3, 3), torch.inf).double()]])
    with pytest.raises(UserError, match=r"optimizer\.power=-1"):
        Shampoo(parameters, power=-1.0)
