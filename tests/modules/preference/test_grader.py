"""Graders: the figure and the loss against SciPy, where they are read, and what they learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.special
import torch

from compendium.errors import UserError
from datamodules.batches import Graded
from datamodules.spec import DataSpec
from modules.capabilities import TextGrader
from modules.method import Method
from modules.networks.transformer import Transformer
from modules.preference.grader import Grader
from tests.modules.test_contract import planned, trained

SPEC = DataSpec("texts", "text", (6,), target="answer", vocabulary=7)
SMALL = ("net=transformer", "net.width=16", "net.depth=1", "net.heads=1")


def model(**settings) -> Grader:
    torch.manual_seed(0)
    net = Transformer((6,), (7,), width=8, depth=1, heads=2)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return Grader(SPEC, net=net, **settings).eval()


def batch() -> Graded:
    ids = torch.randint(7, (5, 6), generator=torch.Generator().manual_seed(1))
    return Graded(ids, torch.tensor([6, 3, 1, 5, 2]), torch.tensor([1.0, 6.0, 3.0, 3.0, 2.0]))


def by_hand(method: Grader, given: Graded) -> np.ndarray:
    """Logits (B, K) float64, a text at a time and without what fills it up."""
    with torch.no_grad():
        features = [method.net.embed(ids[None, :end])[0, -1] for ids, end in zip(given.ids, given.length, strict=True)]
    return (torch.stack(features).double() @ method.head.weight.double().T).detach().numpy()


def test_the_figure_is_the_mean_of_the_grades_under_the_softmax_of_their_logits():
    method, given = model(), batch()
    law = scipy.special.softmax(by_hand(method, given), axis=1)
    expected = (law * np.array([1, 2, 3, 4, 5, 6])).sum(1)
    with torch.no_grad():
        found = method.expected_grade(given.ids, given.length)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert found.min() >= 1
    assert found.max() <= 6
    assert isinstance(method, TextGrader)
    assert model().bfloat16().expected_grade(given.ids, given.length).dtype == torch.float32


def test_the_loss_is_the_mean_of_minus_the_log_probability_of_the_grade():
    method, given = model(), batch()
    law = scipy.special.log_softmax(by_hand(method, given), axis=1)
    expected = -law[np.arange(5), given.grade.long().numpy() - 1].mean()
    assert float(method.loss(given).detach()) == pytest.approx(expected, rel=1e-5)


def test_it_begins_with_a_policy_s_network_and_opens_without_that_checkpoint(tmp_path):
    data = ("data=evolved", "data.train=20")
    tuned = trained(planned("preference/fine_tuning", tmp_path / "tuned", *data, *SMALL))
    path = Path(tuned.trainer.default_root_dir) / "checkpoints/last.ckpt"
    parts = trained(
        planned("preference/grader", tmp_path, "data.train=20", *SMALL, f"model.model={path}", "optimizer.lr=0")
    )
    assert torch.equal(parts.method.net.token.weight, tuned.method.net.token.weight)
    path.unlink()
    again = Method.load_from_checkpoint(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    assert torch.equal(again.head.weight, parts.method.head.weight)


def test_what_it_cannot_do_is_said(tmp_path):
    with pytest.raises(UserError, match=r"model\.grades=1"):
        model(grades=1)
    with pytest.raises(UserError, match="Bigram has no features of tokens"):
        trained(planned("preference/grader", tmp_path, "net=bigram"))
    given = batch()
    for wrong in (0.0, 2.5, 7.0):
        with pytest.raises(UserError, match="no whole number from 1 to 6"):
            model().loss(given._replace(grade=torch.full((5,), wrong)))
