"""The path of an ink as the network reads it: straightened, of one size, its points equally far apart.

Graves et al. 2009 (IEEE TPAMI 31(5)) correct slope and size of a line of text by its base line and corpus
line, which are fitted to minima and maxima of the path. A word is too short for that: here a line through all
of its points gives the slope, and the deviation of its points from that line the size.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from experiments.datasets.ink import Ink

SPACING = 0.3
"""Distance of points along a stroke, in standard deviations of y: about a seventh of a small letter."""

STEEPEST = 0.5
"""Slopes beyond this are not taken for a direction of writing."""

WIDEST = 25.0
"""An ink that is much wider than high, such as a dash, is scaled to be so many units wide."""


def normalise(inks: Sequence[Ink], straighten: bool) -> list[Float[np.ndarray, "points 3"]]:
    """Normalise slope (if ``straighten``), size and distance of points.

    The regression line of a word that is at least twice as wide as high becomes horizontal, unless it is
    steeper than `STEEPEST`. Then y is standardized along the path, and strokes are resampled to steps of
    `SPACING` or a little less, their ends kept. A stroke without length is one point.

    Args:
      inks: at least one.
      straighten: whether inks are words: letters and digits have no direction of writing.

    Returns:
      For each ink float32 ``[points, 3]``: x and y in standard deviations of y along the path, with the
      centre of the path at 0, and 1 for the first point of a stroke.
    """
    points = np.concatenate([ink.points for ink in inks]).astype(np.float64)
    starts = np.concatenate([np.roll(ink.pen_up, 1) for ink in inks])
    owner = np.repeat(np.arange(len(inks)), [len(ink.points) for ink in inks])
    distinct = starts | np.r_[True, (np.diff(points, axis=0) != 0).any(axis=1)]
    points, starts, owner = points[distinct], starts[distinct], owner[distinct]

    step = np.where(starts[:, None], 0, np.diff(points, axis=0, prepend=points[:1]))
    length = np.linalg.norm(step, axis=1)
    weight = np.maximum(length, 1e-9)  # of dots, too, so that an ink of nothing else has a centre
    middle = points - step / 2

    def mean(values: np.ndarray) -> np.ndarray:
        """The mean along the path of each ink, ``[inks]``."""
        return np.bincount(owner, weight * values) / np.bincount(owner, weight)

    centre = np.column_stack([mean(column) for column in middle.T])[owner]
    points, middle = points - centre, middle - centre
    # Second moments of a piece: those of its middle, and those around it.
    variance, covariance, height = (
        mean(middle[:, i] * middle[:, j] + step[:, i] * step[:, j] / 12) for i, j in ((0, 0), (0, 1), (1, 1))
    )
    extent = _extent(points, owner)
    if straighten:
        slope = covariance / np.maximum(variance, 1e-9)
        slope[(extent[:, 0] < 2 * extent[:, 1]) | (np.abs(slope) > STEEPEST)] = 0
        points = _rotated(points, slope[owner])
        height = (height - 2 * slope * covariance + slope**2 * variance) / (1 + slope**2)
        extent = _extent(points, owner)
    scale = np.maximum(np.sqrt(np.maximum(height, 0)), extent[:, 0] / WIDEST)
    scale = np.where(scale > 0, scale, 1)[owner]
    return _resample(points / scale[:, None], starts, length / scale, owner)


def _extent(points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Width and height of each ink, ``[inks, 2]``."""
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.maximum.reduceat(points, first) - np.minimum.reduceat(points, first)


def _rotated(points: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Points ``[points, 2]``, rotated so that lines of these slopes become horizontal."""
    x, y = points.T
    return np.column_stack([x + slope * y, y - slope * x]) / np.hypot(1, slope)[:, None]


def _resample(
    points: np.ndarray, starts: np.ndarray, length: np.ndarray, owner: np.ndarray
) -> list[np.ndarray]:
    """Place points at equal distances along each stroke; ``length`` is that of the way to each point."""
    first = np.flatnonzero(starts)
    total = np.add.reduceat(length, first)
    count = np.where(total > 0, np.maximum(np.ceil(total / SPACING), 1) + 1, 1).astype(int)
    along = np.cumsum(length + starts)  # strokes are one unit apart, so that no place is in two of them
    last = np.cumsum(count)
    begins = np.arange(last[-1]) - np.repeat(last - count, count)
    where = np.repeat(along[first], count) + begins * np.repeat(total / np.maximum(count - 1, 1), count)
    x, y = (np.interp(where, along, column) for column in points.T)
    found = np.column_stack([x, y, begins == 0]).astype(np.float32)
    return np.split(found, np.flatnonzero(np.diff(np.repeat(owner[first], count))) + 1)
