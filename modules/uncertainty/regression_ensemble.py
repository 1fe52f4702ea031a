"""Deep ensembles of a real target: a mixture of normals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.nn import functional as F

from datamodules.spec import DataSpec
from modules.networks.stacked import Stacked
from modules.supervised.regressor import GaussianRegressor
from modules.uncertainty.ensemble import checked


class RegressionEnsemble(GaussianRegressor):
    """K regressors N(mu_k(x), sigma_k(x)^2), each trained by its own likelihood (Lakshminarayanan et al. 2017).

        loss = sum_k mean_i -ln N(y_i; mu_k(x_i), sigma_k(x_i)^2),     p(y|x) = mean_k N(y; mu_k(x), sigma_k(x)^2)

    The variance of the mixture is mean_k sigma_k^2 (of the response) plus the variance of the mu_k (of the networks).

    Deviations: 1. and 2. of `modules.uncertainty.ensemble.DeepEnsemble`. 3. The prediction is the mixture itself, which
    Lakshminarayanan et al. replace by a normal of its mean and variance.

    Args:
        spec: labelled data with a real target.
        members: K; 5, as in the experiments of Lakshminarayanan et al.
        parts: the arguments of `GaussianRegressor`. `net` is a config: each member is built from it.

    Raises:
        UserError: the target is not real, fewer than one member.
    """

    otherwise = "for classes: model=uncertainty/ensemble"

    def __init__(self, spec: DataSpec | Mapping[str, Any], members: int = 5, **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.members = checked(members)
        self.net = Stacked([self.net, *(self.build(self.spec.shape, (2,)) for _ in range(members - 1))])

    def predict_members(self, x: Tensor) -> Normal:
        """x (B, ...) -> the members' laws, with batch shape (K, B), in the target's own units."""
        mean, raw = self.net(x).float().unbind(2)
        return Normal(self.shift + self.scale * mean, self.scale * (F.softplus(raw) + self.floor), validate_args=False)

    def predict_distribution(self, x: Tensor) -> MixtureSameFamily:  # type: ignore[override]
        """x (B, ...) -> mixture of normals with batch shape (B,), in the target's own units."""
        law = self.predict_members(x)
        mean, scale = law.loc.T, law.scale.T
        equal = Categorical(logits=torch.zeros_like(mean), validate_args=False)
        return MixtureSameFamily(equal, Normal(mean, scale, validate_args=False), validate_args=False)

    def epistemic_variance(self, x: Tensor) -> Tensor:
        """x (B, ...) -> variance of the members' means (B,), in squared units of the target."""
        return self.predict_members(x).loc.var(0, correction=0)

    def uncertainty(self, x: Tensor) -> Tensor:
        """x (B, ...) -> the same (B,)."""
        return self.epistemic_variance(x)

    def loss(self, batch: Any) -> Tensor:
        return -self.predict_members(batch.x).log_prob(batch.y).mean(1).sum()
