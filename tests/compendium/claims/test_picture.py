"""Pictures of results: where a result shows a price and what it buys, there is a frontier of both."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from compendium.claims.picture import draw, frontier
from compendium.config import ROOT


@pytest.fixture
def result():
    return json.loads((ROOT / "results/preference/wang2024transforming.json").read_text())


def test_a_frontier_has_all_seeds_and_the_means_of_both_figures(result):
    axes = Figure().subplots()
    frontier(axes, result, "test/kl", "test/gold_reward")
    table = {(row["arm"], row["figure"]): row["mean"] for row in result["table"]}
    swept = [name for name, one in result["arms"].items() if one["arm"] == "raw"]
    expected = [(table[name, "test/kl"], table[name, "test/gold_reward"]) for name in swept]
    means = [list(zip(*line.get_data(), strict=True)) for line in axes.lines]
    assert expected in means
    seeds = sum(len(one["runs"]) for one in result["arms"].values())
    assert sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == ".") == seeds
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == list(dict.fromkeys(one["arm"] for one in result["arms"].values()))


def test_it_is_a_panel_of_its_own_where_both_figures_are_shown(result, tmp_path):
    draw(result, tmp_path / "both.png")
    draw({**result, "figures": [name for name in result["figures"] if name != "test/kl"]}, tmp_path / "one.png")
    widths = [imread(tmp_path / f"{name}.png").shape[1] for name in ("both", "one")]
    assert widths[0] - widths[1] == pytest.approx(3.6 * 150, abs=1)
