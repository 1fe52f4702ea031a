"""Emulated fine-tuning: the product law by hand, the policies that it becomes, what it opens and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compendium.errors import UserError
from modules.method import Method
from tests.modules.test_contract import planned, trained


def checkpoint(parts) -> Path:
    return Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Two bases and what two objectives made of the first."""
    at, rate = tmp_path_factory.mktemp("policies"), "optimizer.lr=0.5"
    found = {"small": checkpoint(trained(planned("preference/fine_tuning", at / "a", rate)))}
    found["large"] = checkpoint(trained(planned("preference/fine_tuning", at / "b", "optimizer.lr=1.5")))
    begun = f"model.model={found['small']}"
    found["tuned"] = checkpoint(trained(planned("preference/pairwise", at / "c", rate, begun)))
    found["other"] = checkpoint(trained(planned("preference/pairwise", at / "d", rate, begun, "objective=ipo")))
    return found


def emulated(at, policies, base="large", **more):
    given = {"model": policies[base], "tuned": policies["tuned"], **more}
    return trained(planned("preference/emulated", at, *(f"model.{name}={value}" for name, value in given.items())))


def laws(parts, method=None):
    world = parts.data.world
    with torch.no_grad():
        return (method or parts.method).all_log_probs(world.prompts, world.answers)


def law(parts, path):
    return laws(parts, Method.load_from_checkpoint(path))


def product(base, *changes):
    """Normalised by a sum of probabilities, in float64."""
    weight = base.double().exp()
    for share, tuned, before in changes:
        weight = weight * (tuned.double().exp() / before.double().exp()) ** share
    return weight / weight.sum(1, keepdim=True)


def test_it_is_the_base_times_the_ratio_normalised(policies, tmp_path):
    parts = emulated(tmp_path, policies, weight=0.8)
    base, tuned, before = (law(parts, policies[name]) for name in ("large", "tuned", "small"))
    torch.testing.assert_close(laws(parts).double().exp(), product(base, (0.8, tuned, before)), rtol=1e-4, atol=1e-7)
    assert float((laws(parts) - base).abs().max()) > 0.05
    world = parts.data.world
    with torch.no_grad():
        assert torch.equal(parts.method.all_reference_log_probs(world.prompts, world.answers), base)


def test_two_behaviours_are_mixed(policies, tmp_path):
    parts = emulated(tmp_path, policies, other=policies["other"], mix=0.3, weight=2)
    base, tuned, other, before = (law(parts, policies[name]) for name in ("large", "tuned", "other", "small"))
    expected = product(base, (0.6, tuned, before), (1.4, other, before))
    torch.testing.assert_close(laws(parts).double().exp(), expected, rtol=1e-4, atol=1e-7)


def test_at_one_scale_it_is_the_tuned_policy_and_without_weight_the_base(policies, tmp_path):
    same = emulated(tmp_path / "a", policies, base="small")
    torch.testing.assert_close(laws(same), law(same, policies["tuned"]), rtol=0, atol=1e-5)
    none = emulated(tmp_path / "b", policies, weight=0)
    torch.testing.assert_close(laws(none), law(none, policies["large"]), rtol=0, atol=1e-5)


def test_a_reference_that_is_given_is_taken_and_its_checkpoint_needs_no_other_file(policies, tmp_path):
    copies = {}
    for name, path in policies.items():
        copies[name] = tmp_path / f"{name}.ckpt"
        copies[name].write_bytes(path.read_bytes())
    parts = emulated(tmp_path, copies, reference=copies["large"])
    base, tuned = (law(parts, copies[name]) for name in ("large", "tuned"))
    torch.testing.assert_close(laws(parts), tuned, rtol=0, atol=1e-5)  # pi_base = pi_ref
    assert not torch.equal(base, tuned)
    for path in copies.values():
        path.unlink()
    again = Method.load_from_checkpoint(checkpoint(parts))
    assert torch.equal(laws(parts, again), laws(parts))
    assert not any(weight.requires_grad for weight in again.parameters())
    assert int(again.seen) == 32


def test_it_refuses_what_it_cannot_combine(policies, tmp_path):
    with pytest.raises(UserError, match="mixes nothing"):
        emulated(tmp_path / "a", policies, mix=0.5)
    with pytest.raises(UserError, match="keeps no network of what it began as"):
        emulated(tmp_path / "b", policies, tuned=policies["large"])
    wider = checkpoint(trained(planned("preference/fine_tuning", tmp_path / "c", "data.answers=5", "data.prompts=5")))
    with pytest.raises(UserError, match="knows 5 tokens, these records have 16"):
        emulated(tmp_path / "d", {**policies, "large": wider})
    other = trained(planned("supervised/classifier", tmp_path / "e", "data=wine", "net=mlp"))
    with pytest.raises(UserError, match="is a SoftmaxClassifier, no Policy"):
        emulated(tmp_path / "f", {**policies, "large": checkpoint(other)})
