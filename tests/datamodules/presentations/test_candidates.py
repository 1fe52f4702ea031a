"""Candidates know which training record they are."""

from __future__ import annotations

import torch

from datamodules.presentations.candidates import CandidateData
from datamodules.sources.black_boxes import BlackBox


def test_the_whole_pool_in_one_batch_with_its_rows():
    data = CandidateData(BlackBox(train=50, validation=7, test=5), batch_size=4096, drop_last=False)
    (batch,) = data.train_dataloader()
    assert sorted(batch.row.tolist()) == list(range(50))
    own = data.rows["train"][batch.row]
    assert torch.equal(batch.y, data.columns["y"][own])
    torch.testing.assert_close(batch.x, data.scaling(data.columns["x"][own]))
    assert data.records("test").row.tolist() == [-1] * 5
