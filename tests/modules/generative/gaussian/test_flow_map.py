"""Stretching by a flow, which is known for a Gaussian."""

from __future__ import annotations

import torch

from modules.generative.gaussian.flow_map import singular_values
from tests.modules.generative.exact import configured
from tests.modules.generative.samplers.checkpoints import fitted

STDS = torch.tensor([2.0, 0.7, 1e-3], dtype=torch.float64)


def records():
    x = torch.randn(2000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x)).mT) * STDS  # covariance diag(STDS^2), exactly
    return x @ torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q.T


def test_singular_values_are_those_of_the_gaussians_flow(tmp_path):
    """Along an axis of standard deviation s, sqrt((alpha_t^2 s^2 + sigma_t^2) / (alpha_1^2 s^2 + sigma_1^2))."""
    model, _ = fitted(records().float(), tmp_path)
    times = configured("timesteps", "log_snr", steps=600).times(model.path)
    found = singular_values(model.field(), torch.randn(4, 3, dtype=torch.float64), times)
    for i in (300, 450, 560):
        t = times[i + 1]
        size = [
            (model.path.alpha(at).square() * STDS.square() + model.path.sigma(at).square()).sqrt()
            for at in (t, times[0])
        ]
        expected = (size[0] / size[1]).sort(descending=True).values
        torch.testing.assert_close(found[i], expected.expand(4, 3), rtol=0.02, atol=1e-4)


def test_a_model_counts_the_axes_that_the_data_extend_along(tmp_path):
    from callbacks.evaluation.local_dimension import LocalDimension

    model, _ = fitted(records().float(), tmp_path)
    evaluation = LocalDimension(truth=2)
    values = model.stretching(5, torch.logspace(1.7, -1.4, 120, dtype=torch.float64))
    ratios = torch.logspace(1.7, -1.4, 120, dtype=torch.float64)
    high, low = (int((ratios - ratio).abs().argmin()) for ratio in (0.2, 0.04))
    assert evaluation.figures_of(values[high], values[low]) == {"local_dimension": 2.0, "dimension_error": 0.0}
