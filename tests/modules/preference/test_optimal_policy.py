"""Best policies for rewards in closed form: definitions by loops, limits, and budgets of divergence."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.preferences import DemonstrationData
from datamodules.sources.bandit import Bandit
from modules.method import Method
from modules.preference.optimal_policy import OptimalPolicy, reference_reward
from tests.modules.test_contract import planned, trained

SMALL = ("data.prompts=3", "data.answers=5", "data.attributes=2")


def laws(parts):
    world = parts.data.world
    ids = world.prompts, world.answers
    with torch.no_grad():
        return parts.method.all_log_probs(*ids).exp(), parts.method.all_reference_log_probs(*ids).exp()


def test_the_reference_reward_is_a_quantile_of_the_law():
    scores = torch.tensor([[3.0, 1.0, 2.0, 10.0]], dtype=torch.float64)
    law = torch.tensor([[0.2, 0.3, 0.4, 0.1]], dtype=torch.float64)
    for quantile, expected in ((0.29, 1.0), (0.31, 2.0), (0.69, 2.0), (0.71, 3.0), (0.89, 3.0), (0.91, 10.0)):
        assert float(reference_reward(scores, law, quantile)) == expected
    assert reference_reward(torch.stack([scores, -scores]), law, 0.5).flatten().tolist() == [2.0, -2.0]


@pytest.fixture(scope="module")
def rewards(tmp_path_factory):
    """Checkpoints of two models, of one attribute each."""
    folder = tmp_path_factory.mktemp("rewards")
    paths = []
    for judge in range(2):
        run = planned("preference/reward_model", folder / str(judge), *SMALL, f"data.judge={judge}", "optimizer.lr=0.1")
        paths.append(Path(trained(run).trainer.default_root_dir) / "checkpoints/last.ckpt")
    return paths


def scores_of(path, world):
    method = Method.load_from_checkpoint(path)
    ids = torch.cat([world.prompts[:, None].expand(3, 5, 1), world.answers[None].expand(3, 5, 1)], 2)
    with torch.no_grad():
        return method.answer_scores(ids, torch.tensor([False, True]).expand(3, 5, 2)).double()


@pytest.mark.parametrize("transform", ["none", "log_sigmoid"])
def test_it_is_the_tilt_of_the_recorded_law_by_what_the_models_say(rewards, transform, tmp_path):
    settings = ["model.rewards=[" + ",".join(f"'{path}'" for path in rewards) + "]", "model.weights=[1.0,0.5]"]
    parts = trained(planned(
        "preference/optimal_policy", tmp_path, *SMALL, *settings, f"model.transform={transform}", "model.beta=0.3",
        "model.quantile=0.7", "trainer.limit_train_batches=1.0",
    ))  # fmt: skip
    world = parts.data.world
    found, reference = laws(parts)
    torch.testing.assert_close(reference.sum(1), torch.ones(3, dtype=torch.float64))
    # One of two answers, the second of which is another one than the first; 670 to each prompt, half a count each.
    mu = world.behaviour
    other = (mu[:, :, None] * mu[:, None] / (1 - mu[:, :, None])).masked_fill(torch.eye(5, dtype=torch.bool), 0).sum(1)
    assert float((reference - (mu + other) / 2).abs().max()) < 0.08
    utility = torch.zeros(3, 5, dtype=torch.float64)
    for path, weight in zip(rewards, (1.0, 0.5), strict=True):
        scores = scores_of(path, world)
        for prompt in range(3):
            for answer in range(5):
                value = float(scores[prompt, answer])
                if transform == "log_sigmoid":
                    upto = [float(reference[prompt][scores[prompt] <= level].sum()) for level in scores[prompt]]
                    level = min(float(s) for s, u in zip(scores[prompt], upto, strict=True) if u >= 0.7)
                    value = -math.log1p(math.exp(level - value))
                utility[prompt, answer] += weight * value
    expected = reference * (utility / 0.3).exp()
    torch.testing.assert_close(found, expected / expected.sum(1, keepdim=True))


def test_far_below_its_reference_the_transform_is_the_reward_itself(rewards, tmp_path):
    """ln sigma(r - r_ref) is r - r_ref there, and a constant is of no account."""
    data = DemonstrationData(Bandit(prompts=3, answers=5))
    scores = torch.linspace(-60, -20, 15, dtype=torch.float64).view(3, 5)
    law = torch.full((3, 5), 0.2, dtype=torch.float64)
    transformed = torch.nn.functional.logsigmoid(scores - 20 - reference_reward(scores, law, 0.99))
    torch.testing.assert_close(transformed.log_softmax(1), scores.log_softmax(1), atol=1e-8, rtol=0)
    with pytest.raises(UserError, match="one for each of 2"):
        OptimalPolicy(data.spec, rewards=[str(path) for path in rewards], weights=[1.0])


@pytest.mark.parametrize("kl", [0.05, 0.8])
def test_a_budget_of_divergence_is_spent(kl, tmp_path):
    parts = trained(planned("preference/optimal_policy", tmp_path, *SMALL, f"model.kl={kl}"))
    found, reference = laws(parts)
    assert float((found * (found / reference).log()).sum(1).mean()) == pytest.approx(kl, rel=1e-6)
    again = Method.load_from_checkpoint(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    world = parts.data.world
    assert torch.equal(again.all_log_probs(world.prompts, world.answers).exp(), found)


def test_what_is_out_of_range_is_said(rewards, tmp_path):
    with pytest.raises(UserError, match="as far from the reference"):
        trained(planned("preference/optimal_policy", tmp_path, *SMALL, "model.kl=50"))
    other = trained(planned("preference/fine_tuning", tmp_path / "other", *SMALL))
    path = Path(other.trainer.default_root_dir) / "checkpoints/last.ckpt"
    with pytest.raises(UserError, match="which scores no answers"):
        trained(planned("preference/optimal_policy", tmp_path / "b", *SMALL, f"model.rewards=['{path}']"))
    spec = DemonstrationData(Bandit()).spec
    for settings in ({"transform": "x"}, {"quantile": 1.0}, {"beta": 0.0}, {"kl": 0.0}, {"smoothing": 0.0}):
        with pytest.raises(UserError):
            OptimalPolicy(spec, **settings)
    with pytest.raises(UserError, match="of one token"):
        OptimalPolicy(spec.but(shape=(3,)))
