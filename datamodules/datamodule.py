"""How a method wants the records: the parent of every presentation.

    records -> split -> plan(epoch): the rows of each batch -> present(columns): one named batch

Splits, order and augmentation are functions of the seed. Records that fit in memory are moved to the training device
once and indexed by whole batches; there are no workers and nothing is collated per sample. `batch_size` counts
records over all processes: each takes its share of the same global batch, so that 1 and N processes see the same
records in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from compendium.seeding import generator, seeded
from datamodules.fit import check_fit
from datamodules.ragged import Ragged
from datamodules.source import Column, Records, Source, Truth
from datamodules.spec import DataSpec

SPLITS = ("train", "validation", "test")


class DataModule(LightningDataModule):
    """Loads a source, splits it, and yields batches of one named type.

    A presentation sets the three class attributes and overrides `present`; `describe` too if it changes the shape or
    range of `x`, `prepare` if it fits something on the training split, `plan` if it orders the records in its own way,
    `take` if a row is no row of the columns.

    Args:
        source: where the records come from, or its config.
        batch_size: records in a training batch, over all processes; a smaller training split makes one batch.
        eval_batch_size: records in an evaluation batch, over all processes.
        validation: share of the records that the source leaves unsplit to validate on.
        test: share to test on.
        drop_last: leave out the last, smaller training batch. Methods that solve must see every record: False.
        seed: what split, order and augmentation are functions of.

    Raises:
        UserError: shares that leave a split empty, a source that this presentation cannot show.
    """

    batch_type: ClassVar[type]
    kinds: ClassVar[tuple[str, ...]] = ("image", "vector")
    targets: ClassVar[tuple[str | None, ...]] = (None, "class", "real", "mask", "points", "preference", "answer")
    draws: tuple[str, ...] = ()
    """Splits for which `present` draws random numbers, from torch's global state, seeded for it."""

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        batch_size: int = 128,
        eval_batch_size: int = 1024,
        validation: float = 0.1,
        test: float = 0.2,
        drop_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
            raise UserError(
                f"datamodule.validation={validation} and datamodule.test={test} leave nothing to train on.",
                "They are shares of the records: each at least 0, together below 1.",
            )
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise UserError(f"datamodule.{name}={value}: a batch holds at least one record.")
        self.source: Source = instantiate(source, where="data") if isinstance(source, Mapping) else source
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.shares = {"validation": validation, "test": test}
        self.drop_last = drop_last
        self.seed = seed
        self._records: Records | None = None
        self._spec: DataSpec | None = None
        self.rows: dict[str, Tensor] = {}
        self._placed: dict[torch.device, dict[str, Column]] = {}

    # What a presentation overrides

    def describe(self, spec: DataSpec) -> DataSpec:
        """The spec as a method receives the records, given the source's own."""
        return spec

    def prepare(self) -> None:
        """Fit what `present` needs (mean and scale, say) on `self.columns` and `self.rows["train"]`."""

    def present(self, columns: dict[str, Tensor], split: str) -> Any:
        """Columns of the rows of one batch, (B, ...) each -> a batch of `batch_type`."""
        raise NotImplementedError

    def plan(self, epoch: int) -> list[Tensor]:
        """Row numbers of each global training batch of one epoch, in order: int64 (batch_size,) each.

        Every epoch has the same number of batches.
        """
        rows = self.rows["train"]
        order = rows[torch.randperm(len(rows), generator=generator(self.seed, "order", epoch))]
        return self.cut(order)

    def evaluation_plan(self, split: str) -> list[Tensor]:
        """Row numbers of each global batch of `validation` or `test`, in order: int64 (eval_batch_size,) each."""
        rows = self.rows[split]
        return list(rows.split(self.eval_batch_size)) if len(rows) else []

    def take(self, columns: Mapping[str, Column], rows: Tensor, split: str) -> dict[str, Tensor]:
        """Rows (B,) of all columns (B, ...), as `present` gets them."""
        return {name: column[rows] for name, column in columns.items()}

    # What methods and evaluations use

    @property
    def evaluation_batch_type(self) -> type:
        """The type of the batches in validation and test, where it differs from training."""
        return self.batch_type

    @property
    def spec(self) -> DataSpec:
        """What the method may know of the data; loads the source on first use."""
        self.setup()
        assert self._spec is not None
        return self._spec

    @property
    def source_columns(self) -> Mapping[str, Column]:
        """All records, as the source gives them; empty for text."""
        self.setup()
        assert self._records is not None
        return self._records.columns

    def training_places(self) -> Tensor:
        """Which training record each record is, int64 (N,); -1 for those of other splits."""
        self.setup()
        assert self._records is not None
        place = torch.full((self._records.size,), -1)
        place[self.rows["train"]] = torch.arange(len(self.rows["train"]))
        return place

    @property
    def columns(self) -> Mapping[str, Column]:
        """All records, with what the presentation adds to the source's columns."""
        return self.source_columns

    @property
    def truth(self) -> Truth | None:
        """The exact law of the records, where it is known."""
        self.setup()
        assert self._records is not None
        return self._records.truth

    def records(self, split: str, limit: int | None = None) -> Any:
        """The first `limit` records of a split as one batch, presented as in evaluation."""
        self.setup()
        rows = self.rows[split][:limit]
        # A stream of its own: what `present` draws here neither depends on the run's random state nor moves it.
        with seeded(self.seed, "records", split):
            return self._presented(
                split if split != "train" else "validation", rows, self._columns_on(torch.device("cpu"))
            )

    # Loading and splitting

    def setup(self, stage: str | None = None) -> None:
        if self._records is not None:
            return
        records = self.source.load()
        self.check(records.spec)
        self._records = records
        self.rows = self.split(records)
        sizes = {split: len(rows) for split, rows in self.rows.items()}
        if not sizes["train"]:
            raise UserError(f"data '{records.spec.name}' has no record to train on ({sizes}).")
        self._spec = self.describe(records.spec).but(sizes=sizes)
        self.prepare()

    def check(self, spec: DataSpec) -> None:
        """Refuse a source that this presentation cannot show, and say which data would do."""
        mend = "if the file has a target: data.target=COLUMN" if spec.kind == "vector" and not spec.target else ""
        check_fit(spec, f"{type(self).__name__}, this model's presentation,", self.kinds, self.targets, mend)

    def split(self, records: Records) -> dict[str, Tensor]:
        """Row numbers per split: the source's own splits, and the missing ones cut from its training rows."""
        given = {name: rows for name, rows in records.splits.items() if len(rows)}
        pool = given.get("train", torch.arange(records.size))
        pool = pool[torch.randperm(len(pool), generator=generator(self.seed, "split"))]
        rows = {}
        total = len(pool)
        for name in ("test", "validation"):
            if name in given:
                rows[name] = given[name]
                continue
            count = round(total * self.shares[name])
            rows[name], pool = pool[:count], pool[count:]
        return {"train": pool, "validation": rows["validation"], "test": rows["test"]}

    # Batches

    def cut(self, order: Tensor) -> list[Tensor]:
        """Cut rows into batches of `batch_size`; the last, smaller one is dropped if `drop_last`."""
        batches = list(order.split(self.batch_size))
        if self.drop_last and len(batches) > 1 and len(batches[-1]) < self.batch_size:
            batches.pop()
        return batches

    def train_dataloader(self) -> Batches:
        return Batches(self, "train")

    def val_dataloader(self) -> Batches:
        return Batches(self, "validation")

    def test_dataloader(self) -> Batches:
        return Batches(self, "test")

    def predict_dataloader(self) -> Batches:
        return Batches(self, "test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch if batch[0].device == device else type(batch)(*(part.to(device) for part in batch))

    @property
    def share(self) -> tuple[int, int]:
        """(rank, number of processes) of the trainer that this DataModule is attached to."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _columns_on(self, device: torch.device) -> dict[str, Column]:
        if device not in self._placed:
            self._placed[device] = {
                name: column.to(device) if isinstance(column, Tensor | Ragged) else column
                for name, column in self.columns.items()
            }
        return self._placed[device]

    def _presented(self, split: str, rows: Tensor, columns: Mapping[str, Column]) -> Any:
        return self.present(self.take(columns, rows, split), split)


class Batches:
    """The batches of one split on this process, as Lightning iterates them.

    Training resumes in the middle of an epoch because the position is read from the trainer's own progress: there is
    no state here that could fall out of step with it.
    """

    def __init__(self, data: DataModule, split: str) -> None:
        self.data = data
        self.split = split
        data.setup()
        if split == "train":
            self._check_share()

    def _check_share(self) -> None:
        _, world = self.data.share
        if self.data.drop_last and self.data.batch_size % world:
            raise UserError(
                f"datamodule.batch_size={self.data.batch_size} does not divide among {world} processes.",
                f"It counts records over all processes: take a multiple of {world}.",
            )

    def _plan(self, epoch: int) -> list[Tensor]:
        if self.split == "train":
            return self.data.plan(epoch)
        return self.data.evaluation_plan(self.split)

    def _position(self) -> tuple[int, int]:
        """(epoch, batch) to begin with."""
        trainer = self.data.trainer
        if self.split != "train" or trainer is None:
            return 0, 0
        loop = trainer.fit_loop
        return trainer.current_epoch, loop.epoch_loop.batch_progress.current.completed

    def __len__(self) -> int:
        return len(self._plan(0))

    def __iter__(self) -> Iterator[Any]:
        data, split = self.data, self.split
        epoch, first = self._position()
        rank, world = data.share
        device = data.trainer.strategy.root_device if data.trainer else torch.device("cpu")
        columns = data._columns_on(device)
        plan = self._plan(epoch)
        draws = split in data.draws
        in_memory = all(isinstance(column, Tensor | Ragged) for column in columns.values())
        for number in range(first, len(plan)):
            rows = plan[number]
            # In training each process draws for its own share; in evaluation all draw for the whole batch and take
            # their share afterwards, so that the figures do not depend on the number of processes.
            if split == "train" and world > 1:
                rows = rows.tensor_split(world)[rank]
            if in_memory and rows.device != device:
                rows = rows.to(device, non_blocking=True)
            if draws:
                share = rank if split == "train" else 0
                with seeded(data.seed, "present", split, epoch, number, share):
                    batch = data._presented(split, rows, columns)
            else:
                batch = data._presented(split, rows, columns)
            if split != "train" and world > 1:
                batch = type(batch)(*(part.tensor_split(world)[rank] for part in batch))
            # Columns that are read when asked for come on the CPU; nobody after this loader moves a batch any more.
            yield data.transfer_batch_to_device(batch, device, 0)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint must agree on: the number of rows, and what orders them."""
        return {"rows": len(self.data.rows[self.split]), "batches": len(self), "seed": self.data.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state != self.state_dict():
            raise UserError(
                f"the data changed since the checkpoint was written: it had {state}, now there is {self.state_dict()}.",
                "Put the data back, or start again with resume=never.",
            )
