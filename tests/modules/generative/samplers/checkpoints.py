"""Checkpoints of closed-form models, for the samplers and guidances that open one."""

from __future__ import annotations

import torch

from compendium.compose import compose
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.analytic_diffusion import AnalyticDiffusion


def fitted(x: torch.Tensor, folder, name: str = "gaussian", path: str = "vp", law: str = "gaussian"):
    """(model, checkpoint) of the law of some vectors x (N, D)."""
    values = compose(["model=generative/analytic_diffusion", f"path={path}", f"model.law={law}"]).values["model"]
    spec = DataSpec(name="records", kind="vector", shape=(x.shape[1],), sizes={"train": len(x)})
    model = AnalyticDiffusion(spec, **{key: value for key, value in values.items() if key != "_target_"})
    model.accumulate(Unlabelled(x))
    model.solve()
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / f"{name}.ckpt")
    return model, str(folder / f"{name}.ckpt")
