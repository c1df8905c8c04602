"""Plots of secondary structure: confusion matrices, and chains residue by residue."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.protein_structure.metrics import accuracy, known, precision_and_recall


class Style(NamedTuple):
    """Name and style of a state."""

    title: str
    colour: str


STYLES = {
    "H": Style("helix", "#D55E00"),
    "G": Style("3-10 helix", "#E69F00"),
    "I": Style("pi helix", "#CC79A7"),
    "E": Style("strand", "#0072B2"),
    "B": Style("bridge", "#56B4E9"),
    "T": Style("turn", "#009E73"),
    "S": Style("bend", "#F0E442"),
    "C": Style("coil", "#D9D9D9"),
}
"""For eight or three states: colours of Okabe and Ito, safe for the colour-blind, and grey."""

COLUMNS = 80
"""Residues per row in the plot of a chain."""

ROWS = 25
"""Maximum number of rows of such a plot: of a longer chain, the beginning is drawn, and the title says so."""

_INCHES, _DPI = 0.155, 110  # the width of a residue, and dots per inch
_PREDICTED, _TRUE, _BAND = 1.05, 1.5, 0.4  # bottom of the bands, and their height; probabilities lie below
_UNKNOWN: dict[str, Any] = {"facecolor": "none", "edgecolor": "silver", "hatch": "////", "lw": 0}


def draw_confusion(confusion: Int[np.ndarray, "true predicted"], states: str, path: Path) -> None:
    """Plot the confusion matrix: numbers of residues, and fractions of their true state."""
    of_state = confusion.sum(axis=1)
    shares = confusion / np.maximum(of_state, 1)[:, None]
    size = 2.2 + 0.85 * len(states)
    figure = Figure(figsize=(size, size - 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(confusion.shape):
        share, count = shares[row, column], confusion[row, column]
        text = f"{share:.1%}\n{count:,}" if of_state[row] else "none"
        colour = "white" if share > 0.55 else "black" if count else "grey"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    titles = [f"{state}\n{STYLES[state].title}" for state in states]
    axes.set_xticks(range(len(states)), titles)
    axes.set_yticks(range(len(states)), titles)
    right = f"Q{len(states)} {accuracy(confusion):.1%} of {confusion.sum():,} residues"
    axes.set(xlabel="predicted", ylabel="true", title=right)
    figure.savefig(path, dpi=120)


def draw_per_class(confusion: Int[np.ndarray, "true predicted"], states: str, path: Path) -> None:
    """Plot precision and recall of each state as bars; undefined values are marked as such."""
    figure = Figure(figsize=(2.5 + 0.9 * len(states), 4), layout="constrained")
    axes, places = figure.subplots(), np.arange(len(states))
    sides = zip((-0.2, 0.2), ("precision", "recall"), precision_and_recall(confusion), strict=True)
    for (shift, title, shares), colour in zip(sides, ("#0072B2", "#E69F00"), strict=True):
        bars = axes.bar(places + shift, np.nan_to_num(100 * shares), 0.38, label=title, color=colour)
        axes.bar_label(bars, ["n/a" if np.isnan(share) else f"{100 * share:.0f}" for share in shares])
    support = confusion.sum(axis=1)
    titles = [
        f"{state}\n{STYLES[state].title}\n{count:,}" for state, count in zip(states, support, strict=True)
    ]
    axes.set_xticks(places, titles)
    axes.set(ylabel="%", ylim=(0, 108), xlabel="state, and how many residues are in it")
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=120)


def draw_chain(
    id: str,
    sequence: str,
    probabilities: Float[np.ndarray, "residues states"],
    states: str,
    path: Path,
    true: str | None = None,
    valid: Bool[np.ndarray, " residues"] | None = None,
) -> None:
    """Plot the states of a chain with their probabilities, in rows of `COLUMNS` residues.

    From top to bottom, a row has the amino acids, the true states if given, the most probable states, and the
    stacked probabilities.

    Args:
      id: id of the chain, for the title.
      sequence: its amino acids, at least one.
      probabilities: probability of each state, for each residue.
      states: the letters of states, in the order of ``probabilities``.
      path: the image file to write.
      true: the true states.
      valid: mask of known true states; by default all. Elsewhere the band is hatched.
    """
    predicted = "".join(states[place] for place in np.argmax(probabilities, axis=1))
    bands = {"predicted": (_PREDICTED, predicted)}
    if true is not None:
        bands["true"] = (_TRUE, true if valid is None else known(true, valid, " "))
    drawn = min(len(sequence), ROWS * COLUMNS)
    columns, starts = min(COLUMNS, max(drawn, COLUMNS // 2)), range(0, drawn, COLUMNS)
    size = (1.1 + _INCHES * columns, 1.1 + (0.45 + 0.45 * len(bands)) * len(starts))
    figure = Figure(figsize=size, layout="constrained")
    for axes, start in zip(figure.subplots(len(starts), squeeze=False)[:, 0], starts, strict=True):
        part = slice(start, min(start + COLUMNS, drawn))
        _frame(axes, part, columns, {bottom: title for title, (bottom, _) in bands.items()})
        letters = 0.15 + _BAND + max(bottom for bottom, _ in bands.values())
        for place in range(part.start, part.stop):
            _write(axes, place + 0.5, letters, sequence[place])
        for bottom, band in bands.values():
            _draw_band(axes, part, band, bottom)
        _pile(axes, part, probabilities, states)
    figure.suptitle(_title(id, bands, drawn), fontsize=10, parse_math=False)
    marks = [Patch(color=STYLES[state].colour, label=f"{state} {STYLES[state].title}") for state in states]
    if any(" " in band for _, band in bands.values()):
        marks.append(Patch(**_UNKNOWN, label="not known"))
    figure.legend(handles=marks, loc="outside lower center", ncols=min(len(marks), columns // 8), fontsize=8)
    figure.savefig(path, dpi=_DPI)


def _title(id: str, bands: dict[str, tuple[float, str]], drawn: int) -> str:
    predicted = bands["predicted"][1]
    parts = [f"{len(predicted):,} residue{'s' if len(predicted) > 1 else ''}"]
    if "true" in bands:
        true = bands["true"][1]
        right = sum(one == other for one, other in zip(true, predicted, strict=True))
        parts.append(f"{right:,} of {len(true) - true.count(' '):,} right")
    if drawn < len(predicted):
        parts.append(f"the first {drawn:,} are drawn")
    return f"{id if len(id) <= 40 else f'{id[:40]}...'}: {', '.join(parts)}"


def _frame(axes: Axes, part: slice, columns: int, bands: dict[float, str]) -> None:
    """Set up the axes of a row: the residue with index i, labelled i + 1, extends from i to i + 1."""
    axes.set(xlim=(part.start, part.start + columns), ylim=(0, max(bands) + _BAND + 0.35))
    numbers = [
        place for place in range(part.start, part.stop) if (place + 1) % 10 == 0 or place == part.start
    ]
    axes.set_xticks([place + 0.5 for place in numbers], [str(place + 1) for place in numbers], fontsize=7)
    marks = {0.0: "0", 1.0: "1"} | {bottom + _BAND / 2: title for bottom, title in bands.items()}
    axes.set_yticks(list(marks), list(marks.values()), fontsize=7)
    axes.tick_params(length=2)
    axes.spines[:].set_visible(False)


def _write(axes: Axes, x: float, y: float, letter: str, colour: str = "black") -> None:
    text = axes.text(x, y, letter, ha="center", va="center", fontsize=7, color=colour, family="monospace")
    text.set_in_layout(False)  # it is within the axes, and layout would measure each letter


def _draw_band(axes: Axes, part: slice, states: str, bottom: float) -> None:
    """A bar for each segment, with its letter in the middle; hatched where the state is a space."""
    spans: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    colours = []
    for state, start, stop in _segments(states, part):
        spans[state in STYLES].append((start, stop - start))
        if state in STYLES:
            colours.append(STYLES[state].colour)
            dark = state in "HE"
            _write(axes, (start + stop) / 2, bottom + _BAND / 2, state, "white" if dark else "black")
    axes.broken_barh(spans[True], (bottom, _BAND), facecolors=colours, edgecolor="white", lw=0.5)
    axes.broken_barh(spans[False], (bottom, _BAND), **_UNKNOWN)


def _segments(states: str, part: slice) -> Iterator[tuple[str, int, int]]:
    """Runs of one state within a row: the state, its start and its end."""
    place = part.start
    for state, run in itertools.groupby(states[part]):
        start, place = place, place + len(list(run))
        yield state, start, place


def _pile(axes: Axes, part: slice, probabilities: Float[np.ndarray, "residues states"], states: str) -> None:
    edges = np.arange(part.start, part.stop + 1)
    tops = np.cumsum(probabilities[part], axis=1)
    below = np.zeros(len(tops))
    for state, top in zip(states, tops.T, strict=True):
        axes.stairs(top, edges, baseline=below, fill=True, color=STYLES[state].colour)
        below = top
