"""Time series: values at dates in equal steps, and their division into parts that follow each other."""

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


def divide(series: Iterable[Series], valid: int, test: int) -> Splits[Series]:
    """Divide each series in time: the last ``test`` steps, the ``valid`` steps before them, and the rest."""
    whole = tuple(series)

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
