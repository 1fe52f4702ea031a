"""Neural tangent kernels of infinitely wide networks, and the finite networks that have them in the limit."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor


def relu_ntk(x: Tensor, y: Tensor, depth: int = 3, bias: float = 1.0) -> Tensor:
    """Neural tangent kernel of an infinitely wide ReLU network, x (N, D) and y (M, D) -> (N, M).

    The network has `depth` hidden layers and the parametrization of `wide_network`. With S the covariance of its
    preactivations and T the tangent kernel, layer by layer,

        S = T = <x, y> / D + bias^2
        S' = E[relu(u) relu(v)] + bias^2          T' = S' + T E[1(u > 0) 1(v > 0)]        (u, v) ~ N(0, S)

    where the last layer has no bias. The expectations are those of the arc-cosine kernels of Cho and Saul 2009,
    sqrt(S_xx S_yy) (sin a + (pi - a) cos a) / (2 pi) and (pi - a) / (2 pi) for the angle a.

    Jacot et al. 2018, "Neural Tangent Kernel: Convergence and Generalization in Neural Networks", Theorem 1.

    The kernel has a kink where x = y, and without biases at the origin; its gradient is taken to be zero there.
    """
    dimensions = x.shape[1]
    own_x, own_y = x.square().sum(1) / dimensions + bias**2, y.square().sum(1) / dimensions + bias**2
    covariance = x @ y.T / dimensions + bias**2
    tangent = covariance
    for layer in range(depth):
        shift = bias**2 if layer < depth - 1 else 0.0
        # Floors of the type's precision: the root of 0 and the angle of 0 have infinite slopes.
        norm = (own_x[:, None] * own_y).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
        limit = 1 - 4 * torch.finfo(x.dtype).eps
        cosine = (covariance / norm).clamp(-limit, limit)
        angle = cosine.acos()
        covariance = norm * ((1 - cosine.square()).sqrt() + (math.pi - angle) * cosine) / (2 * math.pi) + shift
        tangent = covariance + tangent * (math.pi - angle) / (2 * math.pi)
        own_x, own_y = own_x / 2 + shift, own_y / 2 + shift
    return tangent


def rbf(x: Tensor, y: Tensor, gamma: float = 0.5) -> Tensor:
    """Gaussian kernel exp(-gamma |x - y|^2 / D), x (N, D) and y (M, D) -> (N, M).

    That of an infinitely wide layer of sines of which the last weights alone are trained, in the same parametrization
    (Rahimi and Recht 2007).
    """
    square = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    return (-gamma / x.shape[1] * square.clamp_min(0)).exp()


def wide_weights(dimensions: int, width: int, depth: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights (out, in) and biases (out,) of each layer, all N(0, 1), in the type and on the device of `like`."""
    sizes = [dimensions, *[width] * depth, 1]
    return [(like.new_empty(b, a).normal_(), like.new_empty(b).normal_()) for a, b in pairwise(sizes)]


def wide_network(x: Tensor, weights: list[tuple[Tensor, Tensor]], bias: float = 1.0) -> Tensor:
    """A ReLU network in the NTK parametrization, x (N, D) -> scores (N,).

    Layer by layer h' = W relu(h) / sqrt(inputs) + bias * b, with no ReLU at the first layer and no bias at the last.
    """
    for index, (weight, shift) in enumerate(weights):
        last = index == len(weights) - 1
        x = (x.relu() if index else x) @ weight.T / math.sqrt(weight.shape[1]) + (0.0 if last else bias * shift)
    return x.squeeze(1)
