"""Forward-Forward against its loss written out, and its gradients, which stay in their layer."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.networks.layered import Layered
from modules.networks.mlp import MLP
from modules.optimization.forward_forward import ForwardForward

SPEC = DataSpec("made up", "vector", (5,), target="class", classes=("a", "b", "c"))


def learner(depth=3):
    torch.manual_seed(4)
    return ForwardForward(SPEC, net=Layered((8,), (1,), width=7, depth=depth, activation="relu")).double()


def records(n=11):
    draw = torch.Generator().manual_seed(0)
    return Labelled(torch.randn(n, 5, generator=draw, dtype=torch.float64), torch.randint(3, (n,), generator=draw))


def written_out(method, x, y, layers):
    h = torch.cat([x, torch.eye(3, dtype=torch.float64)[y]], 1)
    found = []
    for layer in method.net.layers[:layers]:
        n = h.detach() / h.detach().square().mean(1, keepdim=True).add(torch.finfo(torch.float64).eps).sqrt()
        h = (n @ layer.weight.T + layer.bias).clamp_min(0)
        found.append(h.square().mean(1))
    return torch.stack(found, 1)


def test_the_loss_is_written_out_and_each_layer_has_its_own_term():
    method, batch = learner(), records()
    torch.manual_seed(0)
    value = method.loss(batch)
    value.backward()
    torch.manual_seed(0)
    wrong = (batch.y + torch.randint(1, 3, (11,))) % 3
    assert not (wrong == batch.y).any()
    right, other = (written_out(method, batch.x, y, 3) for y in (batch.y, wrong))
    terms = (1 + (2 - right).exp()).log().mean(0) + (1 + (other - 2).exp()).log().mean(0)
    torch.testing.assert_close(value, terms.sum())
    for layer, term in zip(method.net.layers, terms, strict=True):
        torch.testing.assert_close(layer.weight.grad, torch.autograd.grad(term, layer.weight, retain_graph=True)[0])


@pytest.mark.parametrize("depth", [1, 3])
def test_a_class_scores_by_the_layers_above_the_first(depth):
    method, batch = learner(depth), records()
    scores = torch.stack(
        [written_out(method, batch.x, torch.full((11,), c), depth)[:, min(1, depth - 1) :].sum(1) for c in range(3)], 1
    )
    found = method.predict_log_proba(batch.x)
    torch.testing.assert_close(found, scores.float().log_softmax(1))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"model\.threshold=0"):
        ForwardForward(SPEC, threshold=0.0, net=Layered((8,), (1,)))
    with pytest.raises(UserError, match="plain stack"):
        ForwardForward(SPEC, net=MLP((8,), (1,)))
