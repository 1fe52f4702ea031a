"""The likelihood of captions by hand, and what is said word by word."""

from __future__ import annotations

import math

import pytest
import torch
from lightning import Trainer
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Captioned
from datamodules.spec import DataSpec
from modules.language.captioner import ImageCaptioner

SPEC = DataSpec("told", "image", (1, 4, 4), bounds=(-1.0, 1.0), words=("", "?", "a", "b"), caption=3)
NET = {"_target_": "modules.networks.caption_decoder.CaptionDecoder", "patch": 2, "width": 8, "depth": 1, "heads": 2}


class Chain(nn.Module):
    """Logits of the next word by the one before alone; the first by the brightness of the picture."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(torch.tensor(table))

    def forward(self, x, caption):
        first = torch.where(x.mean((1, 2, 3)) > 0, 2, 3)[:, None]
        return self.table[torch.cat([first, caption], 1)]


# After a (and of bright pictures) most likely a b, after b (and of dark ones) nothing.
CHAIN = [[5.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1.0, 2.0], [3.0, 0, 0, 0]]


def test_the_most_probable_word_each_time_up_to_none():
    method = ImageCaptioner(SPEC, net=Chain(CHAIN))
    x = torch.stack([torch.ones(1, 4, 4), -torch.ones(1, 4, 4)])
    assert method.caption(x).tolist() == [[3, 0, 0], [0, 0, 0]]
    again = ImageCaptioner(SPEC, net=Chain([CHAIN[0], CHAIN[1], [0.0, 0, 2, 1], CHAIN[3]]))
    assert again.caption(x).tolist() == [[2, 2, 2], [0, 0, 0]]


def test_the_loss_is_the_mean_over_words_of_their_information():
    method = ImageCaptioner(SPEC, net=Chain(CHAIN))
    batch = Captioned(torch.ones(1, 1, 4, 4), torch.tensor([[2, 3, 0]]))
    after_a = [math.exp(logit) for logit in CHAIN[2]]
    after_b = [math.exp(logit) for logit in CHAIN[3]]
    wanted = [after_a[2] / sum(after_a), after_a[3] / sum(after_a), after_b[0] / sum(after_b)]
    expected = -sum(map(math.log, wanted)) / 3
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_it_begins_with_the_weights_of_a_checkpoint(tmp_path):
    first = ImageCaptioner(SPEC, net=NET)
    trainer = Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path, accelerator="cpu")
    trainer.strategy.connect(first)
    trainer.save_checkpoint(tmp_path / "first.ckpt", weights_only=True)
    second = ImageCaptioner(SPEC, model=str(tmp_path / "first.ckpt"), net=NET)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert second.hparams["model"] is None
    with pytest.raises(UserError, match="does not fit"):
        ImageCaptioner(SPEC.but(words=("", "?")), model=str(tmp_path / "first.ckpt"), net=NET)


def test_records_without_captions_are_refused():
    with pytest.raises(UserError, match="without captions"):
        ImageCaptioner(SPEC.but(words=()), net=NET)
