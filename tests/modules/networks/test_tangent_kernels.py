"""Kernels against wide random networks, closed forms and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from modules.networks.tangent_kernels import rbf, relu_ntk, wide_network, wide_weights


def test_one_hidden_layer_by_hand():
    """<x, y> = 0, |x|^2 = |y|^2 = 2 = D, no bias: S = 0 on a diagonal of 1; S' = 1 / (2 pi), and T = 0 adds nothing."""
    x, y = math.sqrt(2) * torch.eye(2, dtype=torch.float64)[:, None]
    assert relu_ntk(x, y, depth=1, bias=0.0).item() == pytest.approx(1 / (2 * math.pi), rel=1e-12)
    # At the point itself: S' = 1 / 2, T' = 1 / 2 + 1 * 1 / 2; each further layer halves S and adds it to half of T.
    assert relu_ntk(x, x, depth=1, bias=0.0).item() == pytest.approx(1, rel=1e-6)
    assert relu_ntk(x, x, depth=2, bias=0.0).item() == pytest.approx(1 / 4 + 1 / 2, rel=1e-6)
    # With biases of standard deviation 2: S = T = 5, then 5/2 + 4 and 13/2 + 5/2 = 9, last without: 13/4 + 9/2.
    assert relu_ntk(x, x, depth=2, bias=2.0).item() == pytest.approx(13 / 4 + 9 / 2, rel=1e-6)


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_the_mean_over_wide_random_networks(bias):
    """<grad f(x), grad f(y)> of networks of width 512, each off by about 1 / sqrt(512), mean of 40."""
    torch.manual_seed(0)
    x = torch.randn(6, 3, dtype=torch.float64)
    total = torch.zeros(6, 6, dtype=torch.float64)
    for _ in range(40):
        weights = wide_weights(3, 512, 2, like=x)
        parts = [part.requires_grad_() for layer in weights for part in layer]
        rows = [
            torch.cat(
                [
                    gradient.flatten()
                    for gradient in torch.autograd.grad(score, parts, retain_graph=True, allow_unused=True)
                    if gradient is not None
                ]
            )
            for score in wide_network(x, weights, bias)
        ]
        jacobian = torch.stack(rows)
        total += jacobian @ jacobian.T / 40
    want = relu_ntk(x, x, depth=2, bias=bias)
    assert (total - want).abs().max() < 0.04 * want.max()
    torch.testing.assert_close(want, want.T)
    assert torch.linalg.eigvalsh(want).min() > 0


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    x, y = torch.randn(4, 2, dtype=torch.float64, requires_grad=True), torch.randn(5, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: relu_ntk(x, y, 3, 1.0), x)
    assert torch.autograd.gradcheck(lambda x: rbf(x, y), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_equal_points_and_at_the_origin_gradients_are_finite(dtype):
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1e4, -1e4]], dtype=dtype, requires_grad=True)
    for bias in (0.0, 1.0):
        kernel = relu_ntk(x, x.detach(), bias=bias)
        assert kernel.isfinite().all()
        assert torch.autograd.grad(kernel.sum(), x)[0].isfinite().all()


def test_without_biases_the_relu_kernel_is_homogeneous():
    x, y = torch.randn(3, 2).double(), torch.randn(4, 2).double()
    torch.testing.assert_close(relu_ntk(3 * x, y, bias=0.0), 3 * relu_ntk(x, y, bias=0.0))


def test_the_gaussian_kernel_by_hand():
    assert rbf(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])).item() == pytest.approx(math.exp(-1))
