"""G-ACIL against joint ridge regression."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge

from compendium.errors import UserError
from datamodules.batches import TaskBatch
from datamodules.spec import DataSpec
from modules.continual.g_acil import GACIL, UNSEEN

SPEC = DataSpec(name="points", kind="vector", shape=(20,), target="class", classes=tuple("abcdef"))


def stream(seed=0, records=300):
    """Records of six classes whose order mixes old and new ones, in batches of uneven size."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 6, (records,), generator=draw).sort().values
    y = y[(torch.arange(records) + 60 * torch.randn(records, generator=draw)).argsort()]  # blurry borders of tasks
    x = torch.randn(records, 20, generator=draw) + torch.randn(6, 20, generator=draw)[y]
    return [
        TaskBatch(a, b, b) for a, b in zip(x.split([37, 1, 100, 2, 160]), y.split([37, 1, 100, 2, 160]), strict=True)
    ]


@pytest.mark.parametrize("ridge", [1e-2, 1.0, 100.0])
def test_weights_equal_joint_training(ridge):
    method = GACIL(SPEC, features=150, ridge=ridge)
    for batch in stream():
        method.accumulate(batch)
    x, y = torch.cat([b.x for b in stream()]), torch.cat([b.y for b in stream()])
    features = method.embed(x).double().numpy()
    targets = torch.nn.functional.one_hot(y, 6).double().numpy()
    joint = Ridge(alpha=ridge, fit_intercept=False, solver="cholesky").fit(features, targets).coef_.T
    torch.testing.assert_close(method.W, torch.from_numpy(joint), atol=1e-6, rtol=0)


def test_weights_do_not_depend_on_the_order_or_the_batches():
    one, other = GACIL(SPEC, features=80), GACIL(SPEC, features=80)
    for batch in stream():
        one.accumulate(batch)
    x, y = torch.cat([b.x for b in stream()]).flip(0), torch.cat([b.y for b in stream()]).flip(0)
    other.accumulate(TaskBatch(x, y, y))
    torch.testing.assert_close(one.W, other.W, atol=1e-8, rtol=0)
    torch.testing.assert_close(one.R, other.R, atol=1e-8, rtol=0)


def test_classes_that_were_not_seen_have_no_weight_and_no_probability():
    method = GACIL(SPEC, features=40)
    x = torch.randn(10, 20)
    method.accumulate(TaskBatch(x, torch.tensor([1, 3] * 5), torch.zeros(10).long()))
    unseen = [0, 2, 4, 5]
    assert method.W[:, unseen].abs().max() == 0
    assert method.W[:, [1, 3]].abs().max() > 0
    log_proba = method.predict_log_proba(x)
    torch.testing.assert_close(log_proba[:, unseen].exp(), torch.full((10, 4), UNSEEN).double())
    torch.testing.assert_close(log_proba[:, [1, 3]].exp().sum(1), torch.ones(10).double())


def test_an_empty_share_of_a_batch_changes_nothing():
    method = GACIL(SPEC, features=40)
    method.accumulate(stream()[0])
    before = method.W.clone(), method.R.clone()
    method.accumulate(TaskBatch(torch.empty(0, 20), torch.empty(0).long(), torch.empty(0).long()))
    torch.testing.assert_close((method.W, method.R), before)


def test_needs_a_ridge_and_classes():
    with pytest.raises(UserError, match=r"model\.ridge=0"):
        GACIL(SPEC, ridge=0)
    with pytest.raises(UserError, match="a class as its target"):
        GACIL(SPEC.but(target="real", classes=()))
