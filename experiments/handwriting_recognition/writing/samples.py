"""Pictures of what a network writes: by bias, by style, and where its window is."""

from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.handwriting_recognition.writing import path, pictures, sampling, styles
from experiments.handwriting_recognition.writing.lines import write_text
from experiments.handwriting_recognition.writing.task import Saved

TEXT = "the quick brown fox jumps over"
BIASES = (0.0, 0.5, 1.0, 2.0)


def draw(saved: Saved, folder: Path, seed: int = 1) -> None:
    """Write ``biases``, ``styles`` and ``window`` into a folder, as SVG and PNG."""
    key = jax.random.key(seed)
    lines = [write_text(saved, TEXT, jax.random.fold_in(key, 0), bias)[0][0] for bias in BIASES]
    pictures.draw_lines(lines, folder / "biases", [f"bias {bias:g}" for bias in BIASES])
    lines, titles = [], []
    for number, style in enumerate(styles.load(saved.folder), start=1):
        (line,), _ = write_text(saved, TEXT, jax.random.fold_in(key, number), 0.7, style)
        lines.append([path.ink(style), *line])
        titles.append(f"style {number}")
    if lines:
        pictures.draw_lines(lines, folder / "styles", titles, real=1)
    (sample,) = sampling.write(saved.model, saved.params, ["handwriting"], key, 0.7)
    draw_window(sample, folder / "window")


def draw_window(sample: sampling.Sample, path_: Path) -> None:
    """Draw a word with each step in the colour of the letter that the window saw most of."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    points = np.cumsum(sample.word.path[:, :2], axis=0)
    colours = [f"C{letter % 10}" for letter in sample.letters]
    for number in range(1, len(points)):
        if not sample.word.path[number - 1, 2]:
            axes.plot(*points[number - 1 : number + 1].T, color=colours[number - 1], linewidth=2)
    for letter, character in enumerate(sample.word.text):
        own = points[sample.letters == letter]
        if len(own):
            place = (own[:, 0].mean(), points[:, 1].min() - 0.2)
            axes.text(*place, character, color=f"C{letter % 10}", ha="center", va="top", fontsize=14)
    axes.set(aspect="equal", ylim=(points[:, 1].min() - 0.6, points[:, 1].max() + 0.1))
    axes.axis("off")
    for suffix in (".svg", ".png"):
        figure.savefig(path_.with_suffix(suffix), dpi=120)
