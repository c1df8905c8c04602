"""Rendered shapes with exact sentences, and combinations of colour and shape that are held out.

    <scene>  = <thing> | <thing> <relation> <thing> | <thing> <relation> <thing> <relation> <thing>
    <thing>  = a <size> <colour> <shape>
    <relation> = left of | above             the same in all of a scene, whose things are in one line

Of the 80 things, 10 are only in the test split and 10 only in the validation split, where each scene has at
least one of them beside the 60 things of the training split. In training each of their colours is seen with
their shape, in the other size, and each of their attributes with all values of the others but some. Places,
shades, background and noise are drawn at random, always from the same seed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from experiments.datasets import Splits
from experiments.datasets.captioned import Captioned

SIDE = 48
CELL = SIDE // 3
"""Pixels of a side of a cell: at most three things are in one row or column of cells."""

SIZES = {"small": 4.0, "large": 7.0}
"""Radii in pixels."""
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 220, 50),
    "purple": (150, 50, 180),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
Distance = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
SHAPES: dict[str, Distance] = {
    "circle": lambda x, y, r: r - np.hypot(x, y),
    "square": lambda x, y, r: 0.85 * r - np.maximum(abs(x), abs(y)),
    "triangle": lambda x, y, r: np.minimum(0.6 * r - y, 0.5 * (r + y) - 0.87 * abs(x)),
    "cross": lambda x, y, r: np.maximum(
        np.minimum(r - abs(x), 0.35 * r - abs(y)), np.minimum(0.35 * r - abs(x), r - abs(y))
    ),
    "ring": lambda x, y, r: np.minimum(r - np.hypot(x, y), np.hypot(x, y) - 0.5 * r),
}
"""Signed distances from the edge in pixels, positive within, of a shape of radius r."""

RELATIONS = ("left of", "above")
COUNTS = Splits((12_000,), (500,), (1_000,))
"""Scenes of the splits."""

HELD_OUT = {"small": {0: 2, 4: 1}, "large": {2: 2, 6: 1}}
"""Of each size, the diagonals of the table of shapes and colours that are of the splits 1 and 2."""

Choice = TypeVar("Choice")


class Thing(NamedTuple):
    """A thing of a scene."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


def things() -> Splits[Thing]:
    """The things of the training split, and those that only the validation and only the test split has."""
    parts: tuple[list[Thing], ...] = ([], [], [])
    for row, shape in enumerate(SHAPES):
        for column, colour in enumerate(COLOURS):
            diagonal = (column - row) % len(COLOURS)
            for size, held in HELD_OUT.items():
                parts[held.get(diagonal, 0)].append(Thing(size, colour, shape))
    return Splits(*map(tuple, parts))


def load() -> Splits[Captioned]:
    """Render the scenes."""
    known, valid, test = things()
    return Splits(
        *(
            tuple(scene(np.random.default_rng((part, number)), known, held) for number in range(count))
            for part, (held, (count,)) in enumerate(zip(((), valid, test), COUNTS, strict=True))
        )
    )


def scene(rng: np.random.Generator, known: Sequence[Thing], held: Sequence[Thing]) -> Captioned:
    """A scene of one to three things; one at least is held out, if there are any."""
    count = int(rng.integers(1, 4))
    chosen = [_draw(rng, [*known, *held]) for _ in range(count)]
    if held:
        chosen[int(rng.integers(count))] = _draw(rng, held)
    relation = int(rng.integers(2))
    along = np.sort(rng.permutation(3)[:count])
    across = np.full(count, rng.integers(3))
    cells = np.stack([along, across] if relation == 0 else [across, along], axis=1)  # [things, (x, y)]
    places = CELL * (cells + 0.5) + rng.uniform(-1, 1, (count, 2)) - 0.5
    sentence = f" {RELATIONS[relation]} ".join(map(str, chosen))
    return Captioned(sentence, render(rng, chosen, places), (sentence,))


def render(
    rng: np.random.Generator, things: Sequence[Thing], places: Float[np.ndarray, "things 2"]
) -> np.ndarray:
    """Draw things at places (x, y), uint8 ``[side, side, 3]``."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    canvas = np.full((SIDE, SIDE, 3), rng.uniform(95, 150), np.float32)
    for thing, place in zip(things, places, strict=True):
        radius = SIZES[thing.size] * rng.uniform(0.95, 1.05)
        distance = SHAPES[thing.shape](x - place[0], y - place[1], radius)
        cover = np.clip(distance + 0.5, 0, 1)[..., None]
        canvas += cover * (COLOURS[thing.colour] + rng.uniform(-10, 10, 3) - canvas)
    canvas += rng.normal(0, 5, (SIDE, SIDE, 1))
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _draw(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    return choices[int(rng.integers(len(choices)))]
