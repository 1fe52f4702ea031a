"""Direct discriminative optimization: a diffusion model is tuned as its own discriminator of data and draws."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion
from modules.generative.gaussian.checkpoints import check_path
from modules.generative.gaussian.model import GaussianModel
from modules.method import Method

CHUNK = 1000
"""Records that are drawn at once before training."""

AXES = ("path", "sampler", "timesteps", "guidance", "net")


class DirectDiscriminative(GaussianModel):
    """Tells data from draws of a reference, the model as it was, by the ratio of its own likelihood to the reference's:

        loss   -E_data ln s(beta r(x)) - alpha E_ref ln(1 - s(beta r(x))),   r(x) = ln p(x) / p_ref(x), s the sigmoid

    with alpha = beta = 1 the discriminator of a GAN, whose optimum is p = p_data; no generator has to be trained beside
    it, for the model is one. Of a diffusion model r is estimated by one time and one noise, the same for both:

        r(x) = length of time * dimensions * w(t) (e_ref(x_t, t) - e(x_t, t))

    where e is the mean squared error of what the network predicts and w the model's own weighting. With `likelihood` as
    weighting and uniform times its mean is the difference of the two evidence bounds, in nats; with others it has
    other units, and so has beta. -ln s is convex, so that the loss bounds the one of the mean from above.
    The draws are made before training. A further round starts from the checkpoint of the one before, as its reference.

    Zheng et al. 2025, "Direct Discriminative Optimization: Your Likelihood-Based Visual Generative Model is Secretly a
    GAN Discriminator". The authors' code has no training in it and the paper's text was not at hand: weighting, alpha
    and beta are no figures of theirs.

    Deviations: (1) records without classes; (2) the number of draws is chosen, and they are made by this run.

    Args:
        spec: images or vectors.
        model: checkpoint of a `Diffusion` or of an earlier round, whose path is `path`; None: a new one, of the network
            that `net` says.
        alpha: weight of the draws, above 0.
        beta: scale of r, above 0.
        fakes: number of draws from the reference, by this model's sampler.
        parts: the arguments of `GaussianModel`, and `net`, `optimizer`, `schedule`.

    Raises:
        UserError: a number that is not positive; a model without a network, of other records, or on another path.
    """

    batch_type = Unlabelled
    papers = ("zheng2025direct",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        model: str | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        fakes: int = 1000,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if min(alpha, beta, fakes) <= 0:
            raise UserError(f"model.alpha={alpha} model.beta={beta} model.fakes={fakes}: all are above 0.")
        self.alpha, self.beta, self.count = alpha, beta, fakes
        if model is None:
            self.inner = Diffusion(spec, **{name: parts[name] for name in AXES if name in parts})
        else:
            self.inner = trained(model, self.spec)
        check_path(self.inner.path, self.path, f"model.model={model}")
        self.reference = deepcopy(self.inner).requires_grad_(False)
        self.fakes: Tensor | None = None

    def on_fit_start(self) -> None:
        """Draw from the reference, each process its share; a continued run draws the same again."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        rank, world = data.share
        field = self.guidance.field(self.reference, None)
        with torch.no_grad(), seeded(data.seed, "draws of the reference", rank):
            chunks = torch.empty(-(-self.count // world)).split(CHUNK)
            self.fakes = torch.cat([self.draw(field, len(chunk)) for chunk in chunks])

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        assert self.fakes is not None, "there are draws once training starts"
        n = len(batch.x)
        fake = self.fakes[torch.randint(len(self.fakes), (n,), device=batch.x.device)]
        real, drawn = (self.beta * self.log_ratio(torch.cat([batch.x, fake]))).split(n)
        return {"real": F.softplus(-real).mean(), "fake": self.alpha * F.softplus(drawn).mean()}

    def log_ratio(self, x: Tensor) -> Tensor:
        """One estimate of ln p(x) / p_ref(x) (B,) of records (B, ...)."""
        noisy, t, noise = self.inner.noised(x)
        own = self.inner.error(self.inner.predict(noisy, t), x, noise, t)
        with torch.no_grad():
            other = self.reference.error(self.reference.predict(noisy, t), x, noise, t)
        return (self.path.end - self.path.start) * x[0].numel() * (other - own)

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.inner.denoise(x, t, y)


def trained(checkpoint: str, spec: DataSpec) -> Diffusion:
    """The model of a checkpoint, or the one that an earlier round has tuned, ready to be trained.

    Raises:
        UserError: a model without a network, or of other records.
    """
    model: Any = Method.load_from_checkpoint(checkpoint)
    model = model.inner if isinstance(model, DirectDiscriminative) else model
    if not isinstance(model, Diffusion) or model.batch_type is not Unlabelled:
        raise UserError(f"model.model={checkpoint} holds a {type(model).__name__}, not a diffusion model of records.")
    if model.spec.shape != spec.shape:
        raise UserError(f"model.model={checkpoint} is of records {model.spec.shape}, these are {spec.shape}.")
    return model.requires_grad_(True).train()
