"""Looking ahead: Q against all continuations listed in float64, the texts that it writes, the parts that it opens."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from modules.language.generation import write
from modules.method import Method
from modules.networks.transformer import Transformer
from modules.preference.policy import token_log_probs
from modules.preference.transfer_q import LookAhead
from tests.modules.test_contract import planned, trained

V, CONTEXT, END = 4, 5, 0


class Table(nn.Module):
    """A reward of an answer: the sum of what its tokens are worth at their places."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.register_buffer("worth", torch.randn(CONTEXT, V, generator=draw))

    def answer_scores(self, ids, answer):
        place = torch.arange(ids.shape[1])
        return (self.worth[place, ids] * answer).sum(1)


def net(seed):
    torch.manual_seed(seed)
    made = Transformer((CONTEXT,), (V,), width=8, depth=1, heads=1).eval()
    nn.init.normal_(made.token.weight, std=0.5)
    return made


def looking(from_reward=None, **more):
    settings = {"alpha": 0.5, "beta": 0.7, "top_k": V, "rollouts": 0, "temperature": 1.0, "end": END}
    return LookAhead(net(0), net(1), Table(0), from_reward, context=CONTEXT, **{**settings, **more})


def continuations(text):
    """All texts that begin as one does and end, or fill the context, with their probabilities by the second network."""
    if text[-1] == END and len(text) > 1:
        return [(text, 1.0)]
    ahead, found = net(1).double(), []
    for length in range(CONTEXT - len(text) + 1):
        for more in itertools.product(range(V), repeat=length):
            if END in more[:-1] or (len(text) + length < CONTEXT and more[-1:] != (END,)):
                continue
            ids = torch.tensor([[*text, *more]])
            law = ahead(ids)[0].detach().log_softmax(1)
            each = [law[at - 1, ids[0, at]] for at in range(len(text), ids.shape[1])]
            found.append(([*text, *more], float(sum(each, torch.zeros(())).exp())))
    assert sum(p for _, p in found) == pytest.approx(1, abs=1e-9)
    return found


def exact(text, token, start, indirect=False):
    """E r over all continuations, weighed by exp((r - r') / beta) in the indirect case; and the spread of r."""

    def worth(table, ids):
        return float(table.worth.double()[range(start, len(ids)), ids[start:]].sum())

    listed = continuations([*text, token])
    weights = [p * torch.tensor((worth(Table(0), y) - worth(Table(5), y)) / 0.7 * indirect).exp() for y, p in listed]
    rewards = torch.tensor([worth(Table(0), y) for y, _ in listed], dtype=torch.float64)
    share = torch.tensor(weights, dtype=torch.float64)
    share = share / share.sum()
    return float((share * rewards).sum()), float(rewards.max() - rewards.min())


@pytest.mark.parametrize("indirect", [False, True])
def test_q_is_the_mean_over_all_continuations(indirect):
    count = 20_000
    ahead = looking(Table(5) if indirect else None, rollouts=count)
    torch.manual_seed(3)
    texts = torch.tensor([[1, 2, token] for token in range(V)])
    found = ahead.values(texts, torch.full((V,), 1))
    for token in range(V):
        expected, spread = exact([1, 2], token, 1, indirect)
        # The error of a mean of numbers in an interval; weights that differ make it larger.
        assert float(found[token]) == pytest.approx(expected, abs=(5 if indirect else 2.5) * spread / count**0.5 + 1e-5)


def test_the_law_is_the_base_times_the_exponential_of_q_over_the_most_probable_tokens():
    ahead = looking(top_k=3)
    ids, start = torch.tensor([[1, 2, 3], [2, 2, 1]]), torch.tensor([1, 2])
    logits = net(0)(ids)[:, -1].detach()
    law = ahead.law(logits, ids, start).softmax(1)
    base, worth = logits.double().softmax(1), Table(0).worth.double()
    for row in range(2):  # without rollouts: the reward of the unfinished answer
        so_far = sum(worth[at, ids[row, at]] for at in range(int(start[row]), 3))
        weight = base[row] * torch.exp((so_far + worth[3]) / 0.5)
        weight[base[row].argmin()] = 0
        torch.testing.assert_close(law[row].double(), weight / weight.sum(), rtol=1e-4, atol=1e-7)


def test_what_it_writes_is_drawn_from_what_it_says_of_the_text():
    ahead = looking(rollouts=1, temperature=0.0, alpha=2.0)
    torch.manual_seed(4)
    prompts, lengths = torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1])
    written = write(ahead, prompts, lengths, 3, end=END, samples=100)
    again = token_log_probs(ahead, written.ids, written.answer)
    torch.testing.assert_close(written.log_probs[:, 1:], again, rtol=0, atol=2e-5)
    assert float(written.log_probs.min()) < -0.5


def test_it_keeps_its_parts_and_refuses_others(tmp_path):
    small = ("net.width=8", "net.depth=1", "net.heads=1", "data.train=64", "data.validation=8", "data.test=16")
    run = ("data=requests", "net=transformer", "datamodule.batch_size=32", *small)

    def checkpoint(parts):
        return Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt"

    begun = checkpoint(trained(planned("preference/fine_tuning", tmp_path / "a", *run)))
    reward = checkpoint(trained(planned("preference/reward_model", tmp_path / "b", *run)))
    tuned = checkpoint(trained(planned("preference/pairwise", tmp_path / "c", *run, f"model.model={begun}")))
    given = (f"model.model={begun}", f"model.baseline={tuned}", f"model.reward={reward}", *run)
    parts = trained(planned("preference/transfer_q", tmp_path / "d", *given))
    for path in (begun, reward, tuned):
        path.unlink()
    again = Method.load_from_checkpoint(checkpoint(parts))
    ids, answer = parts.data.records("test")[:2]
    with torch.no_grad():
        assert torch.equal(again.answer_log_probs(ids, answer), parts.method.answer_log_probs(ids, answer))
    wrong = (f"model.reward={checkpoint(parts)}", *run)
    with pytest.raises(UserError, match="no RewardModel"):
        trained(planned("preference/transfer_q", tmp_path / "e", *wrong))
    with pytest.raises(UserError, match="always the same"):
        trained(planned("preference/transfer_q", tmp_path / "f", "model.rollouts=2", *run))
    with pytest.raises(UserError, match="above 0"):
        trained(planned("preference/transfer_q", tmp_path / "g", "model.alpha=0", *run))
