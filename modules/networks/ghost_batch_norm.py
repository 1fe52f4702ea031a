"""Batch normalisation of parts of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError


class GhostBatchNorm(nn.Module):
    """Batch normalisation whose batch is a part of about `size` records, however many are learned from at once.

    In training a batch of B records falls into K = max(1, B // size) parts, as equal as they can be, and each is
    normalised by its own mean and (biased) variance, per channel over records and pixels:

        y = weight (x - mean_k) / sqrt(variance_k + eps) + bias

    The running statistics take in one part after another, so that one batch counts as K small ones:

        running <- (1 - momentum)^K running + sum_k momentum (1 - momentum)^(K - k) statistic_k,    k = 1, ..., K

    and normalise in evaluation. With one part it is torch's batch normalisation.

    Hoffer et al. 2017, "Train longer, generalize better", Algorithm 1 (ghost batch normalization); the order of the
    running sum is that of the authors' code, where parts pass through the network one by one.

    Deviations: (1) the running variance is averaged, unbiased as torch's, where the algorithm averages the standard
    deviation; (2) a part takes every K-th record, which needs no copy, and records come in random order anyway; (3) a
    last part smaller than the others is spread over them.

    Args:
        channels: of x, its second dimension.
        size: records in a part; None: the whole batch, which is plain batch normalisation. 32 to 128 in the paper.
        momentum: weight of the newest part in the running statistics; 0.1 as torch's.
        eps: what is added to the variance; 1e-5 as torch's.

    Raises:
        UserError: a value out of range, or a part with one value per channel.
    """

    papers = ("hoffer2017train",)

    def __init__(self, channels: int, size: int | None = 32, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        if size is not None and size < 1:
            raise UserError(f"net.norm.size={size}: a part holds at least one record, or null for the whole batch.")
        if not 0 <= momentum <= 1:
            raise UserError(f"net.norm.momentum={momentum} lies in [0, 1].")
        self.size, self.momentum, self.eps = size, momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, channels, ...) -> the same shape."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        count = max(1, len(x) // (self.size or len(x)))
        small, larger = divmod(len(x), count)
        if small * x[0, 0].numel() == 1:
            raise UserError(
                f"a part of one value has no variance (net.norm.size={self.size}, {len(x)} records in the batch).",
                "Take larger parts: net.norm.size=",
            )
        if not larger:
            return self.normalised(x, count)
        first = larger * (small + 1)
        return torch.cat([self.normalised(x[:first], larger), self.normalised(x[first:], count - larger)])

    def normalised(self, x: Tensor, count: int) -> Tensor:
        """x (n count, channels, ...), each of `count` parts by its own statistics, which are taken in."""
        channels = x.shape[1]
        # Records k, k + count, ... are part k: seen as more channels of fewer records, without a copy.
        seen = x.contiguous().view(len(x) // count, count * channels, *x.shape[2:])
        mean, var = x.new_zeros(2, count * channels, dtype=self.running_mean.dtype).unbind()
        weight, bias = self.weight.repeat(count), self.bias.repeat(count)
        out = F.batch_norm(seen, mean, var, weight, bias, training=True, momentum=1.0, eps=self.eps).view_as(x)
        kept = 1 - self.momentum
        age = torch.arange(count - 1, -1, -1, device=x.device, dtype=mean.dtype)
        with torch.no_grad():
            for running, statistic in ((self.running_mean, mean), (self.running_var, var)):
                running.mul_(kept**count).add_(self.momentum * kept**age @ statistic.view(count, channels))
        return out
