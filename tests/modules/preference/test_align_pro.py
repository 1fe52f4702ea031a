"""Prompters: the optimum in closed form, sampled gradients against the exact one, and the policy of both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Demonstrations
from datamodules.presentations.preferences import DemonstrationData
from datamodules.sources.bandit import Bandit
from modules.method import Method
from modules.preference.align_pro import AlignPro
from tests.modules.test_contract import planned, trained

SMALL = ("data.prompts=4", "data.answers=6")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return trained(planned(
        "preference/align_pro", tmp_path_factory.mktemp("align"), *SMALL, "model.price=0.3", "model.keep=0.7",
        "trainer.max_epochs=40", "trainer.limit_train_batches=4", "datamodule.batch_size=400", "optimizer.lr=0.3",
    ))  # fmt: skip


def test_it_ends_at_the_optimum_in_closed_form(parts):
    world, method = parts.data.world, parts.method
    reward = torch.zeros(4, 4, dtype=torch.float64)
    for x in range(4):
        for other in range(4):
            reward[x, other] = sum(world.behaviour[other, y] * world.reward[x, y] for y in range(6))
    sft = torch.full((4, 4), 0.1, dtype=torch.float64) + 0.6 * torch.eye(4, dtype=torch.float64)
    best = sft * (reward / 0.3).exp()
    best = best / best.sum(1, keepdim=True)
    with torch.no_grad():
        rho, began = (law.exp().double() for law in method.rewriting_log_probs(world.prompts))
        torch.testing.assert_close(began, sft, atol=1e-6, rtol=0)
        torch.testing.assert_close(rho, best, atol=6e-3, rtol=0)
        together = method.all_log_probs(world.prompts, world.answers).exp().double()
        torch.testing.assert_close(together, rho @ world.behaviour, atol=1e-6, rtol=0)
        before = method.all_reference_log_probs(world.prompts, world.answers).exp().double()
        torch.testing.assert_close(before, sft @ world.behaviour, atol=1e-6, rtol=0)


def test_the_sampled_gradient_is_the_exact_one_on_average(parts):
    method = parts.method
    prompts = torch.arange(4).repeat_interleave(40_000)
    batch = Demonstrations(torch.stack([prompts, prompts], 1), torch.tensor([False, True]).expand(len(prompts), 2))
    torch.manual_seed(0)
    with torch.no_grad():
        kept = method.net.table.weight.clone()
        method.net.table.weight.copy_(0.5 * torch.randn_like(kept))
    gradients = {}
    for gradient in ("exact", "sampled"):
        method.gradient = gradient
        method.zero_grad()
        sum(method.loss(batch).values()).backward()
        gradients[gradient] = method.net.table.weight.grad[:4, :4].clone()
    with torch.no_grad():
        method.net.table.weight.copy_(kept)
    method.gradient = "exact"
    # 160,000 samples to each prompt; a component's standard deviation is below 1, and a prompt's share a quarter.
    assert float((gradients["exact"] - gradients["sampled"]).abs().max()) < 4 * 0.25 / 400 * 1.5
    assert float(gradients["exact"].abs().max()) > 0.02


def test_its_target_is_a_checkpoint_that_it_does_not_need_later(tmp_path):
    tuned = trained(planned("preference/fine_tuning", tmp_path / "tuned", *SMALL, "optimizer.lr=0.5"))
    path = Path(tuned.trainer.default_root_dir) / "checkpoints/last.ckpt"
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(path.read_bytes())
    parts = trained(planned("preference/align_pro", tmp_path, *SMALL, f"model.target={copy}", "model.keep=1"))
    copy.unlink()
    again = Method.load_from_checkpoint(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    world = parts.data.world
    with torch.no_grad():
        expected = tuned.method.all_log_probs(world.prompts, world.answers)
        # With keep=1 nothing is rewritten, and what is said is what the target says.
        torch.testing.assert_close(again.all_log_probs(world.prompts, world.answers), expected.log_softmax(1))
        assert torch.equal(again.rewriting_log_probs(world.prompts)[0].exp(), torch.eye(4))
    rewards = trained(planned("preference/reward_model", tmp_path / "r", *SMALL))
    path = f"{rewards.trainer.default_root_dir}/checkpoints/last.ckpt"
    with pytest.raises(UserError, match="answers nothing"):
        trained(planned("preference/align_pro", tmp_path / "b", *SMALL, f"model.target={path}"))


def test_values_out_of_range_are_refused():
    spec = DemonstrationData(Bandit()).spec
    for settings in ({"price": 0.0}, {"keep": 0.0}, {"keep": 1.1}, {"samples": 1}, {"gradient": "other"}):
        with pytest.raises(UserError, match="model"):
            AlignPro(spec, **settings)
    with pytest.raises(UserError, match="one token"):
        AlignPro(spec.but(shape=(3,)))
