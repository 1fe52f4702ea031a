"""E[x_0 | x_t] in closed form, for data that are a mixture of Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class MixtureDenoiser:
    """The exact denoiser of p(x_0) = sum_k weight_k N(mean_k, V_k diag(std_k^2) V_k').

    x_t = alpha x_0 + sigma eps then follows the mixture of N(alpha mean_k, alpha^2 Sigma_k + sigma^2 I), and

        E[x_0 | x_t, k] = mean_k + alpha Sigma_k (alpha^2 Sigma_k + sigma^2 I)^-1 (x_t - alpha mean_k)

    is averaged with the components' responsibilities. Everything is computed in float64. A law of single points, as of
    the training records themselves, has std 0.

    Args:
        means: (K, D).
        stds: (K, 1) for isotropic components, (K, D) along the columns of `vectors`.
        weights: (K,), normalized here.
        vectors: orthogonal matrices V (K, D, D); None for isotropic components.
    """

    def __init__(self, means: Tensor, stds: Tensor, weights: Tensor, vectors: Tensor | None = None) -> None:
        self.means, self.variances = means.double(), stds.double().square()
        self.log_weights = (weights.double() / weights.double().sum()).log()
        self.vectors = None if vectors is None else vectors.double()

    def to(self, device: torch.device) -> MixtureDenoiser:
        """Moves everything to a device."""
        for name in ("means", "variances", "log_weights", "vectors"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.to(device))
        return self

    def joint(self, x: Tensor, alpha: Tensor, sigma: Tensor, among: Tensor | None = None) -> Tensor:
        """Log of weight and density of x_t, per component.

        Args:
            x: (B, D) float64.
            alpha: (B, 1) float64.
            sigma: (B, 1) float64.
            among: bool (B, K), which components there are; None for all. Weights are not normalized again.

        Returns:
            (B, K).
        """
        variances = alpha[..., None].square() * self.variances + sigma[..., None].square()  # (B, K, 1 or D)
        if self.vectors is None:
            squares = torch.cdist(x, alpha[0, 0] * self.means).square() if one(alpha) else self._offsets(x, alpha)
            distance = squares / variances[..., 0]
        else:
            turned = torch.einsum("bkd,kde->bke", x[:, None] - alpha[..., None] * self.means, self.vectors)
            distance = (turned.square() / variances).sum(2)
        dimensions = x.shape[1] / variances.shape[2]
        log_volume = dimensions * variances.log().sum(2) + x.shape[1] * math.log(2 * math.pi)
        joint = self.log_weights - 0.5 * (distance + log_volume)
        return joint if among is None else joint.masked_fill(~among, -math.inf)

    def _offsets(self, x: Tensor, alpha: Tensor) -> Tensor:
        return (x[:, None] - alpha[..., None] * self.means).square().sum(2)

    def log_prob(self, x: Tensor, alpha: Tensor, sigma: Tensor, among: Tensor | None = None) -> Tensor:
        """Log density of x_t (B,): x (B, D), alpha and sigma (B,); see `joint`."""
        return self.joint(x.double(), column(alpha), column(sigma), among).logsumexp(1).to(x.dtype)

    def denoise(self, x: Tensor, alpha: Tensor, sigma: Tensor, among: Tensor | None = None) -> Tensor:
        """E[x_0 | x_t = x] (B, D): x (B, D), alpha and sigma (B,); see `joint`."""
        points, alpha, sigma = x.double(), column(alpha), column(sigma)
        share = self.joint(points, alpha, sigma, among).softmax(1)  # (B, K)
        gain = alpha[..., None] * self.variances  # (B, K, 1 or D)
        gain = gain / (alpha[..., None].square() * self.variances + sigma[..., None].square())
        if self.vectors is None:
            gain = gain[..., 0]
            mean = (share * (1 - alpha * gain)) @ self.means + (share * gain).sum(1, keepdim=True) * points
        else:
            offset = points[:, None] - alpha[..., None] * self.means
            shift = torch.einsum(
                "kde,bke->bkd", self.vectors, gain * torch.einsum("bkd,kde->bke", offset, self.vectors)
            )
            mean = torch.einsum("bk,bkd->bd", share, self.means + shift)
        return mean.to(x.dtype)


def one(values: Tensor) -> bool:
    """Whether a column (B, 1) repeats one number, as for a sampler, whose records share their time."""
    return len(values) == 1 or values.stride(0) == 0


def column(values: Tensor) -> Tensor:
    """(B,) -> (B, 1) float64; an expanded number stays expanded, so that `one` sees it."""
    if values.dim() and values.stride(0) == 0:
        return values[:1].double().expand(len(values)).unsqueeze(1)
    return values.double().unsqueeze(1)
