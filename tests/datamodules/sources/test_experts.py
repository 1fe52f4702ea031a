"""What the expert knows, by regressions on what is known of the records."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.experts import Experts


def residuals(**arguments):
    """(u_1, y, opinion) after everything that the features tell is taken out, by a rich regression."""
    records = Experts(train=20_000, **arguments).load()
    x, y = (records.columns[name][records.splits["train"]].double().numpy() for name in ("x", "y"))
    u, h = x[:, :-1], x[:, -1]
    basis = np.concatenate([np.ones((len(u), 1)), u, np.sin(2 * u[:, :1])], 1)
    return u[:, 0], *(t - basis @ np.linalg.lstsq(basis, t, rcond=None)[0] for t in (y, h))


def test_the_expert_knows_what_is_hidden_where_it_matters():
    first, y, h = residuals()
    on, off = first > 0, first <= 0
    assert np.cov(y[on], h[on])[0, 1] == pytest.approx(1.0, abs=0.05)
    assert np.cov(y[off], h[off])[0, 1] == pytest.approx(0.0, abs=0.03)
    assert (y[on].var(), y[off].var()) == pytest.approx((1.25, 0.25), abs=0.05)


def test_an_expert_who_knows_nothing_is_independent():
    _, y, h = residuals(knows=0.0)
    assert np.corrcoef(y, h)[0, 1] == pytest.approx(0.0, abs=4 / 20_000**0.5)


def test_mistakes_are_named():
    for arguments in ({"features": 1}, {"noise": -1.0}, {"test": 0}):
        with pytest.raises(UserError, match=rf"data\.{next(iter(arguments))}"):
            Experts(**arguments)
    assert torch.equal(Experts(seed=3).load().columns["x"], Experts(seed=3).load().columns["x"])
