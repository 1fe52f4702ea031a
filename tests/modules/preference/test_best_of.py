"""Best of n: its law by listing all draws, the divergence of the formula that everybody quotes, and what it refuses."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from compendium.errors import UserError
from modules.method import Method
from modules.preference.policy import all_sequences
from tests.modules.preference.test_emulated import checkpoint
from tests.modules.test_contract import planned, trained

WORLD = ("data=bandit", "data.prompts=2", "data.answers=5", "net=small_transformer")


@pytest.fixture(scope="module")
def parts_of(tmp_path_factory):
    """Best-of-n policies of one base and one reward model, by n and what else is said."""
    at = tmp_path_factory.mktemp("best_of")
    base = checkpoint(trained(planned("preference/fine_tuning", at / "base", "net=small_transformer", *WORLD[1:3])))
    reward = checkpoint(trained(planned("preference/reward_model", at / "reward", *WORLD[:3])))
    given = (f"model.model={base}", f"model.reward={reward}", "model.end=null")

    def made(n, *more):
        folder = at / f"{n}{''.join(more)}".replace("=", "")
        return trained(planned("preference/best_of", folder, *WORLD, *given, f"model.answers={n}", *more))

    return made


def rewards_and_base(parts):
    """What the reward model says of all answers, and the base's law of them, (P, A) each, float64."""
    world, method = parts.data.world, parts.method
    with torch.no_grad():
        rewards = method.reward.answer_scores(*all_sequences(world.prompts, world.answers)).double()
        base = method.all_reference_log_probs(world.prompts, world.answers).double()
    return rewards, base.softmax(1)


def best_of_all_draws(rewards, base, n):
    """The law of the best draw by a list of all draws; two answers never have the same reward here."""
    law = torch.zeros_like(base)
    for row in range(len(base)):
        for draws in itertools.product(range(base.shape[1]), repeat=n):
            best = max(draws, key=lambda answer: float(rewards[row, answer]))
            law[row, best] += math.prod(float(base[row, answer]) for answer in draws)
    return law


def test_the_law_is_that_of_the_best_of_all_possible_draws(parts_of):
    parts = parts_of(3)
    world = parts.data.world
    rewards, base = rewards_and_base(parts)
    expected = best_of_all_draws(rewards, base, 3)
    law = parts.method.all_log_probs(world.prompts, world.answers).double().softmax(1)
    torch.testing.assert_close(law, expected, rtol=1e-4, atol=1e-6)
    assert float((law - base).abs().max()) > 0.05


def test_written_answers_follow_that_law(parts_of):
    """Chi-square of 4000 answers; 4 degrees of freedom: above 18.5 by chance in one of a thousand."""
    parts = parts_of(3)
    world = parts.data.world
    rewards, base = rewards_and_base(parts)
    expected = best_of_all_draws(rewards, base, 3)
    lengths = torch.full((len(world.prompts),), world.prompts.shape[1])
    torch.manual_seed(0)
    written = parts.method.write_answers(world.prompts, lengths, 1, samples=4000)
    said = written.ids[written.answer].view(len(base), 4000)
    for row in range(len(base)):
        own = said[row][torch.isin(said[row], world.answers[:, 0])]
        counts = (own[:, None] == world.answers[:, 0]).sum(0)
        wanted = expected[row] * len(own)
        assert float(((counts - wanted).square() / wanted).sum()) < 18.5


def test_laws_of_written_answers_come_near_with_draws(parts_of):
    parts = parts_of(3, "model.draws=5000")
    world = parts.data.world
    ids, answer = all_sequences(world.prompts, world.answers)
    found = parts.method.answer_log_probs(ids, answer)
    assert torch.equal(found, parts.method.answer_log_probs(ids, answer))  # the same draws again
    exact = parts.method.all_log_probs(world.prompts, world.answers)
    torch.testing.assert_close(found.exp(), exact.exp(), rtol=0, atol=0.02)


def test_one_answer_is_the_base(parts_of):
    parts = parts_of(1)
    world = parts.data.world
    ids, answer = all_sequences(world.prompts, world.answers)
    base = parts.method.all_reference_log_probs(world.prompts, world.answers)
    torch.testing.assert_close(parts.method.answer_log_probs(ids, answer), base, rtol=0, atol=1e-5)
    torch.testing.assert_close(parts.method.all_log_probs(world.prompts, world.answers), base, rtol=0, atol=1e-5)


def test_its_divergence_stays_below_the_formula_of_rare_answers(parts_of):
    parts = parts_of(4)
    world = parts.data.world
    law = parts.method.all_log_probs(world.prompts, world.answers).double().log_softmax(1)
    base = parts.method.all_reference_log_probs(world.prompts, world.answers).double().log_softmax(1)
    divergence = (law.exp() * (law - base)).sum(1)
    assert float(divergence.max()) <= math.log(4) - 3 / 4
    assert float(divergence.min()) > 0


def test_its_checkpoint_needs_no_other_file(parts_of):
    parts = parts_of(3)
    world = parts.data.world
    again = Method.load_from_checkpoint(checkpoint(parts))
    with torch.no_grad():
        one, other = (each.all_log_probs(world.prompts, world.answers) for each in (parts.method, again))
    assert torch.equal(one, other)
    assert again.answers == 3


@pytest.mark.parametrize("setting", ["model.answers=0", "model.draws=0"])
def test_bad_values_are_one_clear_line(setting, tmp_path):
    with pytest.raises(UserError, match="at least 1 each"):
        trained(planned("preference/best_of", tmp_path, *WORLD, setting))
