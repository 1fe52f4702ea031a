"""Speculative decoding as a policy: the base's law and texts, a base that is itself decoded, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.method import Method
from tests.modules.preference.test_emulated import checkpoint
from tests.modules.test_contract import planned, trained

WORLD = ("data=requests", "data.train=40", "net=small_transformer")


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """A base, a smaller draft, and the base with the change of the draft."""
    at = tmp_path_factory.mktemp("speculative")
    made = {
        name: checkpoint(trained(planned("preference/fine_tuning", at / name, *WORLD, *more)))
        for name, more in {"base": (), "draft": ("net.width=8", "net.depth=1", "net.heads=1")}.items()
    }
    begun = ("datamodule=preferences", f"model.model={made['base']}")
    tuned = checkpoint(trained(planned("preference/pairwise", at / "tuned", *WORLD, *begun)))
    emulated = planned(
        "preference/emulated", at / "emulated", *WORLD, f"model.model={made['base']}", f"model.tuned={tuned}"
    )
    return made | {"emulated": checkpoint(trained(emulated))}


@pytest.mark.parametrize("base", ["base", "emulated"])
def test_it_has_the_law_and_the_most_probable_texts_of_the_base(policies, tmp_path, base):
    given = (f"model.model={policies[base]}", f"model.draft={policies['draft']}", "model.ahead=3")
    parts = trained(planned("preference/speculative", tmp_path, *WORLD, *given))
    method, other = parts.method, Method.load_from_checkpoint(policies[base])
    data = parts.data
    prompts, lengths = data.prompts(torch.arange(12))
    with torch.no_grad():
        own, theirs = (
            each.write_answers(prompts, lengths, data.answer_tokens, end=data.end, temperature=0)
            for each in (method, other)
        )
        for one, expected in zip(own, theirs, strict=True):
            assert torch.equal(one, expected)
        laws = [each.answer_log_probs(own.ids, own.answer) for each in (method, other)]
        again = Method.load_from_checkpoint(checkpoint(parts)).answer_log_probs(own.ids, own.answer)
    torch.testing.assert_close(laws[0], laws[1], rtol=0, atol=1e-6)
    assert torch.equal(again, laws[0])
    assert sum(weight.numel() for weight in method.draft.parameters()) < 2000


def test_nothing_ahead_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"model\.ahead=0: at least one token"):
        trained(planned("preference/speculative", tmp_path, *WORLD, "model.ahead=0"))
