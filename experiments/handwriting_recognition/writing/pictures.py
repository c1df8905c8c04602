"""Pictures of written words, as SVG and PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.datasets.ink import Ink

GAP = 0.4
"""Between words, in letters of ink."""

LINE = 1.6
"""From one line to the next, in letters of ink."""


def baseline(ink: Ink) -> float:
    """The y that letters stand on: the median of the lowest points of all downward movements."""
    lowest = []
    for stroke in ink.strokes:
        y = np.concatenate([[np.inf], stroke[:, 1], [np.inf]])
        lowest += y[1:-1][(y[1:-1] < y[:-2]) & (y[1:-1] <= y[2:])].tolist()
    return float(np.median(lowest)) if lowest else float(ink.points[:, 1].min())


def set_line(inks: Sequence[Ink]) -> list[Ink]:
    """The inks of words side by side on one line, which is y = 0, beginning at x = 0."""
    placed, x = [], 0.0
    for ink in inks:
        left, right = ink.points[:, 0].min(), ink.points[:, 0].max()
        origin = np.array([left - x, baseline(ink)], np.float32)
        placed.append(ink._replace(points=ink.points - origin))
        x += float(right - left) + GAP
    return placed


def draw_ink(axes: Axes, ink: Ink, width: float = 1.5, colour: str = "black") -> None:
    """Draw the strokes of an ink; a stroke of one point as a dot."""
    for stroke in ink.strokes:
        x, y = (np.repeat(stroke, 2, axis=0) if len(stroke) == 1 else stroke).T
        axes.plot(x, y, color=colour, linewidth=width, solid_capstyle="round", solid_joinstyle="round")


def draw_lines(lines: Sequence[Sequence[Ink]], path: Path, titles: Sequence[str] = (), real: int = 0) -> None:
    """Draw lines of words below each other into ``path`` with the suffixes .svg and .png.

    Args:
      lines: the inks of the words of each line.
      path: the file, without a suffix.
      titles: small print at the left of each line.
      real: number of words at the beginning of each line that people wrote, drawn in blue.
    """
    placed, colours = [], []
    for number, line in enumerate(lines):
        down = np.array([0, number * LINE], np.float32)
        placed += [ink._replace(points=ink.points - down) for ink in set_line(line)]
        colours += ["tab:blue" if place < real else "black" for place in range(len(line))]
    points = np.concatenate([ink.points for ink in placed])
    (left, low), (right, high) = points.min(axis=0) - 0.2, points.max(axis=0) + 0.2
    left -= 1.6 if titles else 0
    inches = min(1.0, 12 / (right - left))
    figure = Figure(figsize=((right - left) * inches, (high - low) * inches))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    axes.axis("off")
    for ink, colour in zip(placed, colours, strict=True):
        draw_ink(axes, ink, 2 * inches + 0.4, colour)
    for number, title in enumerate(titles):
        axes.text(left + 0.1, 0.2 - number * LINE, title, fontsize=8, color="grey", va="center")
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=120)
