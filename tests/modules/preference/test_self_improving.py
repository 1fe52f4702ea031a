"""A policy that revises: its texts one by one, and where it ends."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.duels import Duels
from modules.networks.transformer import Transformer
from modules.preference.policy import answer_log_probs
from modules.preference.self_improving import SelfImproving, one_after_another
from tests.modules.test_contract import planned, trained


def by_hand(net, before, answer):
    ids = torch.tensor([before + answer])
    mask = torch.tensor([[False] * len(before) + [True] * len(answer)])
    return answer_log_probs(net, ids, mask)[0]


def test_one_pass_is_each_answer_after_each_other_one():
    """Prompts and answers of several lengths, filled up."""
    torch.manual_seed(0)
    net = Transformer((11,), (9,), width=16, depth=1, heads=2).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    prompts = [[3], [4, 5], [6, 7]]
    answers = [([1, 2, 8], [2]), ([8], [8, 1]), ([1, 1], [2, 3, 4, 5])]
    ids, mask = torch.zeros(3, 2, 6, dtype=torch.long), torch.zeros(3, 2, 6, dtype=torch.bool)
    for row, (prompt, pair) in enumerate(zip(prompts, answers, strict=True)):
        for place, answer in enumerate(pair):
            text = prompt + answer
            ids[row, place, : len(text)] = torch.tensor(text)
            mask[row, place, len(prompt) : len(text)] = True
    with torch.no_grad():
        found = SelfImproving.pair_log_probs(None, net, ids, mask)
        for row, (prompt, (one, other)) in enumerate(zip(prompts, answers, strict=True)):
            expected = [by_hand(net, prompt, one), by_hand(net, prompt, other)]
            expected += [by_hand(net, prompt + old, new) for old in (one, other) for new in (one, other)]
            torch.testing.assert_close(found[row], torch.stack(expected), atol=1e-5, rtol=1e-5)
    texts, _, new = one_after_another(ids, mask)
    assert texts[0, 0, 1].tolist() == [3, 1, 2, 8, 2, 0, 0, 0, 0, 0, 0]
    assert new[0, 0, 1].tolist() == [False] * 4 + [True] + [False] * 6


@pytest.mark.parametrize("sharpness", [0.0, 1.0])
def test_its_minimum_is_near_the_solution_of_the_game_whoever_wrote_the_answers(sharpness):
    data = PreferenceData(Duels(prompts=2, answers=3, sharpness=sharpness, train=10000))
    world, batch = data.world, data.records("train")
    table = {"_target_": "modules.networks.trigram.Trigram"}
    objective = {"_target_": "modules.preference.objectives.srpo.SRPO", "beta": 0.5}
    method = SelfImproving(data.spec, objective, net=table)
    step = torch.optim.LBFGS(method.net.parameters(), max_iter=30, line_search_fn="strong_wolfe")

    with torch.no_grad():
        noted = method.noted_log_probs(batch.pairs, batch.answers)

    def closure():
        step.zero_grad()
        loss = sum(method.objective(method.pairs(batch, noted)).values())
        loss.backward()
        return loss

    step.step(closure)
    with torch.no_grad():
        pi = method.all_log_probs(world.prompts, world.answers).double().exp()
        revised = method.all_revision_log_probs(world.prompts, world.answers).double().exp()
    unnormalised = world.wins.mT / 0.5
    assert float((pi - (-unnormalised.logsumexp(2)).softmax(1)).abs().max()) < 0.03
    assert float((revised - unnormalised.softmax(2)).abs().max()) < 0.06


def test_without_revisions_its_objective_is_refused_and_another_one_leaves_them_alone(tmp_path):
    with pytest.raises(UserError, match="needs a policy that also revises"):
        trained(planned("preference/pairwise", tmp_path / "a", "objective=srpo"))
    parts = trained(planned("preference/self_improving", tmp_path / "b", "objective=dpo"))
    world = parts.data.world
    with torch.no_grad():
        law = parts.method.all_revision_log_probs(world.prompts, world.answers).exp()
    torch.testing.assert_close(law, torch.full_like(law, 1 / 16))
