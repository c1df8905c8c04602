"""Plots: forecasts with their intervals, and the forget gate before and after a festival."""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lstmjax
from experiments.seasonal_sales.model import MEDIAN
from experiments.seasonal_sales.panel import Panel, cut
from lstmjax import diagnostics
from lstmjax.types import Params

SHOWN = 4
"""Series in a picture."""

STEEP = 30
"""The ratio of the largest to the smallest value from which the scale is logarithmic."""


def draw_forecasts(panel: Panel, quantiles: np.ndarray, path: Path) -> None:
    """Plot the first forecasts of some series, with intervals of 50 and 90 per cent, and what came to be.

    Args:
      panel: the series.
      quantiles: of `evaluation.held_out`, ``[rows, horizon, quantiles]``.
      path: the image to write.
    """
    chosen = np.linspace(0, len(panel.series) - 1, min(SHOWN, len(panel.series))).astype(int)
    figure = Figure(figsize=(10, 2.4 * len(chosen)), layout="constrained")
    for axes, row in zip(figure.subplots(len(chosen), squeeze=False)[:, 0], chosen, strict=True):
        draw_one(axes, panel, row, quantiles[row])
    axes.legend(fontsize=7, ncols=4)
    figure.savefig(path, dpi=70)


def draw_one(axes: Axes, panel: Panel, row: int, quantiles: np.ndarray) -> None:
    """Plot the first forecast of a series, ``[horizon, quantiles]``, after as many steps of the past."""
    series, origin, horizon = panel.series[row], int(panel.ends[row]), len(quantiles)
    begin = max(origin - horizon, 0)
    dates = panel.setting.dates(series, np.arange(begin, origin + horizon))
    values = series.values[begin : origin + horizon]
    ahead = dates[origin - begin :]
    axes.plot(dates[: len(values)], values, color="black", linewidth=0.8, label="what came to be")
    for low, high, label in ((0, -1, "90 %"), (1, -2, "50 %")):
        axes.fill_between(
            ahead, quantiles[:, low], quantiles[:, high], color="C0", alpha=0.25, linewidth=0, label=label
        )
    axes.plot(ahead, quantiles[:, MEDIAN], color="C0", linewidth=1, label="median forecast")
    if 0 < np.nanmin(values) < np.nanmax(values) / STEEP:
        axes.set_yscale("log")
    axes.axvline(ahead[0], color="grey", linewidth=0.6)
    axes.set_title(series.name.replace("_", " "), fontsize=9)
    axes.grid(alpha=0.3)


def forget_gates(cell: lstmjax.Cell, params: Params, panel: Panel, series: int, origin: int) -> np.ndarray:
    """The forget gates of a window, past and forecast: ``[context + horizon, hidden]``."""
    windows = cut(panel, np.array([series]), np.array([origin]))
    trace = diagnostics.trace(cell, params, jnp.asarray(windows.inputs[0]))
    return np.asarray(trace.forget_gate)


def around(gates: np.ndarray, places: Sequence[int], reach: int) -> np.ndarray:
    """The mean gates from ``reach`` steps before the places to as many after, ``[2 reach + 1, hidden]``."""
    whole = [place for place in places if reach <= place < len(gates) - reach]
    return np.mean([gates[place - reach : place + reach + 1] for place in whole], axis=0)


def draw_gates(names: Sequence[str], found: Sequence[np.ndarray], path: Path) -> None:
    """Plot the forget gates of each unit around the festival, ``[2 reach + 1, hidden]`` of each name."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    for axes, name, gates in zip(figure.subplots(1, len(names), sharey=True), names, found, strict=True):
        reach = len(gates) // 2
        days = np.arange(-reach, reach + 1)
        axes.plot(days, gates, color="C0", linewidth=0.5, alpha=0.35)
        axes.plot(days, gates.mean(axis=1), color="black", linewidth=1.5)
        axes.axvline(0, color="C3", linewidth=0.8)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set(xlabel="days from the festival", ylim=(0, 1))
        axes.grid(alpha=0.3)
    figure.axes[0].set(ylabel="forget gate (1 keeps)")
    figure.savefig(path, dpi=70)
