"""What every optimizer keeps, whatever it computes; importable by the tests of each."""

from __future__ import annotations

import copy
import io

import torch

from tests.modules.optimization.test_soap import SHAPES, gradients, walk, weights


def keeps_the_contract(make, shapes=SHAPES, steps=14):
    """Resumes to the same bits, leaves what it gave away as it was, keeps a precise state, and skips what has no slope.

    Args:
        make: parameters -> optimizer.
        shapes: of the tensors.
        steps: to take.
    """
    for dtype in (torch.float32, torch.bfloat16):
        resumes(make, gradients(steps, shapes, dtype), weights(shapes, dtype), weights(shapes, dtype), steps // 2)
    waits(make, shapes, gradients(steps, shapes))
    sparse_is_dense(make)


def resumes(make, slopes, whole, half, middle):
    walk(make(whole), whole, slopes)
    first = make(half)
    walk(first, half, slopes[:middle])
    file = io.BytesIO()
    taken = first.state_dict()
    before = copy.deepcopy(taken)
    torch.save(taken, file)
    file.seek(0)
    second = make(half)
    second.load_state_dict(torch.load(file, weights_only=True))
    apart = [torch.nn.Parameter(each.detach().clone()) for each in half]
    walk(second, half, slopes[middle:])
    for one, other in zip(whole, half, strict=True):
        assert torch.equal(one, other)
    for state in second.state.values():
        for value in state.values():
            assert not isinstance(value, torch.Tensor) or value.dtype in (torch.float32, torch.bool, torch.int64)
    slopes_before = [[each.clone() for each in step] for step in slopes]
    moved = make(apart)
    moved.load_state_dict(taken)
    walk(moved, apart, slopes[middle:])
    for name, state in before["state"].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(taken["state"][name][key])), key
    for step, kept in zip(slopes, slopes_before, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(step, kept, strict=True))


def waits(make, shapes, slopes):
    """A tensor whose gradient is there at every other step moves as it would with those steps alone."""
    together, alone = weights(shapes), weights(shapes)
    optimizer = make(together)
    for count, step in enumerate(slopes):
        for place, (parameter, slope) in enumerate(zip(together, step, strict=True)):
            parameter.grad = slope.clone() if place or count % 2 else None
        optimizer.step()
        for place, (parameter, slope) in enumerate(zip(together, step, strict=True)):
            if place or count % 2:
                assert torch.equal(parameter.grad, slope), "a step changes the gradient"
    single = make(alone[:1])
    walk(single, alone[:1], [step[:1] for step in slopes[1::2]])
    torch.testing.assert_close(together[0], alone[0], rtol=1e-10, atol=1e-10)


def sparse_is_dense(make):
    slope = torch.tensor([[0.0, 0, 0], [1, -2, 3], [0, 0, 0], [2, 1, -1]], dtype=torch.float64)
    one, other = weights([(4, 3)]), weights([(4, 3)])
    first, second = make(one), make(other)
    for _ in range(3):
        one[0].grad, other[0].grad = slope.to_sparse(1), slope.clone()
        first.step()
        second.step()
    assert torch.equal(one[0], other[0])
