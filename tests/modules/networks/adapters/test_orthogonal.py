"""Turned neurons beside peft's, and what turning keeps."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

from compendium.errors import UserError
from modules.networks.adapters.base import energy_change, hyperspherical_energy
from modules.networks.adapters.low_rank import LowRank
from modules.networks.adapters.orthogonal import Orthogonal, TurnedWeight


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 5)).double()


def turned(scale=0.3, **options):
    net = network()
    Orthogonal(**options).attach(net)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.requires_grad:
                weight.add_(scale * torch.randn_like(weight))
    return net


@pytest.mark.parametrize(("block", "radius"), [(4, None), (8, None), (4, 0.2)])
def test_outputs_and_gradients_are_those_of_pefts_oft(block, radius):
    """peft turns inputs, by (I - Q)(I + Q)^-1 from the right: its Q is minus ours."""
    ours = turned(block=4, radius=radius)
    config = peft.OFTConfig(
        r=0,
        oft_block_size=4,
        target_modules=["0", "2"],
        use_cayley_neumann=False,
        coft=radius is not None,
        eps=radius or 0.0,
    )
    theirs = peft.get_peft_model(network(), config).double()
    for i in (0, 2):
        skew = ours[i].parametrizations.weight[0].skew
        theirs.base_model.model[i].oft_R["default"].weight.data.copy_(-skew.data)
    x = torch.randn(6, 12, dtype=torch.float64)
    one, other = ours(x), theirs(x)
    torch.testing.assert_close(one, other)
    one.square().sum().backward()
    other.square().sum().backward()
    for i in (0, 2):
        expected = theirs.base_model.model[i].oft_R["default"].weight.grad
        torch.testing.assert_close(ours[i].parametrizations.weight[0].skew.grad, -expected)


def test_the_energy_is_that_of_the_pairs_by_hand():
    """Three unit neurons at right angles: six ordered pairs at the distance sqrt 2; lengths count for nothing."""
    weight = torch.diag(torch.tensor([1.0, 2.0, 0.5]))
    assert float(hyperspherical_energy(weight)) == pytest.approx(6 / 2**0.5)
    with_zero = torch.cat([weight, torch.zeros(1, 3)])
    assert float(hyperspherical_energy(with_zero)) == pytest.approx(6 / 2**0.5)


def test_turning_keeps_the_energy_and_low_rank_changes_do_not():
    assert energy_change(turned(block=4)) < 1e-12
    net = network()
    LowRank(2).attach(net)
    assert energy_change(net) == 0
    net[0].parametrizations.weight[0].up.data.normal_()
    assert energy_change(net) > 1e-2


def test_every_block_turns_and_a_radius_keeps_it_near():
    weight = torch.randn(3, 12, dtype=torch.float64)
    change = TurnedWeight(weight, 5, None).double()  # 5 does not divide 12, 4 does
    assert change.skew.shape == (3, 6)
    change.skew.data.normal_()
    turns = change.turn()
    torch.testing.assert_close(turns @ turns.mT, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(3, dtype=torch.float64))
    change.radius = 0.3
    before = change.skew.data.clone()
    change(weight)
    q = change.turn()
    q = torch.linalg.solve(q + torch.eye(4), q - torch.eye(4))  # back from R to Q
    torch.testing.assert_close(q.flatten(1).norm(dim=1), torch.full((3,), 0.3 / 3**0.5, dtype=torch.float64))
    torch.testing.assert_close(change.skew / change.skew.norm(), before / before.norm(), atol=0.5, rtol=0)


def test_an_untouched_network_computes_what_it_did_and_only_the_turns_are_trained():
    net, x = network(), torch.randn(4, 12, dtype=torch.float64)
    before = net(x)
    Orthogonal(block=4, radius=0.1).attach(net)
    torch.testing.assert_close(net(x), before)
    trained = {name for name, weight in net.named_parameters() if weight.requires_grad}
    assert trained == {f"{i}.parametrizations.weight.0.skew" for i in (0, 2)}


def test_convolutions_turn_their_whole_windows():
    net = nn.Sequential(nn.Conv2d(2, 3, 3)).double()
    weight = net[0].weight.detach().flatten(1)
    Orthogonal(block=18).attach(net)
    net[0].parametrizations.weight[0].skew.data.normal_()
    turn = net[0].parametrizations.weight[0].turn()[0]
    torch.testing.assert_close(net[0].weight.flatten(1), weight @ turn.mT)


@pytest.mark.parametrize(("options", "message"), [({"block": 1}, "block=1"), ({"radius": 0.0}, "radius=0.0")])
def test_what_cannot_turn_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Orthogonal(**options)
