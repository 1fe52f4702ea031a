"""Small sources and methods with capabilities, and one pass of all evaluations; importable by other processes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, distributions

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.classification import Classification
from callbacks.evaluation.density import Likelihood
from callbacks.evaluation.embeddings import Embeddings
from callbacks.evaluation.regression import Regression
from callbacks.evaluation.samples import Samples
from datamodules.datamodule import DataModule
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source
from datamodules.sources.digits import Digits
from datamodules.spec import DataSpec


class GaussianTruth:
    """N(0, I)."""

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


class GaussianVectors(Source):
    """1000 draws from N(0, I) in two dimensions, with the law itself."""

    def load(self) -> Records:
        x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        spec = DataSpec("gaussian", "vector", (2,), features=("left", "right"))
        return Records(spec, {"x": x}, truth=GaussianTruth())


class Line(Source):
    """300 records with y = 3 x1 - x2 + noise of standard deviation 0.5, far from zero mean."""

    def load(self) -> Records:
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(300, 2, generator=draw)
        y = 40 + 3 * x[:, 0] - x[:, 1] + 0.5 * torch.randn(300, generator=draw)
        return Records(DataSpec("line", "vector", (2,), target="real"), {"x": x, "y": y})


class Fake(LightningModule):
    """No capability; the step does nothing."""

    def test_step(self, batch, batch_idx):
        pass

    def validation_step(self, batch, batch_idx):
        pass


class FakeEverything(Fake):
    """Every capability on pictures of 8 x 8: fixed random projections, and a standard normal."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(64, 10, generator=torch.Generator().manual_seed(3)))
        self.asked = 0

    def predict_log_proba(self, x):
        self.asked += 1
        return (x.flatten(1) @ self.weight).log_softmax(1)

    def embed(self, x):
        return x.flatten(1)

    def log_prob(self, x):
        return distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)

    def sample(self, n):
        return torch.randn(n, 1, 8, 8)


class FakeRegressor(Fake):
    """Exact for `Line`, up to standardisation."""

    def predict_distribution(self, x):
        return distributions.Normal(40 + 3 * x[:, 0] - x[:, 1], 0.5 + 0.1 * x[:, 0].abs())


def evaluate(method: LightningModule, data: DataModule, *evaluations: Evaluation, folder: Path, **trainer) -> dict:
    """One test pass -> the figures of all evaluations, without the stage."""
    runner = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(evaluations),
        **trainer,
    )
    assert runner.world_size == trainer.get("devices", 1)
    runner.test(method, datamodule=data, verbose=False)
    figures = {name: value for evaluation in evaluations for name, value in evaluation.figures.items()}
    return {name.removeprefix("test/"): value for name, value in figures.items()}


def all_figures(folder: Path, **trainer) -> dict[str, dict[str, float]]:
    """Every evaluation: on digits, on a split with one record, and on a regression.

    Batches of 71 records leave the last of 359 with 4, and every batch with unequal shares.
    """
    digits = LabelledData(Digits(), scale="symmetric", eval_batch_size=71)
    suite = (Classification(), Likelihood(limit=200), Samples(n=300), Embeddings(limit=500))
    one = LabelledData(Digits(), test=1 / 1797)
    few = (Classification(), Likelihood(), Samples(n=10), Embeddings(limit=100))
    line = LabelledData(Line(), scale="none", eval_batch_size=7)
    return {
        "digits": evaluate(FakeEverything(), digits, *suite, folder=folder, **trainer),
        "one": evaluate(FakeEverything(), one, *few, folder=folder, **trainer),
        "line": evaluate(FakeRegressor(), line, Regression(), folder=folder, **trainer),
    }


if __name__ == "__main__":
    out, processes, rank = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    result = all_figures(out, strategy="ddp", devices=processes)
    (out / f"figures{rank}.json").write_text(json.dumps(result))
    # Together and by hand: left to the interpreter's exit, the process that hosts the store can abort under load.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
