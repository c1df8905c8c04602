"""Inks as a network writes them: steps between the corners of their strokes, in units of the word's size.

The unit, a letter of ink, is the length of a word's ink divided by the number of its letters, a little more
than the height of a letter with an ascender. Each stroke is simplified to the corners of a polygonal line,
nowhere further than a tolerance from it (Ramer 1972; Douglas and Peucker 1973): about seven for each letter,
in place of about forty points of a tablet.

A tablet's points are integers, and a density of integers has no upper bound: uniform noise of one unit of the
tablet is added to each, so that the negative log-likelihood bounds that of the integers from above (Theis,
van den Oord and Bethge 2016, arXiv:1511.01844).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import shapely
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from experiments.datasets.ink import Ink, of_strokes

FEATURES = 4
"""Of each corner: the step to it in x and in y, whether a stroke ends there, whether a word begins there."""

BETWEEN = 4
"""Points of a smooth curve for each corner."""

Path = Float[np.ndarray, "points 4"]


class Word(NamedTuple):
    """A word and how it was written."""

    text: str
    path: Path
    """float32 ``[points, 4]``: step in x and y from the point before, 0 for the first; 1 at the end of a
    stroke; 1 for the first point."""
    writer: str


def words(inks: Sequence[Ink], tolerance: float, rounded: bool = True, seed: int = 0) -> list[Word]:
    """The paths of inks with texts, in units of their own sizes.

    Args:
      inks: each with a label of at least one letter, spaces not counted.
      tolerance: the largest distance of a stroke from its simplified line, in units.
      rounded: points are integers, as tablets give them, and get noise for what was rounded off; the unit is
        then at least 1.
      seed: of the noise.
    """
    random, width = np.random.default_rng(seed), 0.5 if rounded else 0.0
    strokes, owner, units = [], [], []
    for number, ink in enumerate(inks):
        own = [_distinct(stroke.astype(np.float64)) for stroke in ink.strokes]
        strokes += own
        owner += [number] * len(own)
        units.append(max(unit(own, ink.label), 1.0 if rounded else 0.0))
    scale = np.array(units)[owner]
    scaled = [
        (stroke + random.uniform(-width, width, stroke.shape)) / each
        for stroke, each in zip(strokes, scale, strict=True)
    ]
    corners = simplified(scaled, tolerance)
    found: list[list[np.ndarray]] = [[] for _ in inks]
    for number, stroke in zip(owner, corners, strict=True):
        found[number].append(stroke)
    return [Word(ink.label, path(own), ink.writer) for ink, own in zip(inks, found, strict=True)]


def unit(strokes: Iterable[np.ndarray], text: str) -> float:
    """The length of the strokes for each letter of the text; 1 if they have no length."""
    length = sum(float(np.linalg.norm(np.diff(stroke, axis=0), axis=1).sum()) for stroke in strokes)
    return length / max(len(text.replace(" ", "")), 1) or 1.0


def _distinct(stroke: np.ndarray) -> np.ndarray:
    """Without points that equal the one before."""
    return stroke[np.r_[True, (np.diff(stroke, axis=0) != 0).any(axis=1)]]


def simplified(strokes: Sequence[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """The corners of strokes ``[points, 2]``; the first and the last point of each are kept."""
    lines = [stroke if len(stroke) > 1 else np.repeat(stroke, 2, axis=0) for stroke in strokes]
    lengths = [len(line) for line in lines]
    made = shapely.linestrings(np.concatenate(lines), indices=np.repeat(np.arange(len(lines)), lengths))
    # Without the preservation of topology, which is slow: strokes may cross themselves.
    corners, owner = shapely.get_coordinates(
        shapely.simplify(made, tolerance, preserve_topology=False), return_index=True
    )
    parts = np.split(corners, np.flatnonzero(np.diff(owner)) + 1)
    return [part if len(stroke) > 1 else part[:1] for stroke, part in zip(strokes, parts, strict=True)]


def path(strokes: Sequence[np.ndarray]) -> Path:
    """The path of strokes ``[points, 2]``, at least one of which has a point."""
    points = np.concatenate(strokes)
    found = np.zeros((len(points), FEATURES), np.float32)
    found[1:, :2] = np.diff(points, axis=0)
    found[np.cumsum([len(stroke) for stroke in strokes]) - 1, 2] = 1
    found[0, 3] = 1
    return found


def ink(word: Word) -> Ink:
    """The ink of a path, in its units, beginning at 0; smooth curves go through its corners."""
    points = np.cumsum(word.path[:, :2], axis=0)
    ends = np.flatnonzero(word.path[:, 2] > 0)
    strokes = [smooth(stroke) for stroke in np.split(points, ends + 1) if len(stroke)]
    return of_strokes(strokes, word.text, word.writer)


def smooth(stroke: np.ndarray) -> np.ndarray:
    """A curve through the points of a stroke, monotone where they are (Fritsch and Butland 1984)."""
    if len(stroke) < 3:
        return stroke
    # Centripetal: by the roots of distances, so that short steps beside long ones make no loops.
    along = np.cumsum(np.sqrt(np.linalg.norm(np.diff(stroke, axis=0), axis=1)) + 1e-6)
    knots = np.concatenate([[0], along])
    places = np.unique(np.concatenate([knots, np.linspace(0, along[-1], BETWEEN * len(stroke))]))
    return PchipInterpolator(knots, stroke)(places)
