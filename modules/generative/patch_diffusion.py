"""Gaussian diffusion that is learned on patches of pictures, and puts a picture together from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion
from modules.networks.patch_pyramid import Patches, PatchPyramid


class PatchDiffusion(Diffusion):
    """Learns E[x_0 | x_t] from a pyramid of patches per record: the whole, made small, then ever finer parts of it.

        loss   sum over levels l of E w(t) |target of the patch at level l - network|^2

    with one patch per level, each at random within the one before. For a draw all patches of all levels, `overlap`
    pixels apart from each other's borders, go through the network at once in each step, and the finest are averaged
    where they overlap. In training nothing is as large as a picture, so that memory does not grow with it.

    Skorokhodov et al. 2024, "Hierarchical Patch Diffusion Models for High-Resolution Video Generation": deep context
    fusion and adaptive computation are the network's, `modules.networks.patch_pyramid.PatchPyramid`.

    Deviations: (1) the paper's text was not at hand, and what goes beyond its abstract and a summary of its core is our
    own reading; (2) coarse patches are of the same noisy picture, made small by averages, instead of being noised on
    their own, so that the state is one picture and every sampler works; (3) frames of a clip are channels: patches are
    parts of space and not of time; (4) no classes.

    Args:
        spec: pictures.
        stride: pixels from a patch to the next in a draw, at most the side of one; None: half of it, so that they
            overlap.
        parts: the arguments of `Diffusion`; `net` is a `PatchPyramid`.

    Raises:
        UserError: another network, a stride that leaves gaps or does not divide the side.
    """

    kinds = ("image",)
    papers = ("skorokhodov2024hierarchical",)
    net: PatchPyramid

    def __init__(self, spec: DataSpec | Mapping[str, Any], stride: int | None = None, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not isinstance(self.net, PatchPyramid):
            raise UserError(f"model=generative/patch_diffusion and a net of {type(self.net).__name__}.", "net=pyramid")
        height, width = self.net.size
        self.stride = (stride or height // 2, stride or width // 2)
        if any(step < 1 or side % step for step, side in zip(self.stride, self.net.size, strict=True)):
            raise UserError(f"model.stride={stride}: it divides the patches of {height} x {width}.")

    # Patches

    def shrunk(self, x: Tensor) -> list[Tensor]:
        """A picture (B, C, H, W) at each level, from the smallest."""
        return [F.avg_pool2d(x, 2 ** (self.net.levels - 1 - level)) for level in range(self.net.levels)]

    def cut(self, x: Tensor, record: Tensor, corner: Tensor) -> Tensor:
        """The patches (N, C, p, q) of pictures (B, C, h, w) that begin at corners (N, 2) of records (N,)."""
        rows = corner[:, 0, None, None] + torch.arange(self.net.size[0], device=x.device)[:, None]
        columns = corner[:, 1, None, None] + torch.arange(self.net.size[1], device=x.device)
        return x[record[:, None, None], :, rows, columns].permute(0, 3, 1, 2)

    def nested(self, n: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Corners (n, 2) and parents (n,) per level, one patch of each record at random within the one before."""
        corner = torch.zeros(n, 2, dtype=torch.long, device=device)
        order = torch.arange(n, device=device)
        places = [(corner, order)]
        size = torch.tensor(self.net.size, device=device)
        for _ in range(self.net.levels - 1):
            corner = 2 * corner + (torch.rand(n, 2, device=device) * (size + 1)).long()
            places.append((corner, order))
        return places

    def tiled(self, n: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Corners (N, 2) and parents (N,) per level, of all patches of n records, record after record."""
        places = [(torch.zeros(n, 2, dtype=torch.long, device=device), torch.arange(n, device=device))]
        grids = [(1, 1)]
        for level in range(1, self.net.levels):
            axes, parents = [], []
            for side, step, count in zip(self.net.size, self.stride, grids[-1], strict=True):
                first = torch.arange(0, side * 2**level - side + 1, step, device=device)
                # The parent begins at a multiple of the step in its own pixels, and contains the patch.
                parent = (first // (2 * step)).clamp(max=count - 1)
                axes.append(first)
                parents.append(parent)
            corner = torch.cartesian_prod(*axes)
            above = (parents[0][:, None] * grids[-1][1] + parents[1]).flatten()
            size = grids[-1][0] * grids[-1][1]
            offset = size * torch.arange(n, device=device).repeat_interleave(len(corner))
            places.append((corner.repeat(n, 1), above.repeat(n) + offset))
            grids.append((len(axes[0]), len(axes[1])))
        return places

    def pyramid(self, x: Tensor, places: list[tuple[Tensor, Tensor]]) -> list[Patches]:
        """Pictures (B, C, H, W) and where patches lie -> the patches."""
        levels, record = [], places[0][1]
        for level, (small, (corner, parent)) in enumerate(zip(self.shrunk(x), places, strict=True)):
            record = record[parent] if level else record
            levels.append(Patches(self.cut(small, record, corner), corner, parent))
        return levels

    # The model

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        x, t, noise = self.noised(batch.x)
        places = self.nested(len(x), x.device)
        inputs = self.pyramid(self.path.scaled(x, t, self.data_std), places)
        data, noises = (self.pyramid(part, places) for part in (batch.x, noise))
        predicted = self.net(inputs, self.path.conditioning(t))
        return {
            f"level_{level}": self.error(out, clean.x, noisy.x, t).mean()
            for level, (out, clean, noisy) in enumerate(zip(predicted, data, noises, strict=True))
        }

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        places = self.tiled(len(x), x.device)
        scaled, times = self.inputs(x, t)
        finest = self.net(self.pyramid(scaled, places), times)[-1]
        columns = finest.unflatten(0, (len(x), -1)).flatten(2).mT  # (B, C p q, patches)
        whole = self.spec.shape[1:]
        count = F.fold(
            torch.ones_like(columns[:1, : self.net.size[0] * self.net.size[1]]),
            whole,
            self.net.size,
            stride=self.stride,
        )
        return F.fold(columns, whole, self.net.size, stride=self.stride) / count
