"""A fixed feature space per data set, in which laws of pictures can be compared."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compendium.seeding import generator, seeded

RECIPE = 1
"""Version of network and training below: a change of either is a new feature space, and a new file in the cache."""

WIDTH = 64
STEPS = 300
BATCH_SIZE = 128
LEARNING_RATE = 2e-3
FINGERPRINT_ROWS = 2048

_NETS: dict[str, FeatureNet] = {}


class FeatureNet(nn.Module):
    """A small convolutional classifier: x (B, C, H, W) -> class logits (B, classes).

    Any height and width: two convolutions of stride 2, then 2 x 2 averages.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.GroupNorm(8, 32),
            nn.GELU(),
            nn.Conv2d(32, WIDTH, 3, stride=2, padding=1),
            nn.GroupNorm(8, WIDTH),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * WIDTH, WIDTH),
            nn.GELU(),
        )
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def features(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) on the CPU -> activations before the last layer (N, 64)."""
        with torch.no_grad():
            return torch.cat([self.body(rows.float()) for rows in x.split(256)])


def feature_space(data: Any) -> Callable[[Tensor], Tensor]:
    """The map x (N, ...) -> features (N, F) in which records of a DataModule are compared.

    - Pictures with classes (`data.columns["y"]` holds class indices): the penultimate layer, F = 64, of a classifier
      trained on the training split. It plays the part that Inception-v3 has in FID, without a download; distances
      compare across methods on the same data and split, not with published FIDs.
    - Vectors, and pictures without classes: the flattened records themselves.

    Records come in the range in which the method receives them, here and in the training of the classifier.

    The classifier is a function of the training split and `RECIPE`: it is trained once, kept in memory, and cached in
    the folder `COMPENDIUM_CACHE` (default `~/.cache/compendium`). A file that cannot be read is made anew.
    """
    net = feature_net(data)
    return net.features if net is not None else lambda x: x.flatten(1)


def feature_net(data: Any) -> FeatureNet | None:
    """The classifier of `feature_space`; None where the data are no pictures with classes."""
    labels = data.columns.get("y")
    if data.spec.kind != "image" or labels is None or labels[data.rows["train"][:1]].dtype != torch.long:
        return None
    key = fingerprint(data)
    if key not in _NETS:
        # Evaluations run in inference mode, in which no weight could be trained.
        with torch.inference_mode(False):
            _NETS[key] = cached(cache_folder() / f"{key}.pt", data)
    return _NETS[key]


def cache_folder() -> Path:
    """Where feature networks are kept between runs."""
    return Path(os.environ.get("COMPENDIUM_CACHE") or Path.home() / ".cache" / "compendium") / "features"


def fingerprint(data: Any) -> str:
    """A name for the training split as the method receives it, and for the recipe: 32 hexadecimal digits."""
    digest = hashlib.blake2b(f"recipe {RECIPE}".encode(), digest_size=16)
    with seeded(data.seed, "fingerprint"):
        x = data.records("train", FINGERPRINT_ROWS).x
    for part in (data.rows["train"], x, data.columns["y"][data.rows["train"]]):
        digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
        digest.update(part.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def cached(path: Path, data: Any) -> FeatureNet:
    """The network that a file holds; trained and written there if there is none, or none that can be read."""
    classes = int(data.columns["y"][data.rows["train"]].max()) + 1
    with seeded(0, "features"):
        stored, net = (FeatureNet(data.spec.shape[0], classes) for _ in range(2))
    # Truncated, of another shape, no checkpoint at all: torch raises many kinds of errors.
    with contextlib.suppress(Exception):
        stored.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return stored.eval()
    train(net, data)
    # A folder that cannot be written to costs the next run a few seconds, and this one nothing.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        torch.save(net.state_dict(), partial)
        os.replace(partial, path)
    return net.eval()


def train(net: FeatureNet, data: Any) -> None:
    """Fit the classifier by Adam on the cross-entropy: `STEPS` batches of training records, drawn with replacement."""
    rows, draw = data.rows["train"], generator(0, "features", "order")
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=STEPS)
    with torch.enable_grad(), seeded(0, "features", "present"):
        for _ in range(STEPS):
            picked = rows[torch.randint(len(rows), (BATCH_SIZE,), generator=draw)]
            batch = data.present({name: column[picked] for name, column in data.columns.items()}, "validation")
            loss = nn.functional.cross_entropy(net(batch.x.float()), data.columns["y"][picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
