"""Exact laws: the tilt against its variational property, best of n against simulation and known bounds."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from modules.preference.optimum import best_of, divergence, tilted


def world(prompts=3, answers=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    reference = torch.randn(prompts, answers, generator=draw, dtype=torch.float64).log_softmax(1)
    return reference, torch.randn(prompts, answers, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.05, 0.7, 20.0])
def test_the_tilt_is_the_best_of_all_policies(beta):
    """E s - beta KL is beta ln Z there, and beta KL(pi | pi*) less for any other policy."""
    reference, scores = world()
    law = tilted(reference, scores, beta)
    value = lambda law: (law.exp() * scores).sum(1) - beta * divergence(law, reference)  # noqa: E731
    log_z = (reference.exp() * (scores / beta).exp()).sum(1).log()
    torch.testing.assert_close(value(law), beta * log_z)
    other = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log_softmax(1)
    torch.testing.assert_close(value(law) - value(other), beta * divergence(other, law))


def test_it_holds_in_the_extremes():
    reference, scores = world()
    reference[:, 0] = -math.inf
    greedy = tilted(reference, 1e6 * scores, 1.0)
    best = scores[:, 1:].argmax(1) + 1
    assert bool((greedy.gather(1, best[:, None]) == 0).all())
    torch.testing.assert_close(divergence(greedy, reference), -reference.log_softmax(1).gather(1, best[:, None])[:, 0])
    for law in (greedy, best_of(reference, scores, 3)):
        assert bool((law[:, 0] == -math.inf).all())
        assert bool(divergence(law, reference).isfinite().all())
    rare = best_of(torch.tensor([[0.0, math.log(1e-30)]], dtype=torch.float64), torch.tensor([[1.0, 0.0]]), 5)
    assert float(rare[0, 0]) == pytest.approx(0)
    assert float(rare[0, 1].exp()) == pytest.approx(0, abs=1e-100)  # the worst of five draws, each time
    rare = best_of(torch.tensor([[0.0, math.log(1e-30)]], dtype=torch.float64), torch.tensor([[0.0, 1.0]]), 5)
    assert float(rare[0, 1].exp() / 5e-30) == pytest.approx(1)


def test_one_draw_is_the_reference_and_two_are_pairs():
    reference, scores = world()
    torch.testing.assert_close(best_of(reference, scores, 1), reference)
    pi = reference.exp()
    higher = (scores[:, :, None] > scores[:, None]).double()
    # a is the better of two: both are a, or the one is a and the other one lower.
    torch.testing.assert_close(best_of(reference, scores, 2).exp(), pi**2 + 2 * pi * (higher * pi[:, None]).sum(2))


def test_it_is_the_law_of_the_best_of_n_draws_ties_broken_at_random():
    reference, scores = world(prompts=2, answers=6)
    scores = (scores * 1.5).round()  # with ties
    assert any(len(row.unique()) < 6 for row in scores)
    n, draws = 3, 200_000
    torch.manual_seed(0)
    law = best_of(reference, scores, n).exp()
    for prompt in range(2):
        drawn = reference[prompt].exp().multinomial(draws * n, replacement=True).view(draws, n)
        first = drawn.gather(1, scores[prompt][drawn].argmax(1, keepdim=True))[:, 0]
        counts = torch.bincount(first, minlength=6)
        expected = law[prompt] * draws
        assert bool(((counts - expected).abs() <= 4.5 * (expected * (1 - law[prompt])).sqrt() + 1e-9).all())


@pytest.mark.parametrize("n", [2, 4, 16])
def test_its_divergence_is_below_the_known_bound_and_near_it_where_no_answer_is_likely(n):
    """KL <= ln n - (n - 1) / n (Beirami et al. 2024), with equality for a law without atoms."""
    bound = math.log(n) - (n - 1) / n
    reference, scores = world(answers=8)
    assert bool((divergence(best_of(reference, scores, n), reference) <= bound + 1e-12).all())
    even = torch.zeros(1, 4000, dtype=torch.float64).log_softmax(1)
    many = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(divergence(best_of(even, many, n), even)) == pytest.approx(bound, abs=n / 4000)


def test_values_out_of_range_are_refused():
    reference, scores = world()
    with pytest.raises(UserError, match="above 0"):
        tilted(reference, scores, 0.0)
    with pytest.raises(UserError, match="at least one"):
        best_of(reference, scores, 0)
