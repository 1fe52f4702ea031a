"""Label noise by its transition matrix, long tails by their counts."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from sklearn.metrics import confusion_matrix

from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from datamodules.sources.flawed import Flawed, flipping, profile, symmetric
from datamodules.sources.tables import Table
from tests.datamodules.fakes import numbered

MNIST = {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}


def test_transition_matrices_by_hand():
    expected = torch.tensor([[0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]], dtype=torch.float64)
    torch.testing.assert_close(symmetric(3, 0.3), expected)
    pair = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.7, 0.3], [0.3, 0.0, 0.7]], dtype=torch.float64)
    torch.testing.assert_close(Flawed("wine", noise="pair", rate=0.3).transition(Table("wine").load()), pair)
    taken = Flawed("digits", noise="asymmetric", rate=0.4, flips=MNIST).transition(Digits().load())
    assert torch.equal(taken.sum(1), torch.ones(10, dtype=torch.float64))
    assert {(int(i), int(j)): float(taken[i, j]) for i, j in taken.nonzero() if i != j} == {
        pair: pytest.approx(0.4) for pair in MNIST.items()
    }
    assert torch.equal(taken.diagonal() == 1, torch.tensor([digit not in MNIST for digit in range(10)]))


@pytest.mark.parametrize(
    "arguments", [{}, {"noise": "pair"}, {"noise": "asymmetric", "flips": {0: 1, 1: 0, 4: 3}}], ids=str
)
def test_labels_of_training_records_follow_the_matrix_and_others_are_right(arguments):
    count, rate = 60_000, 0.35
    source = Flawed(numbered(count, classes=5), rate=rate, **arguments)
    records = source.load()
    y, clean = records.columns["y"], records.columns["clean"]
    assert torch.equal(clean, torch.arange(count) % 5)
    for split in ("validation", "test"):
        assert torch.equal(y[records.splits[split]], clean[records.splits[split]])
    assert [len(records.splits[split]) for split in ("train", "validation", "test")] == [42_000, 6_000, 12_000]
    rows = records.splits["train"]
    seen = confusion_matrix(clean[rows], y[rows])
    law = source.transition(records).numpy()
    assert ((law > 0) >= (seen > 0)).all()
    for counts, share in zip(seen, law, strict=True):
        possible = share > 0
        assert possible.sum() == 1 or chisquare(counts[possible], counts.sum() * share[possible]).pvalue > 1e-4


def test_a_long_tail_has_the_counts_of_long_tailed_cifar():
    # Cao et al. 2019, CIFAR-10 at a ratio of 100: 5000 records of the first class, 50 of the last.
    known = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert profile(torch.full((10,), 5000), 100.0).tolist() == known
    # A class of which there are too few scales the others down with it.
    assert profile(torch.tensor([4, 100, 100]), 4.0).tolist() == [4, 2, 1]
    assert profile(torch.tensor([100, 100, 10]), 4.0).tolist() == [40, 20, 10]
    assert profile(torch.tensor([9, 7, 8]), 1.0).tolist() == [7, 7, 7]


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer"])
def test_embedded_sets_by_name_with_both_flaws(name):
    plain, flawed = Flawed(name, rate=0.0).load(), Flawed(name, rate=0.3, imbalance=5.0).load()
    assert torch.equal(plain.columns["x"], flawed.columns["x"])
    assert torch.equal(plain.columns["y"], flawed.columns["clean"])
    for split in ("validation", "test"):
        assert torch.equal(plain.splits[split], flawed.splits[split])
    rows = flawed.splits["train"]
    classes = len(flawed.spec.classes)
    counts = torch.bincount(flawed.columns["clean"][rows], minlength=classes)
    every = torch.bincount(plain.columns["y"][plain.splits["train"]], minlength=classes)
    assert torch.equal(counts, profile(every, 5.0))
    assert counts[0] // counts[-1] in (5, 6)
    assert set(rows.tolist()) < set(plain.splits["train"].tolist())
    assert not set(rows.tolist()) & set(flawed.splits["test"].tolist())
    again = Flawed(name, rate=0.3, imbalance=5.0).load()
    assert all(torch.equal(again.columns[key], flawed.columns[key]) for key in ("y", "clean"))


def test_a_presentation_gives_the_noisy_labels_and_keeps_the_splits():
    data = LabelledData(Flawed("wine", rate=1.0), validation=0.3, test=0.3)
    assert data.spec.sizes == {"train": 124, "validation": 18, "test": 36}
    assert (data.records("train").y != data.columns["clean"][data.rows["train"]]).all()
    assert torch.equal(data.records("test").y, data.columns["clean"][data.rows["test"]])


def test_a_source_with_splits_of_its_own_keeps_them():
    rows = torch.arange(100)
    records = Flawed(numbered(100, classes=2, train=rows[:50], test=rows[50:]), rate=1.0, validation=0.2).load()
    assert torch.equal(records.splits["test"], rows[50:])
    assert [len(records.splits[split]) for split in ("train", "validation")] == [40, 10]
    assert int((records.columns["y"] != records.columns["clean"]).sum()) == 40


def test_flipping_may_leave_a_class_alone():
    law = flipping(torch.tensor([0, 0]), 1.0)
    assert law.tolist() == [[1.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "diabetes"}, "no embedded set with classes 'diabetes'"),
        ({"noise": "gaussian"}, "no noise 'gaussian'"),
        ({"rate": 1.1}, r"data\.rate=1\.1"),
        ({"imbalance": 0.5}, r"data\.imbalance=0\.5"),
        ({"validation": 0.5, "test": 0.5}, "leave nothing to train on"),
        ({"noise": "asymmetric"}, "which class is taken for which"),
        ({"flips": {1: 2}}, "which class is taken for which"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Flawed(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": Table("diabetes")}, "has no classes"),
        ({"noise": "asymmetric", "flips": {1: 12}}, "no class 12"),
        ({"imbalance": 1000.0}, "leaves no record of class"),
    ],
)
def test_sources_that_do_not_serve_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Flawed(**arguments).load()
