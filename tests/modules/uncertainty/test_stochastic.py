"""Noisy classifiers: their passes, and the limits in which they are a plain network."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.stochastic import StochasticClassifier

SPEC = DataSpec("d", "vector", (6,), target="class", classes=("a", "b", "c"), sizes={"train": 50})
NET = {"_target_": "modules.networks.mlp.MLP", "width": 16, "depth": 2}
NOISE = "modules.networks.stochastic."


def method(name: str, **options) -> StochasticClassifier:
    torch.manual_seed(0)
    return StochasticClassifier(SPEC, noise={"_target_": NOISE + name, **options}, passes=5, net=NET)


def test_without_dropout_it_is_the_plain_network():
    plain = method("Dropout", p=0.0)
    batch = Labelled(torch.randn(8, 6), torch.randint(3, (8,)))
    logits = plain.net(batch.x)
    torch.testing.assert_close(plain.loss(batch)["cross_entropy"], F.cross_entropy(logits, batch.y))
    torch.testing.assert_close(plain.predict_log_proba(batch.x), logits.log_softmax(1))
    assert float(plain.loss(batch)["divergence"]) == 0
    torch.testing.assert_close(plain.epistemic_variance(batch.x), torch.zeros(8, 3), atol=1e-6, rtol=0)


def test_members_of_a_batch_ensemble_learn_from_every_record():
    ensemble = method("BatchEnsemble", members=4)
    assert ensemble.draws == 8
    batch = Labelled(torch.randn(8, 6), torch.randint(3, (8,)))
    members = ensemble.predict_members(batch.x)
    # Without dropout two passes of a member are the same; the rows are in the members' order.
    torch.testing.assert_close(members[0::2], members[1::2])
    own = -members[::2].gather(2, batch.y.expand(4, -1)[..., None]).mean()
    torch.testing.assert_close(ensemble.loss(batch)["cross_entropy"], own)
    assert bool((ensemble.epistemic_variance(batch.x) > 0).all())


def test_the_divergence_is_per_record():
    concrete = method("ConcreteDropout", length_scale=1.0)
    batch = Labelled(torch.randn(8, 6), torch.randint(3, (8,)))
    layers = [concrete.net.hidden[0], concrete.net.last]
    total = sum(float(layer.penalty().detach()) for layer in layers)
    assert float(concrete.loss(batch)["divergence"].detach()) == pytest.approx(total / 50, rel=1e-5)


def test_bad_input():
    with pytest.raises(UserError, match="passes=0"):
        StochasticClassifier(SPEC, noise={"_target_": NOISE + "Dropout"}, passes=0, net=NET)
