"""Joint ridge regression against scikit-learn, and against the recursion."""

from __future__ import annotations

import torch
from sklearn.linear_model import Ridge

from datamodules.batches import Labelled, TaskBatch
from datamodules.spec import DataSpec
from modules.continual.g_acil import GACIL
from modules.continual.joint_ridge import JointRidge

SPEC = DataSpec(name="points", kind="vector", shape=(12,), target="class", classes=tuple("abcd"))


def test_weights_equal_scikit_learns_and_those_of_the_recursion():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 12, generator=draw), torch.randint(0, 4, (200,), generator=draw)
    joint, recursive = JointRidge(SPEC, features=60, ridge=0.3), GACIL(SPEC, features=60, ridge=0.3)
    for a, b in zip(x.split(64), y.split(64), strict=True):
        joint.accumulate(Labelled(a, b))
        recursive.accumulate(TaskBatch(a, b, b))
    joint.solve()

    features = joint.embed(x).double().numpy()
    targets = torch.nn.functional.one_hot(y, 4).double().numpy()
    expected = Ridge(alpha=0.3, fit_intercept=False, solver="svd").fit(features, targets).coef_.T
    torch.testing.assert_close(joint.W, torch.from_numpy(expected), atol=1e-9, rtol=0)
    torch.testing.assert_close(joint.W, recursive.W, atol=1e-9, rtol=0)
    torch.testing.assert_close(joint.predict_log_proba(x), recursive.predict_log_proba(x), atol=1e-9, rtol=0)
