"""Iterative differentiation: autograd through the same steps, and its limit."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.optimization.unrolled_hypergradient import UnrolledHypergradient
from tests.modules.optimization.bilevel import classes, decays, real, weights


@pytest.mark.parametrize("make", [decays, weights])
def test_it_is_autograd_through_the_steps(make):
    batch = real(20, 0) if make is decays else classes(20, 0)
    method = make(UnrolledHypergradient, lower_steps=7, lower_rate=0.3)
    start, x = method.y.clone(), method.x.detach().clone().requires_grad_()
    y = start.clone().requires_grad_()
    for _ in range(7):
        value = method.problem.lower(x, method.named(y), batch)
        y = y - 0.3 * torch.autograd.grad(value, y, create_graph=True)[0]
    expected = torch.autograd.grad(method.problem.upper(x, method.named(y), method._upper), x)[0]
    with torch.no_grad():
        found = method.hypergradient(method.x.detach(), batch)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(method.y, y.detach(), rtol=1e-12, atol=0)
    assert method.calls.tolist() == [7 * 20 + 15, 7 * 20]


def test_many_steps_give_the_closed_form():
    method, batch = decays(UnrolledHypergradient, lower_steps=400, lower_rate=0.3), real(20, 0)
    with torch.no_grad():
        found = method.hypergradient(method.x.detach(), batch)
    expected = method.problem.solution(method.x.detach(), batch, method._upper).gradient
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


def test_fresh_steps_see_parts_of_the_batch_in_order():
    method, batch = decays(UnrolledHypergradient, lower_steps=3, fresh=True), real(9, 0)
    parts = method.lower_batches(batch, 3)
    assert torch.equal(torch.cat([part.x for part in parts]), batch.x)
    assert [len(part.y) for part in parts] == [3, 3, 3]
    with pytest.raises(UserError, match="4 gradients of a step take fresh records, and a batch has 3"):
        method.lower_batches(real(3, 0), 4)


@pytest.mark.parametrize("arguments", [{"lower_rate": 0.0}, {"lower_steps": 0}, {"upper_batch": 0}])
def test_what_does_not_fit_is_refused(arguments):
    with pytest.raises(UserError, match=r"lower_steps="):
        decays(UnrolledHypergradient, **arguments)
