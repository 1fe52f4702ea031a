"""Captions of pictures, word by word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from compendium.restore import read_checkpoint
from datamodules.batches import Captioned
from datamodules.spec import DataSpec
from modules.method import Method


class ImageCaptioner(Method):
    """p(w_1 ... w_T | x) = prod_t p(w_t | x, w_<t) of the words w of a picture's caption, trained by likelihood.

    loss = -mean over the words, and what fills the caption up, of ln p(w_t | x, w_<t), nats per word (Vinyals et al.
    2015, "Show and Tell").

    `caption` says the most probable word each time, up to the first that is none.

    Args:
        spec: pictures with captions.
        model: checkpoint of an `ImageCaptioner` to begin with, of the same network and words; None: new weights. So
            one that has read the captions of a whole corpus is tuned on a few good ones.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: records without captions, a checkpoint that does not fit.
    """

    batch_type = Captioned
    kinds = ("image",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], model: str | None = None, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not self.spec.words:
            raise UserError(f"'{self.spec.name}' is shown without captions.", "choose datamodule=captioned")
        self.net = self.build(self.spec.shape, (len(self.spec.words),))
        if model is not None:
            self.restore(read_checkpoint(model, "cpu")["state_dict"], model)
            self.hparams["model"] = None  # the weights are its own from here on

    def loss(self, batch: Captioned) -> Tensor:
        logits = self.net(batch.x, batch.caption[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch.caption.flatten())

    @torch.no_grad()
    def caption(self, x: Tensor) -> Tensor:
        """Pictures (n, ...) -> captions int64 (n, T), 0 after the last word."""
        said = torch.zeros(len(x), 0, dtype=torch.long, device=x.device)
        going = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for _ in range(self.spec.caption or 1):
            word = torch.where(going, self.net(x, said)[:, -1].argmax(1), 0)
            going &= word > 0
            said = torch.cat([said, word[:, None]], 1)
        return said
