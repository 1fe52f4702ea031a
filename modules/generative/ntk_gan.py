"""GANs in the tangent regime: particles that follow an infinitely wide discriminator, or a finite one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.method import SolvedMethod
from modules.networks.tangent_kernels import rbf, relu_ntk, wide_network, wide_weights

KERNELS = ("relu", "rbf")
LOSSES = ("ipm", "lsgan")


class NTKGAN(SolvedMethod):
    """A GAN whose generator is a set of particles x_1 ... x_N, and whose discriminator f is trained anew for each step.

    From f = 0 the discriminator follows the gradient flow of its loss for the time tau. Where it is infinitely wide, it
    moves in the space of its tangent kernel k, and with y from the data

        ipm     E f(y) - E f(x)                   f = tau (E k(., y) - E k(., x))
        lsgan   -E (f(y) - 1)^2 - E (f(x) + 1)^2  f = k(., T) K^-1 (1 - exp(-2 tau K / N)) r

    where T are the N data and N particles, K their kernel matrix and r = 1 on data, -1 on particles: solved by the
    eigenvectors of K. Then each particle goes along the gradient of what the generator ascends,

        x_i <- x_i + step * grad c(f(x_i)),    c(f) = f (ipm) or -f^2 (lsgan),

    so that the particles of `ipm` follow the flow of the squared MMD of k. With `width` the discriminator is a network
    of that width, of the parametrization that has k in the limit, trained by gradient descent from new weights.

    Franceschi et al. 2022, "A Neural Tangent Kernel Perspective of GANs", sections 4, 5, and the authors' code, which
    the parametrization, the losses and the defaults are taken from (the paper's text was not at hand).

    Deviations: (1) finite networks start from zero by subtracting their first output, where the authors take half the
    difference of two equal networks: the same tangent kernel; (2) finite networks are new for each step, the authors'
    `ipm_reset`, and without a memory of the steps before; (3) `step` is the authors' eta divided by the particles.

    Args:
        spec: vectors.
        particles: N, drawn from N(0, I). Default 500, the authors' on eight Gaussians.
        loss: `ipm` or `lsgan`.
        kernel: `relu`, the NTK of a ReLU network, or `rbf`, exp(-gamma |x - y|^2 / D).
        depth: hidden layers; 3 in the authors' code.
        bias: standard deviation of the biases; 1 in the authors' code, 0 for none.
        gamma: of `rbf`; 0.5 in the authors' code.
        tau: training time of the discriminator; 1 in the authors' code.
        step: of the particles; 1000 / 500 in the authors' code.
        moves: steps of the particles per batch.
        width: of a finite discriminator; None for the infinite one.
        descents: steps of gradient descent by which a finite discriminator is trained for the time tau; 10 in the
            authors' code.
        parts: see `Method`.

    Raises:
        UserError: an unknown loss or kernel, sizes below 1, a finite network with another kernel than `relu`.
    """

    x: Tensor

    batch_type = Unlabelled
    kinds = ("vector",)
    papers = ("franceschi2022neural",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        particles: int = 500,
        loss: str = "ipm",
        kernel: str = "relu",
        depth: int = 3,
        bias: float = 1.0,
        gamma: float = 0.5,
        tau: float = 1.0,
        step: float = 2.0,
        moves: int = 10,
        width: int | None = None,
        descents: int = 10,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        for name, choice, known in (("loss", loss, LOSSES), ("kernel", kernel, KERNELS)):
            if choice not in known:
                raise UserError(f"model.{name}={choice} is unknown.", f"there are: {', '.join(known)}")
        counts = {"particles": particles, "depth": depth, "moves": moves, "descents": descents}
        for name, count in (counts if width is None else counts | {"width": width}).items():
            if count < 1:
                raise UserError(f"model.{name}={count}: at least one is needed.")
        if width is not None and kernel != "relu":
            raise UserError(f"model.width={width}: finite networks are ReLU networks.", "model.kernel=relu")
        self.objective, self.depth, self.bias, self.gamma, self.tau = loss, depth, bias, gamma, tau
        self.step, self.moves, self.width, self.descents, self.family = step, moves, width, descents, kernel
        self.register_buffer("x", torch.randn(particles, *self.spec.shape))

    def accumulate(self, batch: Unlabelled) -> None:
        real = self.rows_of_all(batch.x)
        for _ in range(self.moves):
            self.x += self.step * self.field(self.x, real)

    def field(self, x: Tensor, real: Tensor) -> Tensor:
        """The gradient that particles x (N, D) follow beside data (M, D) -> (N, D)."""
        with torch.inference_mode(False), torch.enable_grad():
            at, real = x.detach().clone().requires_grad_(), real.clone()
            train = torch.cat([real, x.detach()])
            score = self.trained_network(at, train, len(real)) if self.width else self.solved(at, train, len(real))
            ascended = score if self.objective == "ipm" else -score.square()
            return torch.autograd.grad(ascended.sum(), at)[0]

    def k(self, x: Tensor, y: Tensor) -> Tensor:
        """The discriminator's kernel, x (N, D) and y (M, D) -> (N, M)."""
        return relu_ntk(x, y, self.depth, self.bias) if self.family == "relu" else rbf(x, y, self.gamma)

    def solved(self, x: Tensor, train: Tensor, real: int) -> Tensor:
        """The infinitely wide discriminator's scores of x (N,), trained on `real` rows of data and then particles."""
        if self.objective == "ipm":
            return self.tau * self.k(x, train) @ shares(train, real)
        # Each side counts as a whole: the weights of the mean squares, made symmetric by their roots.
        root = shares(train, real).abs().sqrt().double()
        values, vectors = torch.linalg.eigh(root[:, None] * self.k(train, train).detach().double() * root)
        # (1 - exp(-2 tau v)) / v, which is 2 tau where v is 0; rounding leaves eigenvalues a little below.
        decay = values.clamp_min(1e-12)
        filtered = vectors @ (-torch.expm1(-2 * self.tau * decay) / decay * (vectors.T @ (root * sides(train, real))))
        return self.k(x, train) @ (root * filtered).to(x)

    def trained_network(self, x: Tensor, train: Tensor, real: int) -> Tensor:
        """The finite discriminator's scores of x (N,), after gradient descent from new weights."""
        assert self.width is not None
        weights = wide_weights(train.shape[1], self.width, self.depth, like=train)
        start = [(weight.clone(), shift.clone()) for weight, shift in weights]
        moving = [part.requires_grad_() for layer in weights for part in layer][:-1]  # the last bias does nothing
        weigh, goal = shares(train, real), sides(train, real)
        before = wide_network(train, start, self.bias)
        for _ in range(self.descents):
            f = wide_network(train, weights, self.bias) - before
            loss = -(weigh @ f) if self.objective == "ipm" else weigh.abs() @ (f - goal).square()
            for part, gradient in zip(moving, torch.autograd.grad(loss, moving, allow_unused=True), strict=True):
                if gradient is not None:  # biases of a network without any
                    part.data -= self.tau / self.descents * gradient
        return wide_network(x, weights, self.bias) - wide_network(x, start, self.bias)

    def sample(self, n: int) -> Tensor:
        """n draws (n, D): the particles in random order, again and again."""
        rounds = math.ceil(n / len(self.x))
        return self.x[torch.rand(rounds, len(self.x), device=self.x.device).argsort(1).flatten()[:n]]


def sides(train: Tensor, real: int) -> Tensor:
    """1 for the first `real` rows, the data, and -1 for the particles (M,)."""
    return torch.where(torch.arange(len(train), device=train.device) < real, 1.0, -1.0).to(train)


def shares(train: Tensor, real: int) -> Tensor:
    """1 / number of data for the data, -1 / number of particles for the particles (M,)."""
    return sides(train, real) / torch.where(sides(train, real) > 0, real, len(train) - real)
