"""Writing: by the network's own law, prompt by prompt, to the end and no further."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modules.language.decoding import Decoding
from modules.language.generation import write
from modules.networks.bigram import Bigram
from modules.networks.transformer import Transformer
from modules.preference.policy import token_log_probs


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = Transformer((16,), (7,), width=16, depth=2, heads=2).eval()
    nn.init.normal_(made.token.weight, std=0.2)
    return made


PROMPTS = torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0], [6, 6, 0, 0]])
LENGTHS = torch.tensor([4, 1, 2])


def test_the_most_probable_tokens_are_those_of_reading_all_again(net):
    written = write(net, PROMPTS, LENGTHS, 5, decoding=Decoding(temperature=0))
    for row, length in enumerate(LENGTHS.tolist()):
        ids = PROMPTS[row : row + 1, :length]
        for _ in range(5):
            ids = torch.cat([ids, net(ids)[:, -1].argmax(1, keepdim=True)], 1)
        assert torch.equal(written.ids[row, : length + 5], ids[0])
        assert written.answer[row].nonzero()[:, 0].tolist() == list(range(length, length + 5))


def test_what_it_says_of_its_tokens_is_what_the_network_says_of_the_text(net):
    torch.manual_seed(1)
    written = write(net, PROMPTS, LENGTHS, 6, end=0, samples=50)
    assert written.ids.shape == (150, 10)
    assert torch.equal(written.ids[:50, :4], PROMPTS[:1].expand(50, 4))
    again = token_log_probs(net, written.ids, written.answer)
    torch.testing.assert_close(written.log_probs[:, 1:], again.detach(), rtol=0, atol=1e-5)
    assert (written.log_probs[:, 0] == 0).all()


def test_answers_stop_at_their_end_which_is_part_of_them(net):
    torch.manual_seed(1)
    written = write(net, PROMPTS, LENGTHS, 6, end=0, samples=200)
    assert 0.2 < written.ended.float().mean() < 0.95
    for ids, answer, ended, length in zip(
        written.ids.tolist(), written.answer.tolist(), written.ended.tolist(),
        LENGTHS.repeat_interleave(200).tolist(), strict=True,
    ):  # fmt: skip
        own = ids[length : length + 6]
        count = own.index(0) + 1 if ended else 6
        assert (0 in own[:count]) == ended
        assert answer == [length <= place < length + count for place in range(10)]
        assert not any(ids[length + count :])


def test_first_tokens_follow_the_law_of_the_network(net):
    torch.manual_seed(2)
    law = net(PROMPTS)[0, -1].detach().softmax(0)
    drawn = write(net, PROMPTS[:1], LENGTHS[:1], 1, samples=20_000).ids[:, 4]
    counts = drawn.bincount(minlength=7)
    chi_square = float(((counts - 20_000 * law).square() / (20_000 * law)).sum())
    assert chi_square < 22.5  # 99.9% of chi-square with 6 degrees of freedom


def test_a_table_needs_no_cache_and_one_prompt_no_others():
    table = Bigram((2,), (3,))
    with torch.no_grad():
        table.table.weight.copy_(torch.tensor([[0, 40.0, 0], [0, 0, 40.0], [40.0, 0, 0]]))
    written = write(table, torch.tensor([[1]]), torch.tensor([1]), 4)
    assert written.ids.tolist() == [[1, 2, 0, 1, 2]]
