"""A linear problem of two classes, and teachers that know it in part."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, known, split_sizes
from datamodules.spec import DataSpec

LABELS = ("truth", "student", "strong", "weak")


class Teachers(Source):
    """x ~ N(0, I), and the class is [<w, x> > 0]. A teacher says [<u, x> > 0] with u at a cosine from w:

        u = cosine w + sqrt(1 - cosine^2) e,     e uniform on the unit sphere across w, one for each teacher

    and so errs on a share arccos(cosine) / pi of the records. In high dimension the errors of two are all but
    unrelated (Geng et al. 2025, section 6, from memory).

    Columns: `x` float32 (N, D); `y` int64 (N,), the class, which in training is what `labels` names; `chosen` and
    `rejected` int64 (N,), what the strong and the weak teacher say.

    Args:
        dimensions: D, at least 2; the paper's figure has 500, from memory.
        student: cosine of the student, in (-1, 1).
        strong: of the better teacher.
        weak: of the worse one.
        labels: whose classes the training records carry: `truth`, `student`, `strong` or `weak`.
        train: records.
        validation: records.
        test: records.
        seed: what all is a function of.

    Raises:
        UserError: a value out of range, or an unknown word.
    """

    def __init__(
        self,
        dimensions: int = 100,
        student: float = 0.8,
        strong: float = 0.6,
        weak: float = 0.2,
        labels: str = "truth",
        train: int = 10000,
        validation: int = 10000,
        test: int = 20000,
        seed: int = 0,
    ) -> None:
        self.cosines = {"student": student, "strong": strong, "weak": weak}
        if dimensions < 2 or any(not -1 < cosine < 1 for cosine in self.cosines.values()):
            raise UserError(
                f"data.dimensions={dimensions} data.student={student} data.strong={strong} data.weak={weak}: "
                "at least 2, and in (-1, 1)."
            )
        self.labels = known(labels, LABELS, "data.labels", "label")
        self.sizes = split_sizes(train, validation, test)
        self.dimensions, self.seed = dimensions, seed

    def directions(self) -> dict[str, Tensor]:
        """w and the others' u (D,), float64, of length 1."""
        draw = generator(self.seed, "teachers")
        truth, *others = torch.randn(4, self.dimensions, generator=draw, dtype=torch.float64)
        truth = truth / truth.norm()
        found = {"truth": truth}
        for (name, cosine), other in zip(self.cosines.items(), others, strict=True):
            across = other - (other @ truth) * truth
            found[name] = cosine * truth + (1 - cosine**2) ** 0.5 * across / across.norm()
        return found

    def load(self) -> Records:
        draw = generator(self.seed, "teachers records")
        x = torch.randn(sum(self.sizes.values()), self.dimensions, generator=draw)
        says = {name: (x.double() @ direction > 0).long() for name, direction in self.directions().items()}
        splits = consecutive(self.sizes)
        y = says["truth"].clone()
        y[splits["train"]] = says[self.labels][splits["train"]]
        columns = {"x": x, "y": y, "chosen": says["strong"], "rejected": says["weak"]}
        spec = DataSpec("teachers", "vector", (self.dimensions,), target="class", classes=("below", "above"))
        return Records(spec, columns, splits=splits)
