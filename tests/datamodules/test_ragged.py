"""Texts of different lengths as one column."""

from __future__ import annotations

import torch

from datamodules.ragged import Ragged


def test_rows_come_filled_up_to_the_longest_that_is_asked_for():
    column = Ragged([torch.tensor([5, 6, 7]), torch.tensor([], dtype=torch.int64), torch.tensor([8])])
    assert len(column) == 3
    assert column.lengths.tolist() == [3, 0, 1]
    assert column[torch.tensor([[0, 2], [2, 1]])].tolist() == [[[5, 6, 7], [8, 0, 0]], [[8, 0, 0], [0, 0, 0]]]
    assert column[torch.tensor([2])].tolist() == [[8]]
    assert column[torch.tensor([1])].shape == (1, 0)
    assert column[torch.tensor([], dtype=torch.int64)].shape == (0, 0)
    assert column[torch.tensor([0])].dtype == torch.int64
