"""SOAP against its definition written out, against Adam, and against an independent implementation."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from pytorch_optimizer import SOAP as Theirs

from compendium.errors import UserError
from modules.optimization.kronecker import eigh, multiply, outer
from modules.optimization.soap import SOAP, improved

SHAPES = [(5, 4), (4,), (5, 4), (2, 3, 4), (), (3, 3), (2, 1)]
"""Whose first gradients leave at most one eigenvalue of each side at 0: every eigenvector is unique up to its sign."""


def gradients(steps, shapes=SHAPES, dtype=torch.float64):
    """Correlated gradients of unequal scale: a fixed mixing of each tensor's entries."""
    draw = torch.Generator().manual_seed(1)
    mixing = [torch.randn(n := max(torch.Size(s).numel(), 1), n, generator=draw, dtype=torch.float64) for s in shapes]
    return [
        [
            (mix @ torch.randn(len(mix), generator=draw, dtype=torch.float64)).view(shape).to(dtype)
            for mix, shape in zip(mixing, shapes, strict=True)
        ]
        for _ in range(steps)
    ]


def weights(shapes=SHAPES, dtype=torch.float64):
    draw = torch.Generator().manual_seed(2)
    return [torch.nn.Parameter(torch.randn(s, generator=draw, dtype=torch.float64).to(dtype)) for s in shapes]


def walk(optimizer, parameters, steps):
    for step in steps:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()


def written_out(start, steps, lr, beta1, beta2, eps, decay, frequency):
    """SOAP for one matrix, in the order of the paper's algorithm."""
    w, m, v = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    left, right = (1 - beta2) * steps[0] @ steps[0].T, (1 - beta2) * steps[0].T @ steps[0]
    q_left, q_right = torch.linalg.eigh(left)[1].flip(1), torch.linalg.eigh(right)[1].flip(1)
    for t, g in enumerate(steps[1:], 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (q_left.T @ g @ q_right) ** 2
        adam = (q_left.T @ m @ q_right / (1 - beta1**t)) / ((v / (1 - beta2**t)) ** 0.5 + eps)
        w = w - lr * decay * w - lr * q_left @ adam @ q_right.T
        left, right = beta2 * left + (1 - beta2) * g @ g.T, beta2 * right + (1 - beta2) * g.T @ g
        if t % frequency == 0:
            order = torch.diag(q_left.T @ left @ q_left).argsort(descending=True)
            q_left, v = torch.linalg.qr(left @ q_left[:, order])[0], v[order]
            order = torch.diag(q_right.T @ right @ q_right).argsort(descending=True)
            q_right, v = torch.linalg.qr(right @ q_right[:, order])[0], v[:, order]
    return w


@pytest.mark.parametrize("frequency", [1, 4])
def test_is_the_algorithm_written_out(frequency):
    arguments = {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.3, "precondition_frequency": frequency}
    parameters, steps = weights(), gradients(13)
    start = [parameter.detach().clone() for parameter in parameters]
    walk(SOAP(parameters, betas=(0.8, 0.9), **arguments), parameters, steps)
    for index in (0, 2, 5, 6):
        expected = written_out(start[index], [step[index] for step in steps], 0.1, 0.8, 0.9, 1e-3, 0.3, frequency)
        torch.testing.assert_close(parameters[index].detach(), expected, rtol=1e-9, atol=1e-9)


def test_in_the_basis_of_unit_vectors_it_is_adamw_after_the_first_step():
    arguments = {"lr": 0.05, "betas": (0.9, 0.97), "eps": 1e-4, "weight_decay": 0.2}
    ours, adam, steps = weights(), weights(), gradients(20)
    walk(SOAP(ours, max_precond_dim=0, **arguments), ours, steps)
    walk(torch.optim.AdamW(adam, **arguments), adam, steps[1:])
    for one, other in zip(ours, adam, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_agrees_with_an_independent_implementation_for_a_hundred_steps():
    shapes = [(5, 4), (3,), (5, 4), (3, 2, 4)]
    arguments = {"lr": 0.01, "betas": (0.95, 0.9), "eps": 1e-30, "weight_decay": 0.0, "precondition_frequency": 5}
    ours, theirs, steps = weights(shapes), weights(shapes), gradients(100, shapes)
    walk(SOAP(ours, **arguments), ours, steps)
    walk(Theirs(theirs, **arguments), theirs, steps)  # decomposes in float32
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_follows_a_rotation_of_the_problem():
    """Rotated gradients U G V' move rotated weights: Adam's steps do not have this property."""
    shape, count = (5, 4), 25
    left, right = (torch.linalg.qr(gradient)[0] for gradient in gradients(1, [(5, 5), (4, 4)])[0])
    steps = gradients(count, [shape])
    for optimizer, equal in ((SOAP, True), (torch.optim.Adam, False)):
        plain, turned = weights([shape]), weights([shape])
        with torch.no_grad():
            turned[0].copy_(left @ plain[0] @ right.T)
        walk(optimizer(plain, lr=0.1), plain, steps)
        walk(optimizer(turned, lr=0.1), turned, [[left @ step[0] @ right.T] for step in steps])
        assert torch.allclose(turned[0], left @ plain[0] @ right.T, rtol=0, atol=1e-8) == equal


def test_the_bases_become_eigenbases():
    """Power iterations on a fixed matrix converge to its eigenvectors, at the rate of its eigenvalues' ratios."""
    true = torch.linalg.qr(gradients(1, [(2, 6, 6)])[0][0])[0]
    values = torch.tensor([32.0, 16, 8, 4, 2, 1], dtype=torch.float64)
    matrices, basis = (true * values) @ true.mT, torch.eye(6, dtype=torch.float64).expand(2, 6, 6)
    for _ in range(60):
        basis, _ = improved(basis, matrices)
    torch.testing.assert_close((true.mT @ basis).abs(), torch.eye(6, dtype=torch.float64).expand(2, 6, 6))


def test_columns_move_with_their_eigenvalues():
    """Unit vectors are the eigenvectors; by falling eigenvalue the order is 1, 2, 0."""
    matrix = torch.diag(torch.tensor([1.0, 9.0, 4.0], dtype=torch.float64))[None]
    basis, order = improved(torch.eye(3, dtype=torch.float64)[None], matrix)
    assert order.tolist() == [[1, 2, 0]]
    torch.testing.assert_close(basis[0].abs(), torch.eye(3, dtype=torch.float64)[:, [1, 2, 0]])


def test_continues_from_its_state_to_the_same_bits():
    steps = gradients(30, dtype=torch.float32)
    whole, half = weights(dtype=torch.float32), weights(dtype=torch.float32)
    walk(SOAP(whole), whole, steps)
    first = SOAP(half)
    walk(first, half, steps[:17])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = SOAP(half)
    second.load_state_dict(torch.load(file, weights_only=True))
    walk(second, half, steps[17:])
    for one, other in zip(whole, half, strict=True):
        assert torch.equal(one, other)


def test_a_state_dict_that_was_loaded_stays_what_it_was():
    parameters, steps = weights(), gradients(12)
    optimizer = SOAP(parameters, precondition_frequency=2)
    walk(optimizer, parameters, steps[:6])
    taken = optimizer.state_dict()
    before = copy.deepcopy(taken)
    other = SOAP(parameters, precondition_frequency=2)
    other.load_state_dict(taken)
    walk(other, parameters, steps[6:])
    for name, state in before["state"].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(taken["state"][name][key]))


def test_a_state_that_somebody_replaces_counts():
    """Stacks of the step before are taken only while the state is still their rows."""
    one, other = weights(), weights()
    first, second = SOAP(one), SOAP(other)
    steps = gradients(6)
    walk(first, one, steps[:5])
    walk(second, other, steps[:5])
    second.state[other[0]]["first"] = torch.zeros_like(second.state[other[0]]["first"])
    first.state[one[0]]["first"].zero_()
    before = [each.detach().clone() for each in one]
    walk(first, one, steps[5:])
    walk(second, other, steps[5:])
    assert not torch.equal(one[0], before[0])
    for mine, theirs in zip(one, other, strict=True):
        assert torch.equal(mine, theirs)


def test_low_precision_weights_keep_a_precise_state():
    parameters, steps = weights(dtype=torch.bfloat16), gradients(12, dtype=torch.bfloat16)
    optimizer = SOAP(parameters)
    walk(optimizer, parameters, steps)
    again = SOAP(parameters)
    again.load_state_dict(optimizer.state_dict())
    for parameter in parameters:
        for key, value in again.state[parameter].items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == torch.float32
                assert torch.equal(value, optimizer.state[parameter][key])
    basis = again.state[parameters[0]]["basis_0"]
    torch.testing.assert_close(basis.T @ basis, torch.eye(5), rtol=0, atol=1e-5)


def test_stacks_of_any_size_give_the_same_step(monkeypatch):
    whole, split, steps = weights(), weights(), gradients(12)
    walk(SOAP(whole), whole, steps)
    monkeypatch.setattr(SOAP, "most_on_host", 20)
    walk(SOAP(split), split, steps)
    for one, other in zip(whole, split, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_tensors_without_a_gradient_wait():
    parameters, steps = weights([(3, 2), (3, 2)]), gradients(12, [(3, 2), (3, 2)])
    alone = weights([(3, 2), (3, 2)])[1:]
    optimizer = SOAP(parameters)
    for count, step in enumerate(steps):
        parameters[0].grad = step[0] if count % 2 else None
        parameters[1].grad = step[1]
        optimizer.step()
    walk(SOAP(alone), alone, [step[1:] for step in steps])
    torch.testing.assert_close(parameters[1], alone[0], rtol=1e-12, atol=1e-12)
    assert optimizer.state[parameters[0]]["step"] == 6


def test_zero_gradients_move_nothing():
    parameters = weights([(4, 3)], torch.float32)
    start = parameters[0].detach().clone()
    walk(SOAP(parameters, weight_decay=0.0, precondition_frequency=1), parameters, [[torch.zeros(4, 3)]] * 5)
    assert torch.equal(parameters[0], start)


def test_products_along_the_sides_of_a_stack():
    x, first, last = gradients(1, [(2, 3, 4, 5), (2, 3, 3), (2, 5, 5)])[0]
    expected = torch.einsum("bijk,bip,bkq->bpjq", x, first, last)
    torch.testing.assert_close(multiply(x, [first, None, last]), expected)
    torch.testing.assert_close(outer(x, 1), torch.einsum("bijk,bilk->bjl", x, x))


def test_what_is_not_finite_is_named():
    with pytest.raises(UserError, match="not finite"):
        eigh(torch.full((1, 3, 3), torch.nan))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, r"optimizer\.lr=-1"),
        ({"betas": (0.9, 1.0)}, r"optimizer\.betas"),
        ({"precondition_frequency": 0}, r"optimizer\.precondition_frequency=0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        SOAP(weights(), **arguments)
