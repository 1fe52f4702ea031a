"""Small folders of pictures and captions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.captioned import CaptionedPictures
from datamodules.sources.captioned_folder import CaptionedFolder

pil = pytest.importorskip("PIL.Image")
GREYS = {"black.png": 0, "grey.png": 51, "white.png": 255}


def folder(path, texts, field="text", more=()):
    """Pictures of 6 x 4 pixels in one grey, and a line for each of `texts`."""
    path.mkdir(parents=True)
    for name, grey in GREYS.items():
        pil.fromarray(np.full((4, 6, 3), grey, dtype=np.uint8)).save(path / name)
    lines = [json.dumps({"file_name": name, field: text}) for name, text in texts.items()]
    (path / "metadata.jsonl").write_text("\n".join([*lines, *more]) + "\n\n", encoding="utf-8")
    return str(path)


def test_lines_of_the_file_are_records_and_other_pictures_are_left_out(tmp_path):
    path = folder(tmp_path / "a", {"white.png": "Snow.", "grey.png": "fog"})
    records = CaptionedFolder(path, size=4).load()
    assert records.captions.texts == ["Snow.", "fog"]
    x = records.columns["x"][torch.arange(2)]
    assert x.shape == (2, 3, 4, 4)
    torch.testing.assert_close(x.mean((1, 2, 3)), torch.tensor([1.0, 0.2]))
    assert not records.splits


def test_splits_and_what_the_presentation_makes_of_them(tmp_path):
    folder(tmp_path / "b" / "train", {"white.png": "a Snow man", "black.png": "a night"}, field="caption")
    folder(tmp_path / "b" / "test", {"grey.png": "a night fog"}, field="caption")
    source = CaptionedFolder(str(tmp_path / "b"), size=4, text="caption")
    data = CaptionedPictures(source, validation=0.0)
    assert data.spec.words[2:] == ("a", "man", "night", "snow")
    batch = data.records("test")
    assert data.words.decode(batch.caption[0]) == "a night \ufffd"
    torch.testing.assert_close(batch.x.mean(), torch.tensor(-0.6))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('{"file_name": "black.png"', "line 2 is no JSON"),
        ('{"file_name": "black.png", "caption": "x"}', "line 2 has no text in the field 'text'"),
        ('["black.png"]', "line 2 has no text in the field 'file_name'"),
        ('{"file_name": "red.png", "text": "x"}', "line 2: there is no picture"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, more, message):
    path = folder(tmp_path / "c", {"white.png": "snow"}, more=[more])
    with pytest.raises(UserError, match=message):
        CaptionedFolder(path).load()


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        CaptionedFolder(str(tmp_path / "nowhere")).load()
    path = folder(tmp_path / "d", {})
    with pytest.raises(UserError, match="holds no records"):
        CaptionedFolder(path).load()
    with pytest.raises(UserError, match=r"data\.metadata"):
        CaptionedFolder(path, metadata="captions.jsonl").load()
    with pytest.raises(UserError, match=r"data\.size=0"):
        CaptionedFolder(path, size=0)
