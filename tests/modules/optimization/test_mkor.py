"""MKOR against explicit inverses, its algorithm written out, and its fall back."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from modules.optimization.mkor import MKOR, updated
from tests.modules.optimization.layers import batches, network, train, what_each_record_sees


def test_the_kept_inverse_is_that_of_the_explicit_factor():
    """Over fifty changes of rank one: L <- gamma L + (1 - gamma) v v^T."""
    draw = torch.Generator().manual_seed(0)
    factor = torch.eye(6, dtype=torch.float64).repeat(2, 1, 1)
    inverse = factor.clone()
    for _ in range(50):
        v = torch.randn(2, 6, generator=draw, dtype=torch.float64)
        factor = 0.9 * factor + 0.1 * v[:, :, None] * v[:, None, :]
        inverse = updated(inverse, v, 0.9)
    torch.testing.assert_close(inverse, torch.linalg.inv(factor), rtol=1e-9, atol=1e-9)


def test_the_printed_formula_grows_where_the_inverse_shrinks():
    """By hand, H = I, v = (1, 0), gamma = 1/2: 1/2 + (1/2) / (1/4 * 5/4) = 2.1 and 1/2; the inverse has 1 and 2."""
    identity, v = torch.eye(2, dtype=torch.float64)[None], torch.tensor([[1.0, 0]], dtype=torch.float64)
    assert torch.diagonal(updated(identity, v, 0.5, printed=True)[0]).tolist() == pytest.approx([2.1, 0.5])
    assert torch.diagonal(updated(identity, v, 0.5)[0]).tolist() == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("every", [1, 3])
def test_is_the_algorithm_written_out(every):
    """A dozen steps of three layers, with slopes by automatic differentiation and inverses of explicit factors."""
    lr, momentum, gamma, zeta, threshold = 0.05, 0.8, 0.7, 0.6, 1.5
    ours, net, data = network(), network(), batches(12)
    settings = {"gamma": gamma, "zeta": zeta, "threshold": threshold, "every": every}
    optimizer = MKOR(ours.parameters(), lr=lr, momentum=momentum, **settings)
    optimizer.watch(ours)
    train(optimizer, ours, data)
    layers = [net[0], net[2], net[4]]
    sides = [(4, 6), (4, 4), (3, 5)]
    inverses = [[torch.eye(out).double(), torch.eye(given).double()] for out, given in sides]
    velocity = {parameter: torch.zeros_like(parameter) for parameter in net.parameters()}
    mended = 0
    for count, (x, y) in enumerate(data):
        records = what_each_record_sees(net, x, y)
        grads = dict(
            zip(net.parameters(), torch.autograd.grad(F.cross_entropy(net(x), y), net.parameters()), strict=True)
        )
        for layer, kept, (inputs, slopes) in zip(layers, inverses, records, strict=True):
            if count % every == 0:
                for side, v in enumerate((slopes.mean(0), inputs.mean(0))):
                    h = kept[side]
                    if h.abs().max() > threshold:
                        h, mended = zeta * h + (1 - zeta) * torch.eye(len(h)).double(), mended + 1
                    factor = gamma * torch.linalg.inv(h) + (1 - gamma) * torch.outer(v, v)
                    kept[side] = torch.linalg.inv(factor)
            whole = grads[layer.weight]
            if layer.bias is not None:
                whole = torch.cat([whole, grads[layer.bias][:, None]], 1)
            step = kept[0] @ whole @ kept[1]
            step = step * whole.norm() / step.norm()
            grads[layer.weight] = step[:, : layer.weight.shape[1]]
            if layer.bias is not None:
                grads[layer.bias] = step[:, -1]
        with torch.no_grad():
            for parameter, grad in grads.items():
                velocity[parameter] = momentum * velocity[parameter] + grad
                parameter -= lr * velocity[parameter]
    assert mended
    for one, other in zip(ours.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_whitened_steps_follow_a_change_of_units():
    """With the exact inverse and no stabilizer, a direction in which inputs are large is not stepped along further."""
    inverse = torch.eye(2, dtype=torch.float64)[None]
    for sign in (1.0, -1.0) * 40:
        inverse = updated(inverse, torch.tensor([[10.0 * sign, 0.0]], dtype=torch.float64), 0.9)
    assert float(inverse[0, 0, 0]) == pytest.approx(1 / 100, rel=1e-2)


def test_it_falls_back_to_first_order_when_the_loss_stalls():
    """By hand: means with a decay of 1/2 are 8, 4.8, 2.67, 2.15 and 2.01 at the ends of windows of two steps."""
    net = network()
    optimizer = MKOR(net.parameters(), stall=0.1, window=2, every=1)
    assert optimizer.asks == "loss"
    optimizer.watch(net)
    stalled = []
    for batch, loss in zip(batches(10), (8, 8, 4, 4, 2, 2, 1.98, 1.98, 1.97, 1.97), strict=True):
        F.cross_entropy(net(batch[0]), batch[1]).backward()
        optimizer.step(lambda loss=loss: torch.tensor(float(loss)))
        stalled.append(optimizer.param_groups[0]["stalled"])
    assert stalled == [False] * 9 + [True]  # 19% less and then 6%
    before = optimizer.state[net[0].weight]["left"]
    F.cross_entropy(net(batch[0]), batch[1]).backward()
    plain = net[0].weight.grad.clone()
    optimizer.step(lambda: torch.tensor(1.0))
    assert optimizer.state[net[0].weight]["left"] is before
    assert optimizer._seen() == {}
    assert optimizer._gradient(net[0].weight).equal(plain)
    again = MKOR(net.parameters())
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["stalled"]


def test_falling_back_needs_the_loss():
    net = network()
    optimizer = MKOR(net.parameters(), stall=0.1)
    net(batches(1)[0][0]).sum().backward()
    with pytest.raises(UserError, match="needs the loss"):
        optimizer.step()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 0.0}, r"optimizer\.gamma=0\.0"),
        ({"zeta": 2.0}, r"optimizer\.zeta=2\.0"),
        ({"stall": -1.0}, r"optimizer\.stall=-1\.0"),
        ({"window": 1}, r"optimizer\.window=1"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        MKOR(network().parameters(), **arguments)
