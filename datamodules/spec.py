"""What a method may know of its data before it sees a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Kind = Literal["image", "vector", "text"]
Target = Literal["class", "real", "mask", "points", "preference", "answer"]


@dataclass(frozen=True)
class DataSpec:
    """Shapes, classes, vocabulary and sizes of a data set: plain values that a checkpoint can hold.

    Attributes:
        name: the source's own name, for titles and messages.
        kind: what one record's `x` is: an `image` (channels, height, width), a `vector` (features,) or `text`.
        shape: shape of one `x` as the method receives it, without the batch dimension.
        target: what `y` is: a `class` index, a `real` number, or None where records carry no target. An `answer` goes
            with a prompt, a `preference` says which of two answers is better. A `mask` is a class index at every pixel;
            what else is known of such pictures stands in further columns of the source. `points` are places in a
            picture.
        classes: class names in the order of their indices; empty unless `target` is `class` or `mask`, where the first
            one is the background.
        features: column names of a `vector`; empty where they have none.
        levels: number of distinct values a component of `x` can take (17 for digits, 256 for 8-bit images);
            None for continuous data. Bits per dimension are only defined where it is set.
        bounds: lowest and highest value of `x` as the method receives it; None where it is unbounded.
        vocabulary: number of tokens of `text`, once a presentation has chosen the tokens.
        words: of captions, in the order of their ids: 0 fills captions up, 1 is any word that is not known; empty
            where there are no captions.
        caption: number of words to which captions are filled up; None where there are none.
        points: number of points that are known of each picture, where `target` is `points`.
        sources: number of sources that training records come from, where it is known of each which.
        sizes: number of records per split: `train`, `validation`, `test`.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    target: Target | None = None
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    levels: int | None = None
    bounds: tuple[float, float] | None = None
    vocabulary: int | None = None
    words: tuple[str, ...] = ()
    caption: int | None = None
    points: int | None = None
    sources: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def dimensions(self) -> int:
        """Number of components of one `x`."""
        product = 1
        for size in self.shape:
            product *= size
        return product

    def to_dict(self) -> dict[str, Any]:
        """The same values in lists, dicts and scalars, as `torch.load(weights_only=True)` reads them back."""
        plain = asdict(self)
        for key in ("shape", "classes", "features", "bounds", "words"):
            plain[key] = None if plain[key] is None else list(plain[key])
        plain["sizes"] = dict(self.sizes)
        return plain

    @classmethod
    def of(cls, spec: DataSpec | Mapping[str, Any]) -> DataSpec:
        """The spec itself, or the one that `to_dict` took apart."""
        if isinstance(spec, DataSpec):
            return spec
        values = dict(spec)
        for key in ("shape", "classes", "features", "bounds", "words"):
            if values.get(key) is not None:
                values[key] = tuple(values[key])
        return cls(**values)

    def but(self, **changes: Any) -> DataSpec:
        """A copy with some values changed, as a presentation does that reshapes or rescales."""
        return replace(self, **changes)
