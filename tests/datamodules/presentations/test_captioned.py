"""Captions as words, and a captioner that rewrites them."""

from __future__ import annotations

import pytest
import torch
from lightning import Trainer

from compendium.errors import UserError
from datamodules.presentations.captioned import CaptionedPictures
from datamodules.presentations.tokenizers import Words
from datamodules.source import Captions, Records, Source
from datamodules.sources.digits import Digits
from datamodules.sources.scenes import Scenes
from datamodules.spec import DataSpec
from modules.language.captioner import ImageCaptioner

NET = {"_target_": "modules.networks.caption_decoder.CaptionDecoder", "width": 8, "depth": 1, "heads": 2}
SMALL = {"train": 64, "validation": 8, "test": 16}


class Told(Source):
    """Four pictures, the last one of the test, with words of their own."""

    texts = ("A dog, a cat!", "a dog", "two dogs", "a zebra")

    def load(self) -> Records:
        x = torch.arange(4)[:, None, None, None].expand(-1, 1, 4, 4) / 3
        splits = {"train": torch.arange(3), "test": torch.tensor([3])}
        spec = DataSpec("told", "image", (1, 4, 4), bounds=(0.0, 1.0))
        return Records(spec, {"x": x.clone()}, splits=splits, captions=Captions(self.texts))


def test_words_and_marks_are_ids_and_back():
    words = Words(["!", "a", "cat", "dog"])
    ids = words.encode("A dog, a cat!", 8)
    assert ids.tolist() == [3, 5, 1, 3, 4, 2, 0, 0]
    assert words.decode(ids) == "a dog \ufffd a cat !"
    assert words.encode("a dog a cat", 2).tolist() == [3, 5]
    assert words.decode(torch.tensor([-1, -1])) == ""


def test_the_vocabulary_is_that_of_the_training_captions():
    data = CaptionedPictures(Told(), validation=0.0)
    assert data.spec.words[2:] == ("!", ",", "a", "cat", "dog", "dogs", "two")
    assert data.spec.caption == 6
    batch = data.records("test")
    assert data.words.decode(batch.caption[0]) == "a \ufffd"
    assert batch.x.unique().tolist() == [1.0]
    assert DataSpec.of(data.spec.to_dict()) == data.spec
    short = CaptionedPictures(Told(), validation=0.0, longest=2)
    assert short.spec.caption == 2


def test_rows_and_captions_belong_together():
    data = CaptionedPictures(Scenes(**SMALL))
    for split in ("train", "test"):
        batch = data.records(split)
        figures = data.reader.judge((batch.x + 1) / 2, [data.words.decode(row) for row in batch.caption])
        assert (figures["count_accuracy"] == 1).all()


def checkpoint(tmp_path, spec, say=None):
    """A captioner that always says the same."""
    method = ImageCaptioner(spec, net=NET)
    if say is not None:
        torch.nn.init.zeros_(method.net.last.weight)
        method.net.last.bias.data = torch.nn.functional.one_hot(torch.tensor(say), len(spec.words)).float()
    trainer = Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path, accelerator="cpu")
    trainer.strategy.connect(method)
    trainer.save_checkpoint(tmp_path / "captioner.ckpt", weights_only=True)
    return str(tmp_path / "captioner.ckpt")


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_captioner_rewrites_the_training_captions_alone(tmp_path, share):
    plain = CaptionedPictures(Scenes(**SMALL))
    word = plain.spec.words.index("red")
    path = checkpoint(tmp_path, plain.spec, word)
    data = CaptionedPictures(Scenes(**SMALL), captioner=path, rewritten=share)
    said = data.records("train").caption
    assert int((said == word).all(1).sum()) == round(share * 64)
    assert torch.equal(data.records("test").caption, plain.records("test").caption)
    assert torch.equal(data.records("train").x, plain.records("train").x)


def test_the_captioner_may_know_other_words(tmp_path):
    """It was trained on scenes; the told pictures know none of its words, and learn them."""
    scenes = CaptionedPictures(Scenes(**SMALL, side=8))
    path = checkpoint(tmp_path, scenes.spec, scenes.spec.words.index("ring"))

    class Bigger(Told):
        def load(self) -> Records:
            records = super().load()
            records.columns = {"x": torch.zeros(4, 3, 8, 8)}
            records.spec = records.spec.but(shape=(3, 8, 8))
            return records

    data = CaptionedPictures(Bigger(), captioner=path, validation=0.0)
    assert data.spec.words[2:] == ("ring",)
    assert data.records("train").caption.unique().tolist() == [2]


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(UserError, match="'digits' has no captions"):
        CaptionedPictures(Digits()).setup()
    with pytest.raises(UserError, match="rewritten=2"):
        CaptionedPictures(Scenes(), rewritten=2)
    with pytest.raises(UserError, match="longest=0"):
        CaptionedPictures(Scenes(), longest=0)
    with pytest.raises(UserError, match=r"nothing\.ckpt"):
        CaptionedPictures(Scenes(**SMALL), captioner=str(tmp_path / "nothing.ckpt")).setup()
