"""GFlowOut against the posterior of its masks, summed over all of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.networks.cnn import CNN
from modules.networks.mask_flow import MaskFlow, Trajectory
from modules.networks.mlp import MLP
from modules.uncertainty.gflowout import GFlowOut, imbalance

SPEC = DataSpec("d", "vector", (2,), target="class", classes=("a", "b"), sizes={"train": 64})
NET = {"_target_": "modules.networks.mlp.MLP", "width": 4, "depth": 1}


def test_probabilities_of_all_masks_add_up_to_one():
    torch.manual_seed(0)
    net = MLP((2,), (3,), width=3, depth=2).double()
    flow = MaskFlow(classes=3, hidden=5, p=0.3)
    flow.attach(net.double())
    net.double()
    x, labels = torch.randn(1, 2, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[:1]
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    given = iter(masks.split(3, 1))

    def chosen(probabilities):
        return next(given).expand_as(probabilities)

    path = flow.follow(Trajectory(labels.expand(64, 3)))
    original, torch.bernoulli = torch.bernoulli, chosen
    try:
        net(x.expand(64, 2))
    finally:
        torch.bernoulli = original
    for log_law in (path.log_q, path.log_p):
        assert log_law.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_balance_is_reached_by_the_posterior_and_by_nothing_else():
    """With the likelihood and the prior fixed, descending the balance finds q(z) = p(z) p(y|z) / Z, by enumeration."""
    torch.manual_seed(0)
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    likelihood = torch.tensor([0.9, 0.1, 0.5, 0.7], dtype=torch.float64).log()
    first = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    second = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    log_z = torch.zeros(1, dtype=torch.float64, requires_grad=True)

    def log_q():
        after = second[masks[:, 0].long()]
        own = [F.logsigmoid((2 * masks[:, 0] - 1) * first), F.logsigmoid((2 * masks[:, 1] - 1) * after)]
        return own[0] + own[1]

    optimizer = torch.optim.LBFGS([first, second, log_z], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = imbalance(log_z, log_q(), likelihood, prior).square().mean()
        value.backward()
        return value

    optimizer.step(closure)
    evidence = (prior + likelihood).logsumexp(0)
    torch.testing.assert_close(log_z.detach()[0], evidence, atol=1e-4, rtol=0)
    torch.testing.assert_close(log_q().detach(), prior + likelihood - evidence, atol=1e-4, rtol=0)


def test_each_term_trains_its_own_part():
    torch.manual_seed(0)
    method = GFlowOut(SPEC, net=NET)
    batch = Labelled(torch.randn(32, 2), torch.randint(2, (32,)))
    parts = {"cross_entropy": "layer|first", "balance": "posterior|partition", "prior": "prior"}
    for term, value in method.loss(batch).items():
        method.zero_grad()
        value.backward(retain_graph=True)
        reached = {n for n, p in method.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
        own = {n for n, _ in method.named_parameters() if any(part in n for part in parts[term].split("|"))}
        own = {n for n in own if term != "cross_entropy" or "net.first" in n or ".layer." in n}
        assert reached == own, term


def test_masks_without_the_record_are_the_same_law_for_all_and_add_up_to_one():
    torch.manual_seed(0)
    method = GFlowOut(SPEC, net=NET | {"depth": 2}, p=0.2, passes=3000, record=False)
    masked = method.flow.layers_with_masks
    assert [layer.posterior[0].in_features for layer in masked] == [1, 5]
    batch = Labelled(torch.randn(16, 2), torch.randint(2, (16,)))
    loss = method.loss(batch)
    assert set(loss) == {"cross_entropy", "balance"}
    # ln q(z) by hand, from earlier masks alone; at the start it is nearly the prior.
    path = method.flow.follow(Trajectory(torch.eye(2)[batch.y]))
    likelihood = -F.cross_entropy(method.net(batch.x), batch.y, reduction="none")
    first = masked[0].posterior(torch.ones(16, 1))
    second = masked[1].posterior(torch.cat([torch.ones(16, 1), path.masks[0]], 1))
    logits, masks = torch.cat([first, second], 1), torch.cat([path.masks[0], path.masks[1]], 1)
    torch.testing.assert_close(path.log_q, torch.distributions.Bernoulli(logits=logits).log_prob(masks).sum(1))
    kept = torch.distributions.Bernoulli(0.8).log_prob(masks).sum(1)
    torch.testing.assert_close(path.log_p, kept)
    balance = imbalance(method.partition(batch.x, batch.y), path.log_q, 64 * likelihood, path.log_p)
    torch.testing.assert_close(balance, path.log_q - 64 * likelihood - kept)
    # Records that differ get masks from one law.
    members = method.predict_members(torch.tensor([[0.3, 1.0], [0.3, 1.0]])).exp()
    torch.testing.assert_close(members.mean(0)[0], members.mean(0)[1], atol=0.02, rtol=0)
    loss["balance"].backward()
    assert method.partition.log_z.grad is not None


def test_members_are_draws_from_the_prior_that_the_record_gives():
    torch.manual_seed(0)
    method = GFlowOut(SPEC, net=NET, passes=2000, p=0.3)
    members = method.predict_members(torch.randn(1, 2))
    assert members.shape == (2000, 1, 2)
    assert len(members[:, 0, 0].unique()) <= 2**4
    assert not method.flow.layers_with_masks[0].trajectory.masks
    net = CNN((1, 8, 8), (3,), channels=(8, 16))
    MaskFlow(classes=3, hidden=4, p=0.5).attach(net)
    assert net(torch.randn(5, 1, 8, 8)).shape == (5, 3)


def test_bad_input():
    with pytest.raises(UserError, match="p=0"):
        GFlowOut(SPEC, net=NET, p=0.0)
    with pytest.raises(UserError, match="no such layer"):
        GFlowOut(SPEC, net=nn.Linear(2, 2))
