"""Policy gradients beside the slope through the chain: two estimates of one gradient."""

from __future__ import annotations

import torch

from datamodules.batches import Unlabelled
from modules.generative.ddpo import ancestral
from tests.modules.generative.exact import Known, configured
from tests.modules.generative.test_align_prop import gradient_of, method


def test_a_step_is_that_of_ddpm():
    known = Known(configured("path", "vp"))
    s, t = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    x = torch.randn(3, 2, dtype=torch.float64)
    torch.manual_seed(0)
    expected = configured("sampler", "ddpm").step(known.field(), x, s, t, {})
    torch.manual_seed(0)
    mean, std = ancestral(known.field(), x, s, t)
    torch.testing.assert_close(mean + std * torch.randn_like(mean), expected)


def test_it_estimates_the_gradient_of_the_expected_reward():
    """Times the deviation of the rewards, it agrees with the gradient through the same chain, to its own scatter."""
    sampler = {"_target_": "modules.generative.samplers.ddpm.DDPM", "variance": "posterior", "denoise": False}
    through, policy = method(truncation=99, sampler=sampler), method("ddpo", sampler=sampler)
    for one, other in zip(through.parameters(), policy.parameters(), strict=True):
        assert torch.equal(one, other)
    batch = Unlabelled(torch.zeros(20_000, 2))
    exact = gradient_of(through, 1, batch)
    with torch.no_grad():
        scale = through.reward(through.rollout(20_000)).std()
    found = torch.stack([scale * gradient_of(policy, seed, batch) for seed in range(4)])
    scatter = found.std(0).mean()
    assert (found.mean(0) - exact).abs().mean() < 2 * scatter
    assert torch.nn.functional.cosine_similarity(found.mean(0), exact, dim=0) > 0.97
