"""Another source whose training records are wrongly labelled, or of rare and of frequent classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import known
from datamodules.sources.digits import Digits
from datamodules.sources.some_classes import indices_of
from datamodules.sources.tables import LOADERS, Table

NOISES = ("symmetric", "pair", "asymmetric")


class Flawed(Source):
    """The records of another source, some of whose training labels are wrong or whose classes differ in frequency.

    Labels of training records are drawn from the row of their class in the transition matrix T,
    T[i, j] = P(labelled j | of class i), independently of x:

    `symmetric`   1 - rate for i = j, rate / (C - 1) for every other class;
    `pair`        1 - rate for i = j, rate for the next class (the first one after the last);
    `asymmetric`  the same to the class that `flips` names; classes that it does not name keep their label.

    These are the laws of Patrini et al. 2017 and Han et al. 2018 (Co-teaching), by the code of the latter; in a
    symmetric law that draws from all C classes, as some write it, a rate r is r (C - 1) / C here.

    With an `imbalance` ratio r a training split has

        n_k = floor(n r^(-k / (C - 1))),    k = 0, ..., C - 1 in the order of the classes,

    records of class k, the profile of long-tailed CIFAR (Cui et al. 2019; Cao et al. 2019, by their code). n is the
    largest whole number for which there are enough records of each class, so that a source of unequal classes keeps
    the profile, too; r = 1 gives classes of one size. Frequencies are those of the true classes.

    Validation and test are as they were, of right labels and natural frequencies, and the same for any rate and ratio.
    Each is a share of the records that the source leaves unsplit, so that the DataModule's own shares play no part. A
    column `clean` int64 (N,) has the true classes of all records; presentations leave it to those who ask.

    Args:
        source: records with classes in memory, or their config, or by name an embedded set: `digits`, `wine`,
            `breast_cancer`.
        noise: `symmetric`, `pair` or `asymmetric`.
        rate: probability that a training label is wrong (of the classes that flip), in [0, 1]; 0.2 is the lower of the
            usual symmetric rates.
        flips: for asymmetric noise, class name to the name that it is taken for, such as
            {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}, that of Patrini et al. for MNIST.
        imbalance: r, at least 1; None: frequencies as they are.
        validation: share of the unsplit records, as in `DataModule`.
        test: likewise.
        seed: of splits, labels, and the choice of records.

    Raises:
        UserError: an unknown name, noise or class, numbers out of range, flips without asymmetric noise or the reverse,
            a class of which the ratio leaves no record.
    """

    def __init__(
        self,
        source: Source | Mapping[str, Any] | str = "digits",
        noise: str = "symmetric",
        rate: float = 0.2,
        flips: Mapping[Any, Any] | None = None,
        imbalance: float | None = None,
        validation: float = 0.1,
        test: float = 0.2,
        seed: int = 0,
    ) -> None:
        if isinstance(source, str):
            source = embedded(source)
        self.source: Source = instantiate(source, where="data.source") if isinstance(source, Mapping) else source
        self.noise = known(noise, NOISES, "data.noise", "noise")
        self.rate, self.imbalance, self.seed = rate, imbalance, seed
        self.flips = {str(true): str(given) for true, given in (flips or {}).items()}
        self.shares = {"test": test, "validation": validation}
        if bool(self.flips) != (noise == "asymmetric"):
            raise UserError(
                f"data.noise={noise} data.flips={self.flips}: asymmetric noise says which class is taken for which.",
                "data.noise=asymmetric 'data.flips={2: 7, 3: 8, 5: 6, 6: 5, 7: 1}'",
            )
        if not 0 <= rate <= 1 or (imbalance is not None and imbalance < 1):
            raise UserError(f"data.rate={rate} data.imbalance={imbalance}: a rate in [0, 1], a ratio of at least 1.")
        if min(test, validation) < 0 or test + validation >= 1:
            raise UserError(f"data.validation={validation} data.test={test} leave nothing to train on.")

    def load(self) -> Records:
        records = self.source.load()
        indices_of(records, ())
        y = records.columns["y"]
        assert isinstance(y, Tensor)
        splits = self.split(records)
        if self.imbalance is not None:
            splits["train"] = self.rarefied(splits["train"], y, records.spec.classes, self.imbalance)
        labels = y.clone()
        train = splits["train"]
        law = self.transition(records)[y[train]]
        labels[train] = law.multinomial(1, generator=generator(self.seed, "labels")).squeeze(1)
        spec = records.spec.but(name=f"flawed {records.spec.name}")
        columns = {**records.columns, "y": labels, "clean": y}
        return replace(records, spec=spec, columns=columns, splits=splits, truth=None)

    def transition(self, records: Records) -> Tensor:
        """The source's records -> T (C, C), float64, rows of the true and columns of the given class."""
        count = len(records.spec.classes)
        if self.noise == "symmetric":
            return symmetric(count, self.rate)
        if self.noise == "pair":
            return flipping(torch.arange(1, count + 1) % count, self.rate)
        taken = torch.arange(count)
        taken[indices_of(records, list(self.flips))] = torch.tensor(indices_of(records, list(self.flips.values())))
        return flipping(taken, self.rate)

    def split(self, records: Records) -> dict[str, Tensor]:
        """Row numbers per split: the source's own ones, and the missing ones cut from its training rows."""
        given = {name: rows for name, rows in records.splits.items() if len(rows)}
        pool = given.get("train", torch.arange(records.size))
        pool = pool[torch.randperm(len(pool), generator=generator(self.seed, "flawed"))]
        total = len(pool)
        for name, share in self.shares.items():
            if name not in given and share:
                given[name], pool = pool.tensor_split([round(share * total)])
        return {**given, "train": pool}

    @staticmethod
    def rarefied(rows: Tensor, y: Tensor, classes: tuple[str, ...], ratio: float) -> Tensor:
        """Rows (n,), in random order -> the first ones of each class, as many as the profile says."""
        counts = profile(torch.bincount(y[rows], minlength=len(classes)), ratio)
        if counts.min() < 1:
            raise UserError(
                f"data.imbalance={ratio} leaves no record of class {classes[int(counts.argmin())]} to train on.",
                "take a lower ratio, or a source of more records",
            )
        member = torch.nn.functional.one_hot(y[rows], len(classes))
        place = (member.cumsum(0) * member).sum(1)  # 1 for the first row of its class, 2 for the second, ...
        return rows[place <= counts[y[rows]]]


def embedded(name: str) -> Source:
    """A set that scikit-learn carries, by name.

    Raises:
        UserError: an unknown one, or one without classes.
    """
    names = ["digits", *(table for table in LOADERS if table != "diabetes")]
    known(name, names, "data.source", "embedded set with classes")
    return Digits() if name == "digits" else Table(name)


def symmetric(count: int, rate: float) -> Tensor:
    """T (C, C), float64: any other class is as likely as the next."""
    law = torch.full((count, count), rate / max(count - 1, 1), dtype=torch.float64)
    return law.fill_diagonal_(1 - rate)


def flipping(taken: Tensor, rate: float) -> Tensor:
    """For which class each is taken (C,), itself where it never is -> T (C, C), float64."""
    own = torch.eye(len(taken), dtype=torch.float64)
    return (1 - rate) * own + rate * own[taken]


def profile(available: Tensor, ratio: float) -> Tensor:
    """Records of each class that there are -> how many a long tail of that ratio has of each, int64 (C,) both."""
    place = torch.arange(len(available), dtype=torch.float64)
    share = ratio ** (-place / max(len(available) - 1, 1))
    # A hair above, as a share and its inverse need not multiply to a whole number.
    most = (available / share).min().floor()
    return torch.minimum((most * share + 1e-9).floor().long(), available)
