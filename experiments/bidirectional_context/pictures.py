"""Pictures: accuracy against delay and by place, and networks at work on one recording."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.bidirectional_context.data import SOURCES
from experiments.bidirectional_context.page import MAIN, delay_of, of_dataset, place_titles
from experiments.bidirectional_context.task import PLACES
from lstmjax.training.record import Record

COLOURS = {"past": "#0072B2", "future": "#D55E00", "both": "#000000", "delayed": "#009E73"}
"""Of the directions, distinct for colour-blind readers too."""


def draw_delays(records: Sequence[Record], path: Path) -> None:
    """Plot the accuracy against the delay, mean and range; the past is a delay of 0, both a line."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for dataset, axes in zip(SOURCES, figure.subplots(1, len(SOURCES)), strict=True):
        own = of_dataset(records, dataset)
        delayed = [record for record in own if record.config["direction"] in ("past", "delayed")]
        mean, least, most = (
            np.array([100 * record.metrics[f"test_accuracy{end}"] for record in delayed])
            for end in ("", "_min", "_max")
        )
        axes.errorbar(
            list(map(delay_of, delayed)),
            mean,
            (mean - least, most - mean),
            marker="o",
            markersize=4,
            capsize=3,
            color=COLOURS["delayed"],
            label="past, delayed",
        )
        for direction in ("both", "future"):
            for record in own:
                if record.config["direction"] == direction:
                    style = {"color": COLOURS[direction], "linestyle": "--", "label": direction}
                    axes.axhline(100 * record.metrics["test_accuracy"], **style)
        frame = SOURCES[dataset].frame
        axes.set(title=dataset, xlabel=f"delay in {frame}s", ylabel=f"right {frame}s of the test, %")
        _finish(axes)
    figure.savefig(path, dpi=100)


def draw_places(records: Sequence[Record], path: Path) -> None:
    """Plot the accuracy by place, counted from the start and from the end, of the main networks."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    for dataset, row in zip(SOURCES, figure.subplots(len(SOURCES), 2, sharey="row"), strict=True):
        for end, axes in zip(("start", "end"), row, strict=True):
            for record in of_dataset(records, dataset):
                if record.label in MAIN:
                    direction = record.config["direction"]
                    shares = [100 * record.metrics[f"test_{end}_{place}"] for place in PLACES]
                    axes.plot(shares, "o-", markersize=4, color=COLOURS[direction], label=direction)
            axes.set_xticks(range(len(PLACES)), place_titles())
            axes.set(title=dataset, xlabel=f"{SOURCES[dataset].frame}, counted from the {end}")
            _finish(axes)
            if end == "end":
                axes.invert_xaxis()
        row[0].set(ylabel="right, %")
    figure.savefig(path, dpi=100)


def draw_digit(
    inputs: Float[np.ndarray, "frames bands"],
    curves: Mapping[str, Float[np.ndarray, " frames"]],
    title: str,
    path: Path,
) -> None:
    """Plot a recording, and below it the probability that each network gives the right digit.

    Args:
      inputs: the energies that the networks read.
      curves: the probabilities, by the networks' labels.
      title: what is spoken.
      path: the image file to write.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    above.imshow(inputs.T, origin="lower", aspect="auto", interpolation="nearest", cmap="magma")
    above.set(title=title, ylabel="mel band")
    for label, shares in curves.items():
        direction = label.rpartition("-")[2]
        below.plot(shares, color=COLOURS[direction], label=direction)
    below.set(xlabel="frame of 10 ms", ylabel="probability of the digit", ylim=(-0.03, 1.03))
    _finish(below)
    figure.savefig(path, dpi=100)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
