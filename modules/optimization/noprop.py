"""NoProp: blocks that each learn to denoise the label, without a pass through the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.time import Conditioning

VARIANTS = ("discrete", "continuous", "flow")
RULES = ("local", "backprop")


def angles(t: Tensor, steps: int) -> Tensor:
    """Times in [0, 1] -> phi, with alpha_bar = cos(phi)^2: pi/2 at 0, all noise, and pi/2 / (steps + 1) at 1."""
    return math.pi / 2 * (1 - t * steps / (steps + 1))


def coefficients(steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """T steps -> a, b, c of z_t = a_t u + b_t z_{t-1} + sqrt(c_t) eps, and SNR(t) - SNR(t-1), float64, t = 1..T."""
    phi = angles(torch.linspace(0, 1, steps + 1, dtype=torch.float64), steps)
    bar = phi.cos().square().clamp_min(0)
    bar[0] = 0.0  # the cosine of pi/2 is not quite 0
    before, after = bar[:-1], bar[1:]
    alpha = before / after  # of the step from t to t - 1, which adds noise
    a = after.sqrt() * (1 - alpha) / (1 - before)
    b = alpha.sqrt() * (1 - after) / (1 - before)
    c = (1 - after) * (1 - alpha) / (1 - before)
    return a, b, c, after / (1 - after) - before / (1 - before)


class Blocks(nn.Module):
    """`count` multilayer perceptrons of (x, z) side by side, with two hidden layers each; one with a time if asked.

    Args:
        count: how many.
        inputs: of x.
        label: of z.
        outputs: of each block.
        width: units of a hidden layer.
        time: whether t is added to the first hidden layer.
    """

    def __init__(self, count: int, inputs: int, label: int, outputs: int, width: int, time: bool) -> None:
        super().__init__()
        sizes = (inputs + label, width, width, outputs)
        bounds = [size**-0.5 for size in sizes[:-1]]  # torch's own of a linear layer
        shapes = list(zip(sizes, sizes[1:], bounds, strict=False))
        self.weights = nn.ParameterList(torch.empty(count, i, o).uniform_(-k, k) for i, o, k in shapes)
        self.biases = nn.ParameterList(torch.empty(count, 1, o).uniform_(-k, k) for _, o, k in shapes)
        self.condition = Conditioning(width, time, 0)

    def forward(self, x: Tensor, z: Tensor, t: Tensor | None = None, block: int | None = None) -> Tensor:
        """x (B, inputs), z (count, B, label), t (B,) -> (count, B, outputs); of one `block` alone (1, B, ...)."""
        chosen = slice(None) if block is None else slice(block, block + 1)
        h = torch.cat([x.expand(len(z), *x.shape), z], 2)
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias[chosen], h, weight[chosen])
            if place == 0:
                h = h + self.condition(t, None)
            if place < 2:
                h = F.silu(h)
        return h


class NoProp(Method):
    """A classifier as the reverse of a diffusion of the label's embedding u_y, whose blocks learn apart.

    `discrete` (NoProp-DT): T blocks u_t(z_{t-1}, x) = softmax(logits) W, W the classes' embeddings, and a linear
    softmax p(y | z_T) on top. At use z_0 ~ N(0, I) and

        z_t = a_t u_t(z_{t-1}, x) + b_t z_{t-1} + sqrt(c_t) eps
        a_t = sqrt(abar_t) (1 - alpha_t) / (1 - abar_{t-1}),   b_t = sqrt(alpha_t) (1 - abar_t) / (1 - abar_{t-1})
        c_t = (1 - abar_t) (1 - alpha_t) / (1 - abar_{t-1}),   alpha_t = abar_{t-1} / abar_t

    In training each z_t is drawn from q(z_t | y) = N(sqrt(abar_t) u_y, (1 - abar_t) I), and

        loss = -log p(y | z_T) + KL(q(z_0 | y) || N(0, I)) + eta/2 sum_t (SNR(t) - SNR(t-1)) |u_t(z_{t-1}, x) - u_y|^2

    with SNR = abar / (1 - abar), so that no block needs another one. With abar_0 = 0 the KL is zero. `backprop` is the
    paper's baseline: the same blocks, trained through all of them by -log p(y | z_T) alone, with
    z_t = (1 - m_t) z_{t-1} + m_t u_t(z_{t-1}, x) from z_0 ~ N(0, I) and learned m_t in (0, 1), a half at first.

    `continuous` (NoProp-CT): one block that is told the time; the sum becomes E_t SNR'(t) |u(z_t, x, t) - u_y|^2
    over t in [0, 1], and use is the probability flow in `steps` Euler steps. `flow` (NoProp-FM): one block is the
    velocity v; loss = |v(z_t, x, t) - (u_y - z_0)|^2 - log p(y | z_t + (1 - t) v) at z_t = t u_y + (1 - t) z_0.

    Li, Teh and Pascanu 2025, "NoProp": section 2, written from memory and derived anew; a test has the coefficients and
    the weights from conditioning Gaussians.

    Deviations: (1) abar_t = cos(pi/2 (T + 1 - t) / (T + 1))^2, also in continuous time, where the paper learns it;
    (2) all blocks take their step at once, where the paper takes them in turns; (3) blocks are perceptrons of the
    pixels, where the paper has convolutions; (4) no prototypes as embeddings.

    Args:
        spec: labelled data with at least two classes.
        variant: `discrete`, `continuous` or `flow`.
        rule: `local`, or `backprop` through the discrete blocks.
        steps: T, blocks or Euler steps (the paper: 10 blocks).
        eta: weight of the denoising terms (the paper: 0.1 on MNIST).
        embedding: dimension of learned embeddings, orthogonal at first where they fit; None: fixed one-hot ones.
        width: units of a block's hidden layers.
        parts: `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown variant or rule, backpropagation in continuous time, or numbers out of range.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)
    otherwise = "for a real target: model=supervised/regressor"
    papers = ("li2025noprop",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        variant: str = "discrete",
        rule: str = "local",
        steps: int = 10,
        eta: float = 0.1,
        embedding: int | None = None,
        width: int = 64,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if variant not in VARIANTS:
            raise UserError(f"model.variant={variant}: there is no such variant.", f"one of {', '.join(VARIANTS)}")
        if rule not in RULES or (rule == "backprop" and variant != "discrete"):
            raise UserError(
                f"model.rule={rule} with model.variant={variant}: there is no such rule.",
                "local, or backprop with model.variant=discrete",
            )
        if steps < 1 or eta <= 0 or width < 1 or (embedding is not None and embedding < 1):
            raise UserError(
                f"model.steps={steps} model.eta={eta} model.width={width} model.embedding={embedding}: all above 0."
            )
        self.variant, self.rule, self.steps, self.eta = variant, rule, steps, eta
        classes = len(self.spec.classes)
        start = torch.eye(classes) if embedding is None else nn.init.orthogonal_(torch.empty(classes, embedding))
        self.embeddings = nn.Parameter(start, requires_grad=embedding is not None)
        size, discrete = start.shape[1], variant == "discrete"
        outputs = size if variant == "flow" else classes
        self.blocks = Blocks(steps if discrete else 1, self.spec.dimensions, size, outputs, width, time=not discrete)
        self.last = nn.Linear(size, classes)
        self.mixing = nn.Parameter(torch.zeros(steps)) if rule == "backprop" else None
        for name, value in zip("abcw", coefficients(steps), strict=True):
            self.register_buffer(f"steps_{name}", value.float(), persistent=False)

    # Learning

    def loss(self, batch: Labelled) -> dict[str, Tensor] | Tensor:
        x, u = batch.x.flatten(1), self.embeddings[batch.y]
        if self.rule == "backprop":
            return F.cross_entropy(self.last(self.through(x)), batch.y)
        if self.variant == "flow":
            return self.flow_loss(x, u, batch.y)
        if self.variant == "continuous":
            t = torch.rand(len(x), device=x.device)
            phi = angles(t, self.steps)
            slope = math.pi * self.steps / (self.steps + 1) * phi.cos() / phi.sin() ** 3  # SNR', of SNR = cot(phi)^2
            guess = self.clean(x, self.noised(u, phi)[None], t)
            weight = slope[None]
        else:
            phi = angles(torch.arange(self.steps, device=x.device)[:, None] / self.steps, self.steps)
            guess = self.clean(x, self.noised(u, phi))
            weight = self.steps_w[:, None]
        denoising = (weight * (guess - u).square().sum(2)).sum(0).mean()
        top = self.noised(u, angles(torch.ones(1, device=x.device), self.steps))
        return {
            "cross_entropy": F.cross_entropy(self.last(top), batch.y),
            "denoising": self.eta / 2 * denoising,
        }

    def flow_loss(self, x: Tensor, u: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The terms of NoProp-FM at a random time and noise for each record."""
        t, start = torch.rand(len(x), 1, device=x.device), torch.randn_like(u)
        z = t * u + (1 - t) * start
        velocity = self.blocks(x, z[None], t[:, 0])[0]
        return {
            "cross_entropy": F.cross_entropy(self.last(z + (1 - t) * velocity), y),
            "velocity": (velocity - (u - start)).square().sum(1).mean(),
        }

    @staticmethod
    def noised(u: Tensor, phi: Tensor) -> Tensor:
        """Embeddings (B, E), angles (..., B) or (..., 1) -> draws cos(phi) u + sin(phi) eps (..., B, E)."""
        clean = phi.cos()[..., None] * u
        return clean + phi.sin()[..., None] * torch.randn_like(clean)

    def clean(self, x: Tensor, z: Tensor, t: Tensor | None = None, block: int | None = None) -> Tensor:
        """Guesses of the embedding: the softmax of each block's logits times the embeddings (K, B, E)."""
        return self.blocks(x, z, t, block).softmax(2) @ self.embeddings

    # Use

    def through(self, x: Tensor) -> Tensor:
        """Records x (B, D) -> the label's embedding that all steps lead to from a draw of noise (B, E)."""
        z = torch.randn(len(x), self.embeddings.shape[1], device=x.device)
        for step in range(self.steps):
            if self.mixing is not None:
                z = torch.lerp(z, self.clean(x, z[None], block=step)[0], self.mixing[step].sigmoid())
            elif self.variant == "discrete":
                guess = self.clean(x, z[None], block=step)[0]
                noise = self.steps_c[step].sqrt() * torch.randn_like(z)
                z = self.steps_a[step] * guess + self.steps_b[step] * z + noise
            else:
                z = z + self.velocity(x, z, step / self.steps) / self.steps
        return z

    def velocity(self, x: Tensor, z: Tensor, t: float) -> Tensor:
        """dz/dt at z (B, E) and time t: the block itself, or the probability flow of its guess."""
        times = torch.tensor(t, device=x.device).expand(len(x))
        if self.variant == "flow":
            return self.blocks(x, z[None], times)[0]
        return probability_flow(self.clean(x, z[None], times)[0], z, t, self.steps)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, classes), of one draw of the noise."""
        return self.last(self.through(x.flatten(1))).float().log_softmax(1)


def probability_flow(guess: Tensor, z: Tensor, t: float, steps: int) -> Tensor:
    """dz/dt where z = cos(phi) u + sin(phi) eps keeps its eps, which a guess of u says."""
    phi = float(angles(torch.tensor(t, dtype=torch.float64), steps))
    eps = (z - math.cos(phi) * guess) / math.sin(phi)
    return math.pi / 2 * steps / (steps + 1) * (math.sin(phi) * guess - math.cos(phi) * eps)
