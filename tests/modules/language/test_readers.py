"""Tokens that a draft proposes: the law and the most probable tokens stay the network's, in fewer passes of it."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chi2
from torch import nn

from compendium.errors import UserError
from modules.language.combined import LogLinear
from modules.language.decoding import Decoding
from modules.language.generation import write
from modules.networks.hugging_face import CausalLM
from modules.networks.transformer import Transformer
from modules.preference.policy import token_log_probs

PROMPTS, LENGTHS = torch.tensor([[1, 2, 3, 2], [3, 0, 0, 0], [2, 2, 0, 0]]), torch.tensor([4, 1, 2])


class Counting(Transformer):
    """Counts its passes over all texts."""

    passes = 0

    def advance(self, ids, cache, keep=None):
        self.passes += 1
        return super().advance(ids, cache, keep)


def net(seed, vocabulary=4, depth=2):
    torch.manual_seed(seed)
    made = Counting((24,), (vocabulary,), width=16, depth=depth, heads=2).eval()
    nn.init.normal_(made.token.weight, std=0.12)
    return made


def hugging_face(seed):
    torch.manual_seed(seed)
    made = CausalLM((24,), (4,), family="llama", width=16, depth=1, heads=2)
    for weight in made.parameters():
        if weight.dim() == 2:
            nn.init.normal_(weight, std=0.3)
    return made


def product(seed):
    return LogLinear([net(seed), net(seed + 5, depth=1)], [1.0, 0.5]).eval()


@torch.no_grad()
def exact(target, prompt, decoding):
    """Probabilities of all texts of three tokens after a prompt, by the whole network, token by token (64,)."""
    texts = torch.cartesian_prod(*[torch.arange(4)] * 3)
    ids = torch.cat([prompt.expand(len(texts), -1), texts], 1)
    laws = [decoding.law(target(ids[:, :place])[:, -1]) for place in range(prompt.shape[1], ids.shape[1])]
    return torch.stack(laws, 1).gather(2, texts[..., None]).sum((1, 2)).double().exp()


@pytest.mark.parametrize(
    ("decoding", "ahead"), [(Decoding(), 1), (Decoding(), 5), (Decoding(temperature=1.3, top_k=3), 2)]
)
def test_texts_follow_the_law_of_the_network_whatever_is_proposed(ahead, decoding):
    """Chi-square of all texts of three tokens, of batches in which eight texts hold each other up."""
    target, draft, count, prompt = net(0), net(1, depth=1), 2400, torch.tensor([[1, 2]])
    torch.manual_seed(3)
    said = [
        write(target, prompt, torch.tensor([2]), 3, samples=8, decoding=decoding, draft=draft, ahead=ahead).ids[:, 2:]
        for _ in range(count // 8)
    ]
    counts = (torch.cat(said) * torch.tensor([16, 4, 1])).sum(1).bincount(minlength=64)
    expected = count * exact(target, prompt, decoding)
    assert not counts[expected == 0].any()
    rare = expected < 5  # together one cell
    cells = [torch.cat([table[~rare].double(), table[rare].sum().double()[None]]) for table in (counts, expected)]
    chi_square = float(
        ((cells[0] - cells[1]).square() / cells[1].clamp(min=1e-12)).sum()
    )  # nothing impossible was said
    assert chi_square < chi2.ppf(0.999, len(cells[0]) - 1)


@pytest.mark.parametrize("make", [net, hugging_face, product])
@pytest.mark.parametrize("end", [None, 0])
def test_the_most_probable_texts_are_those_without_a_draft(make, end):
    target, greedy = make(0), Decoding(temperature=0)
    expected = write(target, PROMPTS, LENGTHS, 12, end=end, samples=2, decoding=greedy)
    for draft in (make(2), target):
        found = write(target, PROMPTS, LENGTHS, 12, end=end, samples=2, decoding=greedy, draft=draft, ahead=3)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


def test_what_it_says_of_its_tokens_is_what_the_network_says_of_the_text():
    target = net(0)
    torch.manual_seed(1)
    written = write(target, PROMPTS, LENGTHS, 9, end=0, samples=30, draft=net(1))
    again = token_log_probs(target, written.ids, written.answer)
    torch.testing.assert_close(written.log_probs[:, 1:], again.detach(), rtol=0, atol=2e-5)
    assert 0.2 < written.ended.float().mean() < 1


def test_a_draft_that_is_right_saves_passes_and_one_that_is_wrong_costs_none_of_the_tokens():
    """Each pass of the network gives all proposed tokens and one more."""
    target, prompt = net(0), torch.tensor([[1, 2]])
    for draft, most in ((net(0), 4), (net(1), 20)):
        target.passes = 0
        torch.manual_seed(0)
        write(target, prompt, torch.tensor([2]), 20, samples=3, draft=draft, ahead=4)
        assert target.passes - 1 <= most  # one pass reads the prompt


def test_what_cannot_be_proposed_is_refused():
    class Whole(nn.Module):
        def forward(self, ids):
            return torch.zeros(*ids.shape, 4)

    with pytest.raises(UserError, match="Whole cannot go on"):
        write(net(0), PROMPTS, LENGTHS, 3, draft=Whole())
    with pytest.raises(UserError, match="at least one token"):
        write(net(0), PROMPTS, LENGTHS, 3, draft=net(1), ahead=0)
