"""What a model says of each test record, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback

from callbacks.evaluation.base import Evaluation
from compendium.run import replacing, short
from modules.capabilities import Classifier, Density, Encoder, Regressor


class Predictions(Callback):
    """`run=predict` writes `predictions.npz`: one row per test record, in the order of the split.

    By capability: `probability` and `class` of a classifier, `mean` and `std` of a regressor, `embedding` of an
    encoder, `log_prob` of a density; `row`, the record's number in the source, and `target` where there is one.
    """

    def on_predict_start(self, trainer, pl_module):
        self.parts: dict[str, list[torch.Tensor]] = {}

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        x = batch[0]
        found: dict[str, Any] = {}
        with torch.no_grad():
            if isinstance(pl_module, Classifier):
                found["probability"] = pl_module.predict_log_proba(x).exp()
                found["class"] = found["probability"].argmax(1)
            if isinstance(pl_module, Regressor):
                law = pl_module.predict_distribution(x)
                found |= {"mean": law.mean, "std": law.stddev}
            if isinstance(pl_module, Encoder):
                found["embedding"] = pl_module.embed(x)
            if isinstance(pl_module, Density):
                found["log_prob"] = pl_module.log_prob(x)
        if hasattr(batch, "y"):
            found["target"] = batch.y
        for name, value in found.items():
            self.parts.setdefault(name, []).append(value.cpu())

    def on_predict_end(self, trainer, pl_module):
        data = trainer.datamodule
        rank, world = data.share
        rows = data.rows["test"].split(data.eval_batch_size)
        mine = torch.cat([part.tensor_split(world)[rank] for part in rows]) if rows else torch.empty(0)
        columns = {"row": mine} | {name: torch.cat(parts) for name, parts in self.parts.items()}
        gathered = {name: Evaluation.rows_of_all(column) for name, column in columns.items()}
        if trainer.global_rank:
            return
        place = {int(row): index for index, row in enumerate(data.rows["test"])}
        order = np.argsort([place[int(row)] for row in gathered["row"]])
        path = Path(trainer.default_root_dir) / "predictions.npz"
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                **{
                    name: column.float().numpy()[order] if column.is_floating_point() else column.numpy()[order]
                    for name, column in gathered.items()
                },
            )
        print(f"predictions of {len(order)} records: {short(path)} ({', '.join(gathered)})")
