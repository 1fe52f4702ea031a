"""scikit-learn's embedded tables."""

from __future__ import annotations

import torch

from datamodules.source import Records, Source
from datamodules.sources.checks import known
from datamodules.spec import DataSpec

LOADERS = {"wine": "load_wine", "breast_cancer": "load_breast_cancer", "diabetes": "load_diabetes"}


class Table(Source):
    """A small table that scikit-learn carries, in the columns' own units.

    `wine` has 178 records of 13 chemical measurements in 3 cultivars, `breast_cancer` 569 records of 30 measurements
    in 2 diagnoses, `diabetes` 442 patients with 10 measurements and the progress of the disease after a year, a real
    number from 25 to 346 (Efron et al. 2004; the unscaled table, not the normalized one that scikit-learn defaults to).

    Args:
        name: `wine`, `breast_cancer` or `diabetes`.

    Raises:
        UserError: an unknown name.
    """

    def __init__(self, name: str) -> None:
        self.name = known(name, LOADERS, "data.name", "table")

    def load(self) -> Records:
        from sklearn import datasets

        arguments = {"scaled": False} if self.name == "diabetes" else {}
        data = getattr(datasets, LOADERS[self.name])(**arguments)
        classes = tuple(str(name) for name in data.get("target_names", ()))
        y = torch.from_numpy(data.target)
        spec = DataSpec(
            name=self.name,
            kind="vector",
            shape=(data.data.shape[1],),
            target="class" if classes else "real",
            classes=classes,
            features=tuple(str(name) for name in data.feature_names),
        )
        return Records(spec, {"x": torch.from_numpy(data.data).float(), "y": y.long() if classes else y.float()})
