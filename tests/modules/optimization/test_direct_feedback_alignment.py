"""Direct feedback alignment against its gradient written out, and where it is backpropagation."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.networks.cnn import CNN
from modules.networks.layered import ACTIVATIONS, Layered
from modules.optimization.direct_feedback_alignment import DirectFeedbackAlignment

SPEC = DataSpec("made up", "vector", (5,), target="class", classes=("a", "b", "c"))
SLOPES = {
    "tanh": lambda a: 1 / torch.cosh(a) ** 2,
    "relu": lambda a: (a > 0).double(),
    "sigmoid": lambda a: torch.exp(-a) / (1 + torch.exp(-a)) ** 2,
    "identity": torch.ones_like,
}


def learner(rule="dfa", activation="tanh", depth=3, bottleneck=None, **arguments):
    torch.manual_seed(3)
    net = Layered((5,), (3,), width=7, depth=depth, bottleneck=bottleneck, activation=activation)
    return DirectFeedbackAlignment(SPEC, rule=rule, net=net, **arguments).double()


def records(n=11):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 5, generator=draw, dtype=torch.float64)
    return Labelled(x, torch.randint(3, (n,), generator=draw))


def gradients(method, batch):
    method.zero_grad()
    method.loss(batch).backward()
    return [parameter.grad.clone() for parameter in method.net.parameters()]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("normalize", [True, False])
def test_the_gradient_is_the_rule_written_out(activation, normalize):
    method, batch = learner(activation=activation, bottleneck=4, normalize=normalize), records()
    function, h, pre, states = ACTIVATIONS[activation][0], batch.x, [], [batch.x]
    for layer in method.net.layers:
        pre.append(h @ layer.weight.T + layer.bias)
        h = function(pre[-1])
        states.append(h)
    out = h @ method.net.last.weight.T + method.net.last.bias
    p = out.exp() / out.exp().sum(1, keepdim=True)
    e = (p - torch.eye(3, dtype=torch.float64)[batch.y]) / len(batch.y)
    expected = []
    for place, (a, width) in enumerate(zip(pre, (7, 4, 7), strict=True)):
        b = method.feedback[:, :width] / ((width * 3) ** 0.5 if normalize else 1)
        delta = (e @ b) * SLOPES[activation](a)
        expected += [delta.T @ states[place], delta.sum(0)]
    expected += [e.T @ states[-1], e.sum(0)]
    for found, wanted in zip(gradients(method, batch), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(method.loss(batch), -p.log()[range(11), batch.y].mean())


def test_with_the_transposed_weights_it_is_backpropagation():
    """One hidden layer, and B = W': the two rules are one."""
    dfa, backprop, batch = learner(depth=1, normalize=False), learner("backprop", depth=1), records()
    dfa.feedback.copy_(dfa.net.last.weight.detach())
    for one, other in zip(gradients(dfa, batch), gradients(backprop, batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(dfa.alignment(*batch), torch.ones(11, 1, dtype=torch.float64))


def test_alignment_is_the_cosine_with_autograd():
    method, batch = learner(depth=4, bottleneck=2, activation="sigmoid"), records()
    h, states = batch.x, []
    for layer in method.net.layers:
        h = method.net.activation(layer(h))
        states.append(h)
    out = method.net.last(h)
    true = torch.autograd.grad(torch.nn.functional.cross_entropy(out, batch.y, reduction="sum"), states)
    random = method.projected(out.softmax(1) - torch.eye(3, dtype=torch.float64)[batch.y])
    expected = torch.stack([torch.cosine_similarity(*pair) for pair in zip(true, random, strict=True)], 1)
    torch.testing.assert_close(method.alignment(*batch), expected, rtol=1e-9, atol=1e-12)


def test_a_normalized_projection_keeps_the_mean_square_of_the_error():
    """E |B e|^2 = |e|^2 / classes, whatever the width: 4000 rows of B, so that the mean is known to 3%."""
    method = DirectFeedbackAlignment(SPEC, net=Layered((5,), (3,), width=4000, bottleneck=500))
    for pushed in method.projected(torch.tensor([[1.0, -2.0, 2.0]])):
        assert float(pushed.square().sum()) == pytest.approx(9 / 3, rel=0.2)


@pytest.mark.parametrize("rule", ["dfa", "backprop"])
def test_units_that_are_not_free_keep_their_weights_and_change_no_other_gradient(rule):
    whole, bottled, batch = learner(rule), learner(rule, free=2), records()
    torch.testing.assert_close(whole.loss(batch), bottled.loss(batch))
    names = [name for name, _ in whole.net.named_parameters()]
    for name, one, other in zip(names, gradients(whole, batch), gradients(bottled, batch), strict=True):
        if name.startswith("layers.1."):
            assert not other[2:].any()
            one, other = one[:2], other[:2]
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


def test_shallow_learning_moves_the_last_layer_alone():
    method, batch = learner("shallow"), records()
    method.loss(batch).backward()
    assert [name for name, p in method.net.named_parameters() if p.grad is not None] == ["last.weight", "last.bias"]
    assert [name for name, p in method.net.named_parameters() if p.requires_grad] == ["last.weight", "last.bias"]


def test_alignment_survives_tiny_errors():
    method, batch = learner().float(), records()
    method.net.last.weight.data.mul_(1e3)
    cosines = method.alignment(batch.x.float(), batch.y)
    assert cosines.isfinite().all()
    assert cosines.abs().max() <= 1 + 1e-6


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"model\.rule=hebb"):
        learner("hebb")
    with pytest.raises(UserError, match=r"model\.free=8"):
        learner(free=8)
    with pytest.raises(UserError, match="plain stack"):
        DirectFeedbackAlignment(
            DataSpec("made up", "image", (1, 8, 8), target="class", classes=("a", "b")), net=CNN((1, 8, 8), (2,))
        )
    with pytest.raises(UserError, match=r"net\.activation=cos"):
        Layered((5,), (3,), activation="cos")
    with pytest.raises(UserError, match=r"net\.bottleneck=0"):
        Layered((5,), (3,), bottleneck=0)
