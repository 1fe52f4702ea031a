"""The stream of tasks: each record once, each class where it belongs."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.presentations.class_incremental import ClassIncremental
from tests.datamodules.fakes import attach, numbered


def stream(**arguments) -> ClassIncremental:
    return ClassIncremental(numbered(1000, classes=10), drop_last=False, batch_size=16, **arguments)


@pytest.mark.parametrize(("blurry", "passes"), [(0.0, 1), (0.5, 1), (0.5, 3)])
def test_each_record_is_seen_once_per_pass_in_task_order(blurry, passes):
    data = stream(blurry=blurry, blurry_samples=0.2, epochs_per_task=passes)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader())
    assert all(len(batch.task.unique()) == 1 for batch in batches)
    order = [int(batch.task[0]) for batch in batches]
    assert order == sorted(order)
    assert set(order) == set(range(5))
    rows = torch.cat([batch.x.flatten() for batch in batches]).long()
    assert rows.bincount()[data.rows["train"]].tolist() == [passes] * len(data.rows["train"])
    assert sorted(torch.cat(data.tasks).tolist()) == sorted(data.rows["train"].tolist())
    assert torch.equal(torch.cat([batch.y for batch in batches]), rows % 10)


def test_disjoint_tasks_hold_their_own_classes():
    data = stream(tasks=3)
    data.setup()
    assert sorted(map(len, data.classes_of_task)) == [3, 3, 4]
    assert sorted(torch.cat(data.classes_of_task).tolist()) == list(range(10))
    for rows, classes in zip(data.tasks, data.classes_of_task, strict=True):
        assert set((rows % 10).tolist()) == set(classes.tolist())


def test_blurry_classes_send_the_declared_share_to_other_tasks():
    data = stream(blurry=0.5, blurry_samples=0.2)
    data.setup()
    owner = torch.empty(10, dtype=torch.long)
    for task, classes in enumerate(data.classes_of_task):
        owner[classes] = task
    rows = data.rows["train"]
    away = data.task_of_row[rows] != owner[rows % 10]
    shares = [(int(away[rows % 10 == c].sum()), round(0.2 * int((rows % 10 == c).sum()))) for c in range(10)]
    assert sum(moved == 0 for moved, _ in shares) == 5
    assert sum(moved == wanted for moved, wanted in shares if moved) == 5
    assert len(data.task_of_row[rows][away].unique()) == 5


def test_class_order_is_a_function_of_the_seed():
    orders = [torch.cat(made.classes_of_task).tolist() for made in map(prepared, (0, 0, 1))]
    assert orders[0] == orders[1] != orders[2]


def prepared(seed: int) -> ClassIncremental:
    data = stream(seed=seed)
    data.setup()
    return data


def test_shares_of_two_processes_make_up_the_stream():
    alone = [batch.x.flatten().tolist() for batch in attach(stream()).train_dataloader()]
    shares = [[b.x.flatten().tolist() for b in attach(stream(), rank, 2).train_dataloader()] for rank in (0, 1)]
    assert [first + second for first, second in zip(*shares, strict=True)] == alone


def test_evaluation_is_over_all_classes():
    data = stream()
    assert data.evaluation_batch_type is Labelled
    batch = next(iter(data.test_dataloader()))
    assert type(batch) is Labelled
    assert len(batch.y.unique()) == 10
    assert type(data.records("test")) is Labelled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": 11}, "has only 10 classes"),
        ({"tasks": 0}, "datamodule.tasks=0"),
        ({"epochs_per_task": 0}, "datamodule.epochs_per_task=0"),
        ({"blurry": 1.5}, "datamodule.blurry=1.5 is no share"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        stream(**arguments).setup()
