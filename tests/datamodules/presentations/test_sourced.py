"""Records of several sources: how many labels are wrong, where, and that nothing else is touched."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Sourced
from datamodules.presentations.sourced import SourcedData
from datamodules.sources.digits import Digits


def test_each_source_has_its_share_of_wrong_labels_and_the_other_splits_have_none():
    data = SourcedData(Digits(), sources=3, wrong=[0.0, 0.4, 1.0], seed=4)
    assert data.spec.sources == 3
    train, right = data.records("train"), data.source_columns["y"][data.rows["train"]]
    assert isinstance(train, Sourced)
    assert torch.bincount(train.source).tolist() == [len(right) // 3 + (s < len(right) % 3) for s in range(3)]
    shares = [float((train.y != right)[train.source == s].double().mean()) for s in range(3)]
    assert shares[0] == 0
    assert shares[1] == pytest.approx(0.4, abs=0.08)
    assert shares[2] == 1
    assert data.share_of_wrong().tolist() == pytest.approx(shares)
    offset = (train.y - right)[train.source == 2] % 10
    assert torch.bincount(offset, minlength=10)[1:].min() > 0.5 * len(offset) / 9  # all wrong classes, about equally
    for split in ("validation", "test"):
        batch = data.records(split)
        assert torch.equal(batch.y, data.source_columns["y"][data.rows[split]])
        assert set(batch.source.tolist()) == {-1}


def test_each_record_can_be_a_source_and_all_is_a_function_of_the_seed():
    one, same, other = (SourcedData(Digits(), wrong=[0.5], seed=seed).records("train") for seed in (0, 0, 1))
    assert one.source.tolist() == list(range(len(one.y)))
    assert torch.equal(one.y, same.y)
    assert not torch.equal(one.y, other.y)


@pytest.mark.parametrize(
    "arguments",
    [{"wrong": [1.5]}, {"wrong": [0.1, 0.2], "sources": 3}, {"wrong": [0.1, 0.2]}, {"sources": 0}, {"sources": 5000}],
)
def test_what_does_not_fit_is_refused(arguments):
    with pytest.raises(UserError, match=r"datamodule\.(wrong|sources)="):
        SourcedData(Digits(), **arguments).setup()
