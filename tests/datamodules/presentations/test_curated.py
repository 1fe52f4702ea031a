"""Curated demonstrations: the filter against one that is written out, and what is kept by whose word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations import curated
from datamodules.presentations.curated import CuratedData, first_of, unlike
from datamodules.presentations.preferences import DemonstrationData
from datamodules.sources.instructions import Instructions
from datamodules.sources.requests import Requests
from modules.method import Method
from tests.modules.test_contract import planned, trained

NET = ("net=transformer", "net.width=8", "net.depth=1", "net.heads=1", "datamodule.context=28", "data.train=20")


def source():
    return Instructions(train=120, validation=12, test=12)


def greedy(embeddings: torch.Tensor, tau: float, budget: int | None) -> list[int]:
    """The filter as the paper says it, a record and a pair at a time."""
    directions = embeddings.double().numpy()
    cosines = (directions @ directions.T / np.outer(*[np.linalg.norm(directions, axis=1)] * 2)).tolist()
    kept: list[int] = []
    for row in range(len(cosines)):
        if len(kept) == budget:
            break
        if all(cosines[row][other] <= tau for other in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize("budget", [None, 1, 17, 500])
@pytest.mark.parametrize(("tau", "at_once"), [(0.9, 1), (0.9, 7), (0.5, 64), (0.0, 1000), (-0.5, 32)])
def test_the_filter_keeps_what_a_greedy_one_keeps_in_blocks_of_any_size(tau, at_once, budget):
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 3, dtype=torch.float64, generator=draw)
    noise = 0.3 * torch.randn(150, 3, dtype=torch.float64, generator=draw)
    embeddings = centres[torch.randint(12, (150,), generator=draw)] + noise
    assert unlike(embeddings, tau, budget, at_once).tolist() == greedy(embeddings, tau, budget)


def test_in_a_chain_each_of_which_is_like_the_next_every_other_one_stays():
    """The filter's rounds are many here: what is kept depends on all that comes before."""
    alike = torch.eye(101).bool() | torch.diag(torch.ones(100), 1).bool() | torch.diag(torch.ones(100), -1).bool()
    assert first_of(alike).tolist() == [place % 2 == 0 for place in range(101)]


def test_what_is_kept_is_unlike_and_what_is_not_is_like_something_better():
    draw = torch.Generator().manual_seed(1)
    embeddings = torch.randn(20_000, 4, generator=draw)
    kept = unlike(embeddings, 0.95)
    directions = torch.nn.functional.normalize(embeddings, dim=1)
    cosines = directions @ directions[kept].T
    assert float(cosines[kept].fill_diagonal_(-1).max()) <= 0.95
    gone = torch.ones(len(embeddings)).bool()
    gone[kept] = False
    earlier = kept < torch.arange(len(embeddings))[:, None]
    assert (((cosines > 0.95) & earlier).any(1) == gone).all()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Of a policy, and of graders that have seen next to nothing: what they say is any function of the text."""
    folder = tmp_path_factory.mktemp("checkpoints")
    runs = {
        "model": planned("preference/fine_tuning", folder / "model", "data=instructions", *NET),
        "complexity": planned("preference/grader", folder / "complexity", *NET, "optimizer.lr=0.1"),
        "quality": planned(
            "preference/grader", folder / "quality", *NET, "data.of=quality", "datamodule.of=answer", "optimizer.lr=0.1"
        ),
    }
    return {
        name: str(Path(trained(run).trainer.default_root_dir) / "checkpoints/last.ckpt") for name, run in runs.items()
    }


def test_the_highest_products_are_kept_in_the_order_in_which_they_stood(checkpoints, monkeypatch):
    monkeypatch.setattr(curated, "AT_ONCE", 50)
    data = CuratedData(source(), budget=30, tau=None, **checkpoints)
    whole = DemonstrationData(source(), of="chosen")
    whole.setup()
    assert data.spec.sizes == {"train": 30, "validation": 12, "test": 12}
    rows, score = whole.rows["train"], []
    graders = {name: Method.load_from_checkpoint(checkpoints[name]) for name in ("complexity", "quality")}
    with torch.no_grad():
        for row in rows.tolist():
            prompt, answer = whole.speech.encoded(whole.dialogues.prompts[row], whole.dialogues.answers[row][0])
            texts = {"complexity": prompt, "quality": torch.cat([prompt, answer])}
            grades = [
                float(graders[name].expected_grade(text[None].long(), torch.tensor([len(text)])))
                for name, text in texts.items()
            ]
            score.append(grades[0] * grades[1])
    best = torch.tensor(score).topk(30).indices.sort().values
    assert torch.equal(data.rows["train"], rows[best])
    assert data.columns["place"][data.rows["train"]].tolist() == list(range(30))
    assert torch.equal(data.rows["test"], whole.rows["test"])
    kept = data.records("train")
    chosen = whole.records("train")
    assert torch.equal(kept.ids, chosen.ids[best][:, : kept.ids.shape[1]])


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_the_filter_sees_the_features_of_the_policy(checkpoints, pool, monkeypatch):
    monkeypatch.setattr(curated, "AT_ONCE", 50)
    data = CuratedData(source(), budget=None, by=["length"], tau=0.8, model=checkpoints["model"], pool=pool)
    data.setup()
    whole = DemonstrationData(source(), of="chosen")
    whole.setup()
    rows, net = whole.rows["train"], Method.load_from_checkpoint(checkpoints["model"]).net
    pairs = [
        whole.speech.encoded(whole.dialogues.prompts[row], whole.dialogues.answers[row][0]) for row in rows.tolist()
    ]
    order = sorted(range(len(pairs)), key=lambda place: -len(pairs[place][0]))  # stable, as sorting is
    with torch.no_grad():
        features = [net.embed(torch.cat(pairs[place])[None].long())[0] for place in order]
    embeddings = torch.stack([one[-1] if pool == "last" else one.mean(0) for one in features])
    expected = sorted(order[place] for place in greedy(embeddings, 0.8, None))
    assert 1 < len(expected) < len(rows)
    assert torch.equal(data.rows["train"], rows[expected])


def test_perplexity_is_that_of_the_answer(checkpoints):
    data = CuratedData(source(), budget=5, by=["perplexity"], tau=None, model=checkpoints["model"])
    data.setup()
    rows, net = data.rows["train"], Method.load_from_checkpoint(checkpoints["model"]).net
    found = data.perplexity_of(rows)
    for row, value in zip(rows.tolist(), found.tolist(), strict=True):
        prompt, answer = data.speech.encoded(data.dialogues.prompts[row], data.dialogues.answers[row][0])
        text = torch.cat([prompt, answer]).long()
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(net(text[None, :-1])[0, len(prompt) - 1 :], answer.long())
        assert value == pytest.approx(float(loss.exp()), rel=1e-4)


def test_at_random_it_is_a_function_of_the_seed_and_any_language_source_will_do():
    one, again, other = (CuratedData(Requests(train=60), by=[], tau=None, budget=20, seed=seed) for seed in (0, 0, 1))
    for data in (one, again, other):
        data.setup()
        assert len(data.rows["train"]) == 20
    assert torch.equal(one.rows["train"], again.rows["train"])
    assert not torch.equal(one.rows["train"].sort().values, other.rows["train"].sort().values)


def test_what_cannot_be_is_refused(checkpoints):
    for wrong in ({"budget": 0}, {"tau": 1.5}, {"by": ["beauty"]}, {"pool": "first"}):
        with pytest.raises(UserError, match=rf"datamodule\.{next(iter(wrong))}"):
            CuratedData(source(), **wrong)
    for lack in ("complexity", "quality", "model"):
        with pytest.raises(UserError, match=rf"datamodule\.{lack} is needed"):
            CuratedData(source(), **(checkpoints | {lack: None}))
    with pytest.raises(UserError, match="grades no texts"):
        CuratedData(source(), **(checkpoints | {"quality": checkpoints["model"]})).setup()
    with pytest.raises(UserError, match=r"knows .* tokens"):
        CuratedData(Requests(train=60), **checkpoints).setup()
