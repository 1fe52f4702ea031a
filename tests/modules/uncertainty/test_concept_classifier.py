"""Its loss by hand, and that networks learn as they would alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.capabilities import ConceptPredictor
from modules.uncertainty.concept_classifier import ConceptClassifier, truth_table

SPEC = DataSpec("s", "vector", (3,), target="class", classes=("a", "b", "c"), sizes={"train": 19})
MLP = {"_target_": "modules.networks.mlp.MLP", "width": 4, "depth": 2}
CONCEPTS = {"first": ["a"], "late": ["b", "c"]}


def test_the_table_by_hand():
    assert torch.equal(truth_table(CONCEPTS, SPEC.classes), torch.tensor([[1, 0], [0, 1], [0, 1]]).bool())
    assert torch.equal(truth_table({"even": [0]}, ("0", "1")), torch.tensor([[True], [False]]))


def test_loss_by_hand_and_no_gradient_from_one_network_to_another():
    torch.manual_seed(0)
    made = ConceptClassifier(SPEC, CONCEPTS, noise=0.0, net=MLP)
    assert isinstance(made, ConceptPredictor)
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    terms = made.loss(Labelled(x, y))
    q = made.predict_concepts(x).double()
    has = made.table[y]
    expected = -torch.where(has, q, 1 - q).log().mean(0).sum()
    torch.testing.assert_close(terms["concepts"].double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(terms["class"], F.nll_loss(made.predict_log_proba(x), y))
    concept_weights = list(made.concepts.parameters())
    gradients = torch.autograd.grad(terms["class"], concept_weights, allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_noise_is_of_the_stated_size():
    made = ConceptClassifier(SPEC, CONCEPTS, noise=0.5, net=MLP)
    seen = []
    made.net = torch.nn.Module()
    made.net.forward = lambda x: seen.append(x) or torch.zeros(len(x), 3)
    torch.manual_seed(0)
    made.loss(Labelled(torch.zeros(5000, 3), torch.zeros(5000, dtype=torch.long)))
    assert float(seen[0].std()) == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("concepts", [{}, {"none": []}, {"all": ["a", "b", "c"]}, {"other": ["d"]}])
def test_what_tells_nothing_apart_is_refused(concepts):
    with pytest.raises(UserError, match="concepts"):
        ConceptClassifier(SPEC, concepts, net=MLP)


def test_negative_noise_is_refused():
    with pytest.raises(UserError, match="noise"):
        ConceptClassifier(SPEC, CONCEPTS, noise=-1, net=MLP)
