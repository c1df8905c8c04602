"""Pictures of inks with what was read in them: the letters' places on the path, and their probabilities."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.datasets.ink import Ink
from experiments.handwriting_recognition.data import SOURCES, classes_of
from experiments.handwriting_recognition.model import frames_of
from experiments.handwriting_recognition.normalisation import normalise
from experiments.handwriting_recognition.reading import logits_of
from experiments.handwriting_recognition.task import Saved
from lstmjax import decoding
from lstmjax.training.batching import pad

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of letters, one after the other, for colour-blind readers too."""

POINTS = 4
"""Points of a frame of logits."""


class Aligned(NamedTuple):
    """An ink, what was read, and where."""

    path: np.ndarray
    """float32 [points, 3], see `normalise`."""
    text: str
    letters: np.ndarray
    """int [frames]: the place in the text of the letter that a frame belongs to; -1 for blanks."""
    probabilities: np.ndarray
    """float [frames, letters]: of each letter of the text in each frame."""


def align(saved: Saved, ink: Ink, text: str) -> Aligned:
    """The likeliest alignment of a text with an ink, by CTC."""
    source = SOURCES[saved.config.task]
    (path,) = normalise([ink], straighten=True)
    labels = classes_of(source, text)
    length = jnp.array([frames_of(len(path))])
    logits = logits_of(saved.model, saved.params, pad([path]))
    found = decoding.ctc_align(logits, length, jnp.asarray(labels)[None], jnp.array([len(labels)]))
    return Aligned(path, text, np.asarray(found[0]), np.asarray(jax.nn.softmax(logits[0]))[:, labels])


def draw(inks: Sequence[Ink], aligned: Sequence[Aligned], file: Path, columns: int = 4) -> None:
    """Draw inks, coloured by the letters read, and the probabilities of these frame by frame under them."""
    rows = -(-len(inks) // columns)
    figure = Figure(figsize=(3.4 * min(columns, len(inks)), 3.0 * rows), layout="constrained")
    grid = figure.subplots(2 * rows, min(columns, len(inks)), height_ratios=(3, 2) * rows, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, (ink, one) in enumerate(zip(inks, aligned, strict=True)):
        row, column = divmod(place, columns)
        _draw_ink(grid[2 * row, column], ink, one)
        _draw_probabilities(grid[2 * row + 1, column], one)
    figure.savefig(file, dpi=90)


def _draw_ink(axes: Axes, ink: Ink, one: Aligned) -> None:
    letter = np.repeat(_spread(one.letters), POINTS)[: len(one.path)]
    for start, end in _strokes(one.path):
        stroke, own = one.path[start:end], letter[start:end]
        axes.plot(stroke[:, 0], stroke[:, 1], color="silver", lw=1, zorder=1)
        colours = [COLOURS[each % len(COLOURS)] if each >= 0 else "silver" for each in own]
        axes.scatter(stroke[:, 0], stroke[:, 1], c=colours, s=9, zorder=2)
    axes.set_aspect("equal", adjustable="datalim")
    written = f"{ink.label} as " if ink.label else ""
    axes.set_title(f"{written}{one.text or '(nothing)'}", fontsize=10)


def _draw_probabilities(axes: Axes, one: Aligned) -> None:
    axes.set_axis_on()
    for place, letter in enumerate(one.text):
        own = np.flatnonzero(one.letters == place)
        colour = COLOURS[place % len(COLOURS)]
        if len(own):
            around = slice(max(own[0] - 2, 0), own[-1] + 3)
            axes.plot(np.arange(len(one.letters))[around], one.probabilities[around, place], color=colour)
            axes.text(own.mean(), 1.05, letter, ha="center", color=colour, fontsize=9)
    axes.set(ylim=(0, 1.35), xlim=(-0.5, max(len(one.letters) - 0.5, 0.5)), yticks=(0, 1))
    axes.tick_params(labelsize=7)


def _spread(letters: np.ndarray) -> np.ndarray:
    """Give frames of blanks to the nearest letter, since the frames with a letter are few."""
    own = np.flatnonzero(letters >= 0)
    if not len(own):
        return letters
    nearest = np.abs(np.arange(len(letters))[:, None] - own).argmin(axis=1)
    return letters[own[nearest]]


def _strokes(path: np.ndarray) -> list[tuple[int, int]]:
    begins = [*np.flatnonzero(path[:, 2]).tolist(), len(path)]
    return list(itertools.pairwise(begins))
