"""How often answers are preferred."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def length_controlled(win: Tensor, difference: Tensor) -> float:
    """The win rate that there would be if both answers were of one length (Dubois et al. 2024, AlpacaEval 2).

        win ~ sigma(a + b tanh(d / std(d))) by likelihood, and the rate is sigma(a)

    Deviation: the term of how difficult a prompt is, which needs many models' answers, is left out.

    Args:
        win: probability of a win (n,), in [0, 1].
        difference: tokens of the answer minus those of the other one (n,).

    Returns:
        In [0, 1]; the mean of `win` where all differences are 0, NaN of nothing.
    """
    win, difference = win.double().cpu(), difference.double().cpu()
    if not len(win):
        return math.nan
    spread = float(difference.std(correction=0))
    if not spread:
        return float(win.mean())
    from sklearn.linear_model import LogisticRegression

    features = torch.tanh(difference / spread)[:, None].repeat(2, 1).numpy()
    label = torch.cat([torch.ones(len(win)), torch.zeros(len(win))]).numpy()
    weight = torch.cat([win, 1 - win]).numpy()
    if weight[: len(win)].sum() == 0 or weight[len(win) :].sum() == 0:
        return float(win.mean())
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(features, label, weight)
    return float(torch.sigmoid(torch.tensor(float(fitted.intercept_[0]), dtype=torch.float64)))


def distinct(texts: Tensor, own: Tensor, n: int = 2) -> float:
    """Different n-grams of all texts over their number (Li et al. 2016); NaN where there is none.

    Args:
        texts: ids int64 (N, T).
        own: which tokens count, bool (N, T); those of a text lie side by side.
        n: length of the n-grams.
    """
    if texts.shape[1] < n:
        return math.nan
    whole = own.unfold(1, n, 1).all(2)
    grams = texts.unfold(1, n, 1)[whole]
    return len(grams.unique(dim=0)) / len(grams) if len(grams) else math.nan
