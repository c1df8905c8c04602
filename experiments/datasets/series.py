"""Time series: values at dates in equal steps, and their division into parts that follow each other."""

import datetime
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.datasets import Splits


class Series(NamedTuple):
    """A time series; of a part of a split, its consecutive steps in this part."""

    name: str
    dates: np.ndarray
    """datetime64 [time]: of months, weeks (their last day) or days."""
    values: np.ndarray
    """float64 [time]; NaN where nothing was observed."""


def number(text: str) -> float:
    """The finite number that a text writes, or `ValueError`."""
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text!r} is not finite")
    return found


def day(text: str) -> np.datetime64:
    """The day that a text names as 2024-03-25, or `ValueError`."""
    return np.datetime64(datetime.date.fromisoformat(text))


def divide(series: Iterable[Series], valid: int, test: int) -> Splits[Series]:
    """Divide each series in time: the last ``test`` steps, the ``valid`` steps before them, and the rest.

    Raises:
        ValueError: there is no series, or a part of one would be empty.
    """
    whole = tuple(series)
    shortest = min((len(each.values) for each in whole), default=0)
    if shortest <= valid + test:
        raise ValueError(
            f"{len(whole)} series, the shortest of {shortest} steps: there must be some, longer than the "
            f"{valid} and {test} steps of the validation and the test part"
        )

    def part(begin: int | None, end: int | None) -> tuple[Series, ...]:
        return tuple(Series(each.name, each.dates[begin:end], each.values[begin:end]) for each in whole)

    return Splits(part(None, -valid - test), part(-valid - test, -test), part(-test, None))


def join(parts: Sequence[Sequence[Series]]) -> tuple[Series, ...]:
    """The whole series again, from consecutive parts."""
    return tuple(
        Series(
            pieces[0].name,
            np.concatenate([piece.dates for piece in pieces]),
            np.concatenate([piece.values for piece in pieces]),
        )
        for pieces in zip(*parts, strict=True)
    )
