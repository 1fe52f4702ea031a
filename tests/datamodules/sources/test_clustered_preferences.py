"""Preferences in clusters: the law of labels, shares of clusters, and repeated prompts."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.sources.clustered_preferences import ClusteredPreferences


def test_prompts_come_again_in_training_and_once_elsewhere():
    records = ClusteredPreferences(train=40, validation=30, test=50, pairs=4, spread=1.0).load()
    prompt = records.columns["prompt"]
    assert len(torch.unique(prompt[records.splits["train"]], dim=0)) == 10
    assert len(torch.unique(prompt[40:], dim=0)) == 80
    for side in ("chosen", "rejected"):
        assert torch.equal(records.columns[side][:, :8], prompt)
        assert len(torch.unique(records.columns[side][:, 8:], dim=0)) == 120


def test_clusters_have_the_shares_and_spread_that_were_asked_for():
    columns = ClusteredPreferences(clusters=3, skew=1.0, spread=0.2, train=3, validation=1, test=30000, pairs=3).load()
    cluster, prompt = columns.columns["cluster"][3:], columns.columns["prompt"][3:]
    share = torch.bincount(cluster, minlength=3) / len(cluster)
    torch.testing.assert_close(share, torch.tensor([6.0, 3.0, 2.0]) / 11, atol=0.012, rtol=0)
    for number in range(3):
        within = prompt[cluster == number]
        torch.testing.assert_close(within.std(0), torch.full((8,), 0.2), atol=0.01, rtol=0)


def test_labels_are_drawn_by_the_difference_of_rewards():
    """One cluster without spread: rewards are linear in the answer, and a logistic regression finds their direction."""
    source = ClusteredPreferences(clusters=1, spread=0.0, train=4, validation=1, test=20000, gain=3.0)
    columns = source.load().columns
    gap = (columns["chosen"] - columns["rejected"])[5:, 8:].double()
    weight = torch.zeros(8, dtype=torch.float64)
    for _ in range(20):
        p = torch.sigmoid(-gap @ weight)
        hessian = torch.einsum("ni,n,nj->ij", gap, p * (1 - p), gap)
        weight = weight + torch.linalg.solve(hessian, gap.T @ p)
    draw = generator(0, "clustered preferences")
    centre = torch.randn(1, 8, generator=draw)
    taste = torch.randn(8, 8, generator=draw)
    expected = 3.0 * torch.tanh(centre[0] @ taste / 8**0.5) / 8**0.5
    torch.testing.assert_close(weight.float(), expected, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    "settings", [{"clusters": 0}, {"pairs": 0}, {"spread": -1.0}, {"skew": -1.0}, {"gain": 0.0}, {"train": 0}]
)
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(UserError):
        ClusteredPreferences(**settings)
