"""Trains of spikes that are almost regular: only exact timing tells one interval from another.

From one spike to the next there are F + I steps; F is fixed, and the delay I is 0 or 1 at random.

Source: Gers, Schraudolph and Schmidhuber 2002 (Journal of Machine Learning Research 3).
"""

from typing import NamedTuple

import numpy as np


class Trains(NamedTuple):
    """Trains of spikes; the first spike is in step F + I, counted from 1."""

    spikes: np.ndarray
    """bool [rows, steps]: where there is a spike."""
    before: np.ndarray
    """int [rows, steps]: at each spike the delay I before it, else 0."""
    ahead: np.ndarray
    """int [rows, steps]: in the first step and in that after each spike the delay I ahead, else 0."""


def draw(rng: np.random.Generator, rows: int, steps: int, interval: int) -> Trains:
    """Random trains of spikes, with ``interval`` for F."""
    delays = rng.integers(0, 2, (rows, steps // interval + 1))
    ends = np.cumsum(interval + delays, axis=1)
    begins = ends - interval - delays
    trains = Trains(np.zeros((rows, steps), bool), *np.zeros((2, rows, steps), int))
    row, number = np.nonzero(ends <= steps)
    trains.spikes[row, ends[row, number] - 1] = True
    trains.before[row, ends[row, number] - 1] = delays[row, number]
    row, number = np.nonzero(begins < steps)
    trains.ahead[row, begins[row, number]] = delays[row, number]
    return trains
