"""Online handwriting: the path of a pen, with a text and a writer."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class Ink(NamedTuple):
    """What was written in one go, such as a word or a digit."""

    label: str
    """The text; empty if it is unknown."""
    points: Float[np.ndarray, "points 2"]
    """float32, x to the right and y up, in units of the tablet; at least one point."""
    pen_up: Bool[np.ndarray, " points"]
    """Whether the pen was lifted after a point: True for the last point of each stroke."""
    writer: str = ""
    """Equal for inks of one hand; empty if it is unknown."""
    quality: str = "?"
    """The donor's judgement: GOOD, OK, BAD, or ? for none."""

    @property
    def strokes(self) -> list[np.ndarray]:
        """The points of each stroke, float32 [points, 2]."""
        return np.split(self.points, np.flatnonzero(self.pen_up)[:-1] + 1)


def of_strokes(strokes: list[np.ndarray], label: str = "", writer: str = "") -> Ink:
    """The ink of strokes ``[points, 2]``; those without a point are left out.

    Raises:
        ValueError: no stroke has a point.
    """
    written = [np.asarray(stroke, np.float32) for stroke in strokes if len(stroke)]
    if not written:
        raise ValueError("of_strokes: there is no point in any stroke.")
    pen_up = np.concatenate([np.arange(len(stroke)) == len(stroke) - 1 for stroke in written])
    return Ink(label, np.concatenate(written), pen_up, writer)
