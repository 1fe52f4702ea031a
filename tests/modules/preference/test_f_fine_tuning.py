"""Fine-tuning by f-divergences: phi from f itself, the limit that is the likelihood, and where a table ends."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Demonstrations
from datamodules.presentations.preferences import DemonstrationData
from datamodules.sources.bandit import Bandit
from modules.preference.f_fine_tuning import DIVERGENCES, FFineTuning, phi
from modules.preference.fine_tuning import FineTuning

TABLE = {"_target_": "modules.networks.bigram.Bigram"}
F = {
    "pearson": lambda u: (u - 1).square(),
    "hellinger": lambda u: (u.sqrt() - 1).square(),
    "jensen_shannon": lambda u: torch.xlogy(u, u) - (u + 1) * torch.log((u + 1) / 2),
}


@pytest.mark.parametrize("divergence", list(F))
def test_phi_is_the_conjugate_of_f_turned_around(divergence):
    """-f*(-x), with f*(t) = sup over u of t u - f(u) on a fine grid of u, as far as f from 0 on is f on the line."""
    u = torch.linspace(0, 40, 400_001, dtype=torch.float64)
    x = torch.tensor([-0.49, -0.2, 0.0, 0.3, 1.0, 1.9], dtype=torch.float64)
    conjugate = torch.stack([(-value * u - F[divergence](u)).max() for value in x])
    torch.testing.assert_close(phi(divergence, x), -conjugate, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("divergence", list(DIVERGENCES))
def test_all_begin_with_slope_one_and_go_on_smoothly_below(divergence):
    x = torch.tensor([0.0, -0.5 - 1e-9, -0.5 + 1e-9, -50.0, -1e4], dtype=torch.float64, requires_grad=True)
    values = phi(divergence, x)
    (slope,) = torch.autograd.grad(values.sum(), x)
    values = values.detach()
    assert float(values[0]) == 0
    assert float(slope[0]) == pytest.approx(1)
    assert float(slope[1]) == pytest.approx(float(slope[2]), rel=1e-6)
    assert float(values[1] - values[2]) == pytest.approx(0, abs=1e-7)
    assert torch.isfinite(values).all()
    assert torch.isfinite(slope).all()


def data_and_batch():
    data = DemonstrationData(Bandit(prompts=2, answers=5), of="chosen")
    return data, data.records("train")


def moved(divergence: str, beta: float):
    data, batch = data_and_batch()
    method = FFineTuning(data.spec, divergence=divergence, beta=beta, net=TABLE).double()
    with torch.no_grad():
        for net in (method.net, method.reference):
            net.table.weight.copy_(torch.randn(5, 5, generator=torch.Generator().manual_seed(len(divergence))))
        method.net.table.weight += torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    return method, batch


def test_total_variation_is_fine_tuning_whatever_the_reference():
    method, batch = moved("total_variation", 0.3)
    plain = FineTuning(method.spec, net=method.net)
    ours, theirs = (torch.autograd.grad(one.loss(batch), method.net.table.weight)[0] for one in (method, plain))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("divergence", list(F))
def test_at_a_small_beta_it_is_fine_tuning_and_at_a_larger_one_it_is_written_out(divergence):
    method, batch = moved(divergence, 1e-7)
    plain = FineTuning(method.spec, net=method.net)
    ours, theirs = (torch.autograd.grad(one.loss(batch), method.net.table.weight)[0] for one in (method, plain))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    method, batch = moved(divergence, 0.2)
    total = 0.0
    tables = [net.table.weight.detach().softmax(1) for net in (method.net, method.reference)]
    for ids in batch.ids[:50].tolist():
        pi, reference = (table[ids[0], ids[1]] for table in tables)
        total -= float(phi(divergence, 0.2 * torch.log(pi / reference))) / 0.2
    few = Demonstrations(batch.ids[:50], batch.answer[:50])
    assert float(method.loss(few).detach()) == pytest.approx(total / 50)


def test_pearson_stops_two_over_beta_from_the_reference():
    """One answer alone: the likelihood has no end, and Pearson's ends where ln pi / pi_ref = 2 / beta."""
    data, _ = data_and_batch()
    method = FFineTuning(data.spec, divergence="pearson", beta=2.0, net=TABLE).double()
    one = Demonstrations(torch.tensor([[0, 3]]), torch.tensor([[False, True]]))
    step = torch.optim.LBFGS(method.net.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        step.zero_grad()
        loss = method.loss(one)
        loss.backward()
        return loss

    step.step(closure)
    law = method.net.table.weight[0].detach().softmax(0)
    assert float(law[3].log() - torch.tensor(0.2).log()) == pytest.approx(1.0, abs=1e-4)


def test_bad_values_are_refused():
    data, _ = data_and_batch()
    with pytest.raises(UserError, match=r"model\.divergence=pearsn"):
        FFineTuning(data.spec, divergence="pearsn", net=TABLE)
    with pytest.raises(UserError, match=r"model\.beta=0"):
        FFineTuning(data.spec, beta=0, net=TABLE)
