"""Filtered preferences: which pairs stay, and what they stay called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.preferences import PreferenceData
from datamodules.presentations.similar import SimilarityData
from datamodules.sources.bandit import Bandit
from datamodules.sources.requests import Requests
from modules.preference.similarity import ches, edit_similarity
from tests.modules.test_contract import planned, trained


def source():
    return Requests(train=200, validation=20, test=20)


@pytest.mark.parametrize("alike", [True, False])
def test_the_most_or_least_alike_stay_in_their_order(alike):
    whole = PreferenceData(source())
    all_of_them = whole.records("train")
    similar = edit_similarity(all_of_them.pairs, all_of_them.answers)
    data = SimilarityData(source(), by="edit", keep=0.25, alike=alike)
    assert data.spec.sizes == {"train": 50, "validation": 20, "test": 20}
    kept = data.records("train")
    found = edit_similarity(kept.pairs, kept.answers)
    expected = similar.sort(descending=alike).values[:50]
    torch.testing.assert_close(found.sort(descending=alike).values, expected)
    assert kept.row.tolist() == list(range(50))
    own = {row: place for place, row in enumerate(whole.rows["train"].tolist())}
    assert (torch.tensor([own[row] for row in data.rows["train"].tolist()]).diff() > 0).all()
    assert torch.equal(data.rows["test"], whole.rows["test"])
    everywhere = SimilarityData(source(), by="edit", keep=0.25, alike=alike, everywhere=True)
    assert everywhere.spec.sizes == {"train": 50, "validation": 5, "test": 5}
    assert torch.equal(everywhere.rows["train"], data.rows["train"])


def test_by_ches_it_asks_the_checkpoint(tmp_path):
    net = ("net=transformer", "net.width=8", "net.depth=1", "net.heads=1")
    parts = trained(planned("preference/fine_tuning", tmp_path, "data=requests", "data.train=200", *net))
    path = str(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    data = SimilarityData(source(), model=path, keep=0.5)
    whole = PreferenceData(source()).records("train")
    with torch.no_grad():
        features = parts.method.net.embed(whole.pairs.flatten(0, 1)).unflatten(0, whole.pairs.shape[:2])
        least = ches(features, whole.answers).sort().values[:100]
        kept = data.records("train")
        found = ches(parts.method.net.embed(kept.pairs.flatten(0, 1)).unflatten(0, kept.pairs.shape[:2]), kept.answers)
    torch.testing.assert_close(found.sort().values, least, atol=1e-5, rtol=1e-4)


def test_random_ones_are_a_function_of_the_seed():
    one, again, other = (SimilarityData(Bandit(), by="random", seed=seed) for seed in (0, 0, 1))
    for data in (one, again, other):
        data.setup()
    assert torch.equal(one.rows["train"], again.rows["train"])
    assert not torch.equal(one.rows["train"].sort().values, other.rows["train"].sort().values)


def test_what_cannot_be_is_refused(tmp_path):
    for wrong in ({"by": "chess"}, {"by": "edit", "keep": 0.0}):
        with pytest.raises(UserError, match=f"datamodule.{list(wrong)[-1]}="):
            SimilarityData(Bandit(), **wrong)
    with pytest.raises(UserError, match="asks a policy"):
        SimilarityData(Bandit())
    parts = trained(planned("preference/fine_tuning", tmp_path))
    path = str(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    with pytest.raises(UserError, match="no features of tokens"):
        SimilarityData(Bandit(), model=path).setup()
