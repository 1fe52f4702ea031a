"""Smoothed sets against a classifier whose smoothed probabilities are known, and against attacks."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.conformal import exact_interval
from modules.uncertainty.smoothed_conformal import SmoothedConformal

SPEC = DataSpec("s", "vector", (2,), target="class", classes=("left", "right"), sizes={"train": 19})
LINEAR = {"_target_": "modules.networks.mlp.MLP", "width": 4, "depth": 1}


class Step(torch.nn.Module):
    """All but sure of the side of the first feature: smoothed, p_right = Phi(x_1 / sigma)."""

    def forward(self, x):
        return torch.stack([-x[:, 0].sign(), x[:, 0].sign()], 1) * 30


class Exact(SmoothedConformal):
    """The same with the expectation in the place of a mean."""

    def note(self, x):
        right = torch.special.ndtr(x[:, 0].double() / self.sigma)
        return torch.stack([1 - right, right], 1)


def method(kind=Exact, n=19, **arguments):
    made = kind(SPEC.but(sizes={"train": n}), net=LINEAR, **arguments)
    made.predictor.net = Step()
    return made


def records(n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=draw)
    return 0.5 * torch.randn(n, 2, generator=draw) + torch.stack([y - 0.5, y * 0.0], 1), y


def solved(n=500, **arguments):
    made = method(n=n, **arguments)
    made.accumulate(Labelled(*records(n)))
    made.solve()
    return made


def test_means_come_to_the_closed_form():
    torch.manual_seed(0)
    x, _ = records(50)
    made = method(SmoothedConformal, draws=4000, sigma=0.5)
    torch.testing.assert_close(made.note(x), method(sigma=0.5).note(x), rtol=0, atol=5 * 0.5 / 4000**0.5)


def test_the_attack_of_greatest_effect_breaks_just_those_without_a_certificate():
    """A half-space is the hardest case: the step of the radius against the class does what the bound says."""
    made = solved(sigma=0.5, radius=0.3)
    x, y = records(2000, seed=1)
    against = torch.stack([0.3 - 0.6 * y, y * 0.0], 1)
    survives = made.predict_set(x + against).gather(1, y[:, None]).squeeze(1)
    certain = made.certified(x, y)
    assert torch.equal(certain, survives)
    assert 0.3 < certain.double().mean() < 0.9


@pytest.mark.parametrize("by_class", [False, True])
def test_robust_sets_cover_attacked_records_as_promised(by_class):
    made = solved(4000, sigma=0.5, radius=0.3, robust=True, by_class=by_class)
    x, y = records(20_000, seed=2)
    against = torch.stack([0.3 - 0.6 * y, y * 0.0], 1)
    covered = made.predict_set(x + against).gather(1, y[:, None]).squeeze(1)
    low, high = exact_interval(int(covered.sum()), len(y), 0.999)
    slack = 4 * 0.3 / 4000**0.5
    assert low - slack <= 0.9 <= high + slack
    assert made.certified(x, y)[~covered].sum() == 0
    plain = solved(4000, sigma=0.5, radius=0.3, by_class=by_class)
    assert (made.predict_set(x) | ~plain.predict_set(x)).all()


def test_the_certificate_of_calibration_records_is_seldom_wrong():
    """Coverage under the strongest attack is known; 120 calibration sets."""
    x, y = records(4000, seed=3)
    fresh = method(sigma=0.5).note(x)
    wrong = 0
    for seed in range(120):
        made = method(n=60, sigma=0.5, radius=0.3)
        made.accumulate(Labelled(*records(60, seed=100 + seed)))
        made.solve()
        truth = float(made.kept_class(fresh, y).double().mean())
        wrong += made.certificate(0.2) > truth
    assert exact_interval(wrong, 120, 0.99)[0] <= 0.2
    assert method().certificate() == 0


def test_accounting_for_the_error_of_means_is_cautious():
    torch.manual_seed(0)
    x, y = records(300, seed=4)
    answers = method().note(x)
    made = method(sigma=0.5, radius=0.1)
    strict = method(sigma=0.5, radius=0.1, error=0.01, draws=100)
    assert (strict.bounds(answers, 0.1)[0] < made.bounds(answers, 0.1)[0]).all()
    assert (strict.bounds(answers, 0.1)[1] > made.bounds(answers, 0.1)[1]).all()


def test_probabilities_are_logs_and_the_attack_has_a_gradient():
    made = SmoothedConformal(SPEC, net=LINEAR, draws=8)
    x, y = records(5)
    torch.testing.assert_close(made.predict_log_proba(x).exp().sum(1), torch.ones(5).double())
    asked = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(made.attack_loss(asked, y, 4).sum(), asked)
    assert gradient.abs().sum() > 0


def test_mistakes_are_named():
    for arguments, match in (
        ({"alpha": 0}, "alpha"),
        ({"sigma": 0}, "sigma"),
        ({"radius": -1}, "radius"),
        ({"error": 1}, "error"),
    ):
        with pytest.raises(UserError, match=match):
            method(**arguments)
