"""Without knowledge it is smoothed conformal prediction; its certificates against attacks."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.colep import Colep
from modules.uncertainty.smoothed_conformal import SmoothedConformal

SPEC = DataSpec("s", "vector", (3,), target="class", classes=("a", "b", "c", "d"), sizes={"train": 400})
MLP = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


class Corners:
    """Answers whose smoothed values are known: p of class from the first feature and concepts from the others.

    Concept l is Phi(x_{l + 1} / sigma). The main model tells classes (b, d) from (a, c) by the sign of feature 0, and
    is undecided within a pair: p = Phi(+- x_0 / sigma) / 2.
    """

    def note(self, x):
        side = torch.special.ndtr(x.double() / self.sigma)
        right = side[:, :1]
        p = torch.cat([1 - right, right, 1 - right, right], 1) / 2
        return torch.cat([p, side[:, 1:]], 1)


class ExactColep(Corners, Colep):
    """With expectations in the place of means."""


def method(**arguments):
    """Concepts are the binary digits of the class's number, which the untrained models have."""
    return ExactColep(SPEC, net=MLP, sigma=0.5, radius=0.3, **arguments)


def records(n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (n,), generator=draw)
    signs = torch.stack([y % 2, y % 2, y // 2], 1) * 2.0 - 1
    return 0.6 * signs + 0.5 * torch.randn(n, 3, generator=draw), y


def solved(**arguments):
    made = method(**arguments)
    made.accumulate(Labelled(*records(400)))
    made.solve()
    return made


def test_binary_digits_are_the_concepts_of_an_untrained_model():
    assert torch.equal(method().predictor.table.long(), torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]]))


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_no_attack_breaks_a_certificate(weight, robust):
    """500 records under 80 attacks each, in all directions, among them the corners of the ball's cube."""
    made = solved(weight=weight, robust=robust)
    x, y = records(500, seed=1)
    certain = made.certified(x, y)
    assert 0.2 < certain.double().mean() < 1
    draw = torch.Generator().manual_seed(2)
    directions = torch.randn(80, 1, 3, generator=draw)
    directions[:8] = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)[:, None]
    directions[8:14] = torch.cat([torch.eye(3), -torch.eye(3)])[:, None]
    attacked = x + 0.3 * directions / directions.norm(dim=2, keepdim=True)
    sets = made.predict_set(attacked.flatten(0, 1)).unflatten(0, (80, 500))
    held = sets.gather(2, y.expand(80, -1)[..., None]).squeeze(2).all(0)
    assert (held | ~certain).all()


def test_without_knowledge_it_is_smoothed_conformal_prediction():
    class Plain(Corners, SmoothedConformal):
        def note(self, x):
            return super().note(x)[:, :4]

    for robust in (False, True):
        ours = solved(weight=0.0, robust=robust)
        plain = Plain(SPEC, net=MLP, sigma=0.5, radius=0.3, by_class=True, robust=robust)
        plain.accumulate(Labelled(*records(400)))
        plain.solve()
        torch.testing.assert_close(ours.quantiles, plain.quantiles, rtol=1e-9, atol=0)
        x, y = records(300, seed=3)
        torch.testing.assert_close(ours.predict_log_proba(x), plain.predict_log_proba(x), rtol=1e-9, atol=1e-12)
        # Two classes share a probability here, so that the others can't always make up for one: tighter at most.
        assert (ours.certified(x, y) | ~plain.certified(x, y)).all()


def test_knowledge_tells_classes_apart_that_the_main_model_cannot():
    x, y = records(2000, seed=4)
    accuracy = [
        float((method(weight=weight).predict_log_proba(x).argmax(1) == y).double().mean()) for weight in (0.0, 3.0)
    ]
    assert accuracy[0] < 0.6
    assert accuracy[1] > 0.75


def test_a_negative_weight_is_refused():
    with pytest.raises(UserError, match="weight"):
        method(weight=-1)
