"""Pictures of a few shapes, with captions whose truth can be read off a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.datamodule import SPLITS
from datamodules.presentations.tokenizers import Words
from datamodules.source import Captions, Records, Source
from datamodules.sources.checks import known
from datamodules.spec import DataSpec

KINDS = ("square", "ring", "cross")
COLOURS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "white": (1.0, 1.0, 1.0),
}
COUNTS = ("a", "two", "three")
RELATIONS = ("left of", "right of", "above", "below")
SOME, AND = "some", "and"


class Scenes(Source):
    """Shapes in bright colours on black: one to three alike, or two that differ, one in a relation to the other.

    Captions are "a red square", "two red squares", "three red squares" or "a red square left of a blue ring". In
    validation and test they are all true, shapes keep a pixel of distance, and of a pair the relation is clear: seen
    from the other direction, the two boxes overlap by more than half of the smaller one.

    What training captions lack can be chosen, as alternative texts of the web lack it: a colour, a count ("some"
    instead) or a relation ("and" instead) is left out with probability `vague`, and what is said of colour, kind and
    relation is replaced by a random word with probability `wrong`. Without `clear`, pairs of the training pictures lie
    anywhere, perhaps on top of each other, and may be alike; the relation that is said is one of those that hold for
    their centres.

    Args:
        train: number of training pictures.
        validation: of validation pictures.
        test: of test pictures.
        side: of a picture, in pixels.
        sizes: smallest and largest side of a shape, in pixels, at least 3.
        grid: rows and columns at which shapes begin are multiples of it; 1 for anywhere.
        kinds: of shapes, from `KINDS`.
        colours: from `COLOURS`.
        pairs: share of pictures with a pair.
        vague: probability with which something is left out of a training caption.
        wrong: probability with which something else is said.
        clear: whether training pairs are as clear as those of the test.
        seed: what pictures and captions are functions of.

    Raises:
        UserError: unknown kinds or colours, no two shapes that differ, shares out of range, shapes that do not fit.
    """

    def __init__(
        self,
        train: int = 2000,
        validation: int = 100,
        test: int = 500,
        side: int = 8,
        sizes: Sequence[int] = (3, 3),
        grid: int = 4,
        kinds: Sequence[str] = KINDS,
        colours: Sequence[str] = ("red", "green", "blue"),
        pairs: float = 0.5,
        vague: float = 0.0,
        wrong: float = 0.0,
        clear: bool = True,
        seed: int = 0,
    ) -> None:
        self.counts = dict(zip(SPLITS, (train, validation, test), strict=True))
        for name, value in self.counts.items():
            if value < 1:
                raise UserError(f"data.{name}={value}: at least one picture.")
        for name, share in (("pairs", pairs), ("vague", vague), ("wrong", wrong)):
            if not 0 <= share <= 1:
                raise UserError(f"data.{name}={share}: a share, from 0 to 1.")
        self.kinds = tuple(known(name, KINDS, "data.kinds", "kind of shape") for name in kinds)
        self.colours = tuple(known(name, COLOURS, "data.colours", "colour") for name in colours)
        if len(self.kinds) * len(self.colours) < 2:
            raise UserError("data.kinds and data.colours leave no two shapes that differ.")
        self.side, self.sizes = side, (int(sizes[0]), int(sizes[-1]))
        if self.sizes[0] < 3 or not self.sizes[0] <= self.sizes[1] <= (side - 2) // 2:
            raise UserError(
                f"data.sizes={list(sizes)}: shapes have at least 3 pixels, and three fit into data.side={side} "
                f"with at most {(side - 2) // 2}."
            )
        if not 1 <= grid <= (side - self.sizes[1]):
            raise UserError(f"data.grid={grid}: at least 1 pixel, and shapes begin at two places or more.")
        self.grid = grid
        self.pairs, self.vague, self.wrong, self.clear, self.seed = pairs, vague, wrong, clear, seed

    def load(self) -> Records:
        # Test first, so that the row numbers of what is evaluated do not depend on how much there is to train on.
        order = ("test", "validation", "train")
        shapes, captions = [], []
        for split in order:
            layouts, texts = self.drawn(split)
            shapes.append(layouts)
            captions += texts
        layouts = torch.cat(shapes)
        spec = DataSpec("scenes", "image", (3, self.side, self.side), levels=2, bounds=(0.0, 1.0))
        rows = torch.arange(len(layouts)).split([self.counts[split] for split in order])
        return Records(
            spec,
            {"x": self.painted(layouts)},
            splits=dict(zip(order, rows, strict=True)),
            captions=Captions(captions, self.words(), [self.named(one) for one in layouts.tolist()], SceneReader(self)),
        )

    def words(self) -> list[str]:
        """All words of captions, true or not."""
        texts = [*COUNTS, *self.colours, *self.kinds, *RELATIONS, SOME, AND, *(plural(kind) for kind in self.kinds)]
        return sorted({word for text in texts for word in Words.split(text)})

    def drawn(self, split: str) -> tuple[Tensor, list[str]]:
        """Shapes int64 (N, 3, 5) of a split - kind, colour, top, left, side, and -1 for none - and their captions."""
        count, clear = self.counts[split], self.clear or split != "train"
        stream, chance = generator(self.seed, "scenes", split), generator(self.seed, "captions", split)
        paired = torch.rand(count, generator=stream) < self.pairs
        numbers = torch.where(paired, 2, torch.randint(1, 4, (count,), generator=stream))
        shapes = torch.full((count, 3, 5), -1)
        missing = torch.arange(count)
        while len(missing):
            shapes[missing] = self.tried(paired[missing], numbers[missing], stream)
            missing = missing[~self.fine(shapes[missing], paired[missing], clear)]
        vague, wrong = (self.vague, self.wrong) if split == "train" else (0.0, 0.0)
        texts = [
            self.caption(one, bool(pair), clear, vague, wrong, chance)
            for one, pair in zip(shapes.tolist(), paired, strict=True)
        ]
        return shapes, texts

    def tried(self, paired: Tensor, numbers: Tensor, stream: torch.Generator) -> Tensor:
        """Shapes anywhere, (N, 3, 5)."""
        n = len(paired)

        def draw(most: int, alike: bool) -> Tensor:
            drawn = torch.randint(most, (n, 3), generator=stream)
            return torch.where(paired[:, None], drawn, drawn[:, :1]) if alike else drawn

        side = self.sizes[0] + draw(self.sizes[1] - self.sizes[0] + 1, False)
        place = torch.rand(2, n, 3, generator=stream)
        top, left = (self.grid * (part * ((self.side - side) // self.grid + 1)).long() for part in place)
        shapes = torch.stack([draw(len(self.kinds), True), draw(len(self.colours), True), top, left, side], 2)
        return torch.where((torch.arange(3) < numbers[:, None])[..., None], shapes, -1)

    def fine(self, shapes: Tensor, paired: Tensor, clear: bool) -> Tensor:
        """Whether shapes (N, 3, 5) lie as they should, bool (N,)."""
        there = shapes[..., 0] >= 0
        _, _, top, left, side = shapes.unbind(2)
        fine = torch.ones(len(shapes), dtype=torch.bool)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            both = there[:, i] & there[:, j]
            down = overlap(top[:, i], side[:, i], top[:, j], side[:, j])
            across = overlap(left[:, i], side[:, i], left[:, j], side[:, j])
            apart = (down < 0) | (across < 0)  # at least one pixel lies between them
            fine &= ~both | apart | (paired & (not clear))
        if clear:
            shorter = side[:, :2].amin(1)
            down = overlap(top[:, 0], side[:, 0], top[:, 1], side[:, 1])
            across = overlap(left[:, 0], side[:, 0], left[:, 1], side[:, 1])
            differ = (shapes[:, 0, :2] != shapes[:, 1, :2]).any(1)
            fine &= ~paired | (differ & ((2 * down > shorter) | (2 * across > shorter)))
        return fine

    def caption(
        self, shapes: list[list[int]], pair: bool, clear: bool, vague: float, wrong: float, chance: torch.Generator
    ) -> str:
        """What is said of shapes [kind, colour, top, left, side]."""
        seen = [shape for shape in shapes if shape[0] >= 0]
        luck = torch.rand(9, generator=chance).tolist()
        picks = torch.randint(1 << 20, (5,), generator=chance).tolist()

        def thing(shape: list[int], count: int, luck: list[float], picks: list[int]) -> str:
            kind = self.kinds[picks[0] % len(self.kinds) if luck[0] < wrong else shape[0]]
            colour = self.colours[picks[1] % len(self.colours) if luck[1] < wrong else shape[1]]
            number = SOME if count > 1 and luck[2] < vague else COUNTS[count - 1]
            said = [number, *([] if luck[3] < vague else [colour]), kind if count == 1 else plural(kind)]
            return " ".join(said)

        if not pair:
            return thing(seen[0], len(seen), luck, picks)
        holding = relations(box_of(seen[0]), box_of(seen[1]))
        relation = holding[picks[4] % len(holding) if not clear else 0]
        if luck[8] < vague:
            relation = AND
        elif luck[8] > 1 - wrong * (1 - vague):
            relation = RELATIONS[picks[4] % len(RELATIONS)]
        return f"{thing(seen[0], 1, luck[:4], picks[:2])} {relation} {thing(seen[1], 1, luck[4:8], picks[2:4])}"

    def painted(self, shapes: Tensor) -> Tensor:
        """Shapes (N, M, 5) -> pictures float32 (N, 3, side, side); later shapes lie in front."""
        x = torch.zeros(len(shapes), 3, self.side, self.side)
        palette = torch.tensor([COLOURS[name] for name in self.colours])
        for shape in shapes.unbind(1):
            kind, colour, top, left, side = (part[:, None, None] for part in shape.unbind(1))
            place = torch.arange(self.side)
            filled = masks(place[:, None] - top, place - left, side)
            mask = torch.zeros_like(filled[0])
            for index, name in enumerate(self.kinds):
                mask |= (kind == index) & filled[KINDS.index(name)]
            x = torch.where(mask[:, None], palette[colour.flatten()][:, :, None, None], x)
        return x

    def named(self, shapes: list[list[int]]) -> list[tuple[str, tuple[float, float, float, float]]]:
        """Shapes [kind, colour, top, left, side] -> names and boxes."""
        return [
            (f"{self.colours[shape[1]]} {self.kinds[shape[0]]}", box_of(shape)) for shape in shapes if shape[0] >= 0
        ]


class Shape(NamedTuple):
    """A shape that was found in a picture; its centre in pixels from the upper left corner."""

    colour: str
    kind: str
    row: float
    column: float


class Asked(NamedTuple):
    """What a caption asks for: groups (count, colour, kind), and how the first lies to the second."""

    groups: tuple[tuple[int, str, str], ...]
    relation: str | None


class SceneReader:
    """Finds the shapes of a picture: what is connected in the nearest colour, and the kind whose pixels it shares most.

    Figures of a picture and its caption:

    - `attribute_accuracy`: share of the groups asked for of which there is a shape in that colour and of that kind.
    - `count_accuracy`: 1 if there are exactly as many of each as asked for, and else 0.
    - `count_error`: mean difference of what is there to what is asked for.
    - `position_accuracy`: 1 if the two are there and in that relation, by their centres, and else 0; of pairs alone.
    - `position_given_objects`: the same where the two are there.

    Nothing else in the picture is looked at. A caption that does not say count, colour and kind of all has NaN.

    Gokhale et al. 2022, "Benchmarking Spatial Relationships in Text-to-Image Generation" (VISOR), for the last two.

    Args:
        scenes: which kinds and colours there are.
        least: of the pixels of shape and found pixels together, the share that both have, so that it is one.
    """

    FIGURES = ("attribute_accuracy", "count_accuracy", "count_error", "position_accuracy", "position_given_objects")

    def __init__(self, scenes: Scenes, least: float = 0.6) -> None:
        self.kinds, self.colours, self.least = scenes.kinds, scenes.colours, least

    def judge(self, x: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:
        rows = [self.figures(found, self.asked(text)) for found, text in zip(self.read(x), texts, strict=True)]
        table = torch.tensor(rows, dtype=torch.float64).view(-1, len(self.FIGURES))
        return dict(zip(self.FIGURES, table.unbind(1), strict=True))

    def figures(self, found: list[Shape], asked: Asked | None) -> list[float]:
        """The figures of one picture, in the order of `FIGURES`."""
        if asked is None:
            return [torch.nan] * len(self.FIGURES)
        groups = [[one for one in found if (one.colour, one.kind) == tuple(group[1:])] for group in asked.groups]
        missed = [abs(len(there) - group[0]) for there, group in zip(groups, asked.groups, strict=True)]
        figures = [sum(map(bool, groups)) / len(groups), float(not any(missed)), sum(missed) / len(missed)]
        if asked.relation is None:
            return [*figures, torch.nan, torch.nan]
        if not all(groups):
            return [*figures, 0.0, torch.nan]
        right = float(all(holds(asked.relation, one, other) for one in groups[0] for other in groups[1]))
        return [*figures, right, right]

    def asked(self, text: str) -> Asked | None:
        """What a caption asks for; None if it leaves something open."""
        groups: list[tuple[int, str, str]] = []
        relation = next((name for name in RELATIONS if f" {name} " in text), None)
        singular = {plural(kind): kind for kind in self.kinds} | {kind: kind for kind in self.kinds}
        for part in text.split(f" {relation} ") if relation else [text]:
            words = part.split()
            if len(words) != 3 or words[0] not in COUNTS or words[1] not in self.colours or words[2] not in singular:
                return None
            groups.append((COUNTS.index(words[0]) + 1, words[1], singular[words[2]]))
        return Asked(tuple(groups), relation)

    def read(self, x: Tensor) -> list[list[Shape]]:
        """Pictures (n, 3, H, W) in [0, 1] -> the shapes in each."""
        from scipy.ndimage import find_objects, label

        palette = torch.tensor([(0.0, 0.0, 0.0), *(COLOURS[name] for name in self.colours)])
        distance = (x.float().cpu()[:, None] - palette[:, :, None, None]).square().sum(2)
        nearest = torch.where(distance.isfinite().all(1), distance.argmin(1), 0)
        pictures = []
        for picture in nearest.numpy():
            found = []
            for index, colour in enumerate(self.colours):
                parts, _ = label(picture == index + 1)
                for number, box in enumerate(find_objects(parts)):
                    kind = self.kind_of(torch.from_numpy(parts[box] == number + 1))
                    if kind is not None:
                        row, column = ((part.start + part.stop - 1) / 2 for part in box)
                        found.append(Shape(colour, kind, row, column))
            pictures.append(found)
        return pictures

    def kind_of(self, pixels: Tensor) -> str | None:
        """Connected pixels bool (h, w), as far as they reach -> their kind; None if they are none."""
        side = max(pixels.shape)
        if side < 3:
            return None
        whole = torch.zeros(side, side, dtype=torch.bool)
        whole[: pixels.shape[0], : pixels.shape[1]] = pixels
        place = torch.arange(side)
        kinds = masks(place[:, None], place, torch.tensor(side))
        shared = {
            name: float((whole & mask).sum() / (whole | mask).sum()) for name, mask in zip(KINDS, kinds, strict=True)
        }
        best = max(self.kinds, key=lambda name: shared[name])
        return best if shared[best] >= self.least else None


def masks(row: Tensor, column: Tensor, side: Tensor) -> tuple[Tensor, ...]:
    """Rows (..., H, 1) and columns (..., 1, W) within a shape of that side -> its pixels, of each of `KINDS`."""
    inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    border = (row == 0) | (row == side - 1) | (column == 0) | (column == side - 1)
    arms = ((2 * row - side + 1).abs() <= 1) | ((2 * column - side + 1).abs() <= 1)
    return inside, inside & border, inside & arms


def overlap(start: Tensor, length: Tensor, other_start: Tensor, other_length: Tensor) -> Tensor:
    """Pixels that two intervals share; below 0 those that lie between them."""
    return torch.minimum(start + length, other_start + other_length) - torch.maximum(start, other_start)


def plural(kind: str) -> str:
    """More than one of a kind."""
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def box_of(shape: Sequence[int]) -> tuple[float, float, float, float]:
    """[kind, colour, top, left, side] -> (left, top, width, height)."""
    return float(shape[3]), float(shape[2]), float(shape[4]), float(shape[4])


def relations(one: Sequence[float], other: Sequence[float]) -> list[str]:
    """Boxes (left, top, width, height) -> how the first lies to the second by their centres, the farther way first."""
    across = one[0] + one[2] / 2 - other[0] - other[2] / 2
    down = one[1] + one[3] / 2 - other[1] - other[3] / 2
    named = [(abs(across), "left of" if across < 0 else "right of"), (abs(down), "above" if down < 0 else "below")]
    return [name for distance, name in sorted(named, reverse=True) if distance] or [RELATIONS[0]]


def holds(relation: str, one: Shape, other: Shape) -> bool:
    """Whether the centre of a shape lies so to that of another."""
    return {
        "left of": one.column < other.column,
        "right of": one.column > other.column,
        "above": one.row < other.row,
        "below": one.row > other.row,
    }[relation]
