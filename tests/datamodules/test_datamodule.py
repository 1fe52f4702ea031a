"""Splits, order and shares of the parent of every presentation."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.datamodule import SPLITS, DataModule
from datamodules.presentations.unlabelled import UnlabelledData
from tests.datamodules.fakes import attach, numbered, text


class Rows(DataModule):
    """Row numbers as batches."""

    batch_type = Unlabelled

    def present(self, columns: dict[str, Tensor], split: str) -> Unlabelled:
        return Unlabelled(columns["x"])


class Noise(Rows):
    """Rows with noise in each split."""

    draws = SPLITS

    def present(self, columns: dict[str, Tensor], split: str) -> Unlabelled:
        return Unlabelled(columns["x"] + torch.rand_like(columns["x"]))


def seen(batches) -> list[list[int]]:
    return [batch[0].flatten().long().tolist() for batch in batches]


def test_splits_are_disjoint_and_cover_all_records():
    data = Rows(numbered(100), validation=0.15, test=0.25)
    assert dict(data.spec.sizes) == {"train": 60, "validation": 15, "test": 25}
    assert sorted(torch.cat(list(data.rows.values())).tolist()) == list(range(100))


def test_splits_of_the_source_are_kept_and_the_missing_one_is_cut_from_training():
    data = Rows(numbered(50, train=torch.arange(40), test=torch.arange(40, 50)), validation=0.25)
    assert data.spec.sizes == {"train": 30, "validation": 10, "test": 10}
    assert data.rows["test"].tolist() == list(range(40, 50))
    assert sorted(torch.cat([data.rows["train"], data.rows["validation"]]).tolist()) == list(range(40))


def test_order_is_a_function_of_seed_and_epoch():
    plans = {(seed, epoch): torch.cat(rows_of(seed).plan(epoch)).tolist() for seed in (0, 1) for epoch in (0, 1)}
    assert torch.cat(rows_of(0).plan(1)).tolist() == plans[0, 1]
    assert len({tuple(plan) for plan in plans.values()}) == 4
    assert sorted(plans[0, 0]) == sorted(plans[0, 1])


def rows_of(seed: int) -> Rows:
    data = Rows(numbered(64), seed=seed, batch_size=8, drop_last=False)
    data.setup()
    return data


@pytest.mark.parametrize(("drop_last", "count"), [(True, 4), (False, 5)])
def test_the_last_smaller_batch(drop_last, count):
    data = Rows(numbered(100), validation=0.2, test=0.3, batch_size=11, drop_last=drop_last)
    batches = seen(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == count
    rows = list(chain(*batches))
    assert len(rows) == len(set(rows)) == (44 if drop_last else 50)


def test_a_small_training_split_makes_one_batch():
    data = Rows(numbered(10), batch_size=128)
    assert [len(batch) for batch in seen(data.train_dataloader())] == [7]


@pytest.mark.parametrize("world", [2, 4])
def test_shares_make_up_the_global_batch(world):
    alone = seen(attach(Rows(numbered(100), batch_size=8), epoch=3).train_dataloader())
    shares = [
        seen(attach(Rows(numbered(100), batch_size=8), rank, world, 3).train_dataloader()) for rank in range(world)
    ]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_each_evaluation_record_is_seen_once(world, split):
    batches = []
    for rank in range(world):
        data = attach(Rows(numbered(101), eval_batch_size=8), rank, world)
        batches += seen(data.val_dataloader() if split == "validation" else data.test_dataloader())
    data.setup()
    assert sorted(chain(*batches)) == sorted(data.rows[split].tolist())


def test_evaluation_draws_do_not_depend_on_the_number_of_processes():
    alone = torch.cat([batch.x for batch in attach(Noise(numbered(40))).test_dataloader()])
    shares = [torch.cat([batch.x for batch in attach(Noise(numbered(40)), r, 2).test_dataloader()]) for r in range(2)]
    assert torch.equal(torch.cat(shares), alone)


def test_training_draws_differ_between_processes_and_epochs():
    noise = {
        (rank, epoch): next(iter(attach(Noise(numbered(80), batch_size=8), rank, 2, epoch).train_dataloader())).x.frac()
        for rank in (0, 1)
        for epoch in (0, 1)
    }
    assert len({tuple(value.flatten().tolist()) for value in noise.values()}) == 4


def test_an_epoch_that_was_interrupted_continues_with_the_same_batches():
    whole = [batch.x for batch in attach(Noise(numbered(80), batch_size=8), epoch=2).train_dataloader()]
    rest = [batch.x for batch in attach(Noise(numbered(80), batch_size=8), epoch=2, batch=3).train_dataloader()]
    assert len(rest) == len(whole) - 3
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[3:], strict=True))


def test_records_neither_depend_on_nor_move_the_random_state():
    data = Noise(numbered(40))
    torch.manual_seed(0)
    first, after = data.records("test").x, torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(data.records("test").x, first)
    assert len(data.records("train", 5).x) == 5


def test_a_changed_data_set_is_noticed_when_a_run_continues():
    before, after = Rows(numbered(80)), Rows(numbered(90))
    before.setup()
    after.setup()
    state = before.train_dataloader().state_dict()
    before.train_dataloader().load_state_dict(state)
    with pytest.raises(UserError, match="data changed since the checkpoint"):
        after.train_dataloader().load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 0.5, "test": 0.5}, "leave nothing to train on"),
        ({"validation": -0.1}, "leave nothing to train on"),
        ({"batch_size": 0}, "datamodule.batch_size=0"),
        ({"eval_batch_size": 0}, "datamodule.eval_batch_size=0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Rows(numbered(10), **arguments)


def test_a_batch_that_does_not_divide_among_processes_is_refused():
    data = attach(Rows(numbered(100), batch_size=9), 0, 2)
    with pytest.raises(UserError, match="does not divide among 2 processes"):
        data.train_dataloader()


def test_a_source_that_does_not_fit_is_told_what_would():
    class Classes(Rows):
        kinds = ("image",)
        targets = ("class",)

    with pytest.raises(UserError, match=r"needs image data with a class.*is vector data with no target") as error:
        Classes(numbered(10)).setup()
    assert "digits" in error.value.mend
    assert "ring" not in error.value.mend
    with pytest.raises(UserError, match="is text data"):
        Rows(text("words")).setup()


def test_transfer_keeps_the_type_of_the_batch():
    class Pair(NamedTuple):
        x: Tensor
        y: Tensor

    batch = Pair(torch.zeros(2), torch.ones(2))
    assert Rows(numbered(10)).transfer_batch_to_device(batch, torch.device("meta"), 0).y.is_meta


class ReadWhenAskedFor:
    """A column that is no tensor: its rows come on the CPU, whatever the training device is."""

    def __len__(self):
        return 40

    def __getitem__(self, rows):
        return rows.float()[:, None]


@pytest.mark.parametrize("split", SPLITS)
def test_batches_of_columns_that_are_read_when_asked_for_lie_on_the_training_device(split):
    source = numbered(40)
    source.records.columns = {"x": ReadWhenAskedFor()}
    data = attach(UnlabelledData(source, batch_size=8))
    data.trainer.strategy.root_device = torch.device("meta")  # a device that is not the CPU, on every machine
    loader = {"train": data.train_dataloader, "validation": data.val_dataloader, "test": data.test_dataloader}[split]
    assert {batch.x.device.type for batch in loader()} == {"meta"}
