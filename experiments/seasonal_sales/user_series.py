"""A series of the user's own, from a CSV file: what is wrong with it is said by line."""

import csv
import datetime
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets.files import DataError, read_bytes, reading
from experiments.datasets.series import Series


class Frequency(NamedTuple):
    """How far apart the dates of a series are."""

    name: str
    days: int
    """Days of a step; 30 for months."""
    season: int
    """Steps of a year; whole weeks for days."""
    horizon: int
    """Steps that are forecast by default."""


FREQUENCIES = (
    Frequency("daily", 1, 364, 365),
    Frequency("weekly", 7, 52, 26),
    Frequency("monthly", 30, 12, 18),
)


def read(path: Path, date: str, value: str) -> tuple[Series, Frequency]:
    """Read a series from two columns of a CSV file, in any order of dates; missing dates and values are NaN.

    Dates are as ISO 8601 has them, 2024-03-25; a week is named by its last day, a month by any.

    Raises:
      DataError: the file or a column is missing; a line has no date or no number, a negative number, or a
        date that another line has; dates are in no equal steps.
    """
    found: dict[datetime.date, tuple[float, int]] = {}
    content = read_bytes(path)
    with reading(path) as place:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        for name in (date, value):
            if name not in (rows.fieldnames or ()):
                columns = " ".join(", ".join(rows.fieldnames or ()).split())[:200]
                raise DataError(f"{path} has no column {name!r}. Its columns: {columns}.")
        for row in rows:
            place.text = f"line {rows.line_num}"
            day, number = _parsed(row[date], row[value], f"{path}, {place.text}")
            if day in found:
                raise DataError(
                    f"{path}, {place.text}: {day} is in line {found[day][1]} already. "
                    "Keep one of them, or add them up."
                )
            found[day] = number, rows.line_num
    return _series(path, {day: number for day, (number, _) in sorted(found.items())})


def _parsed(date: str | None, value: str | None, place: str) -> tuple[datetime.date, float]:
    try:
        day = datetime.date.fromisoformat((date or "").strip()[:10])
    except ValueError as error:
        raise DataError(f"{place}: {(date or '')[:40]!r} is no date such as 2024-03-25.") from error
    try:
        number = float((value or "").strip() or "nan")
    except ValueError as error:
        raise DataError(
            f"{place}: {(value or '')[:40]!r} is no number. Leave it empty where it is not known."
        ) from error
    if number < 0 or np.isinf(number):
        raise DataError(f"{place}: {number:g} is negative or infinite; leave it empty, or correct it.")
    return day, number


def _series(path: Path, numbers: dict[datetime.date, float]) -> tuple[Series, Frequency]:
    """The series of sorted dates, with NaN at those that are missing."""
    if len(numbers) < 3:
        raise DataError(f"{path} has {len(numbers)} dates: too few for a series.")
    days = np.array([*numbers], "datetime64[D]")
    usual = np.median(np.diff(days).astype(int))
    near = [each for each in FREQUENCIES if each.days * 0.9 <= usual <= each.days * 1.1]
    if not near:
        raise DataError(f"{path}: its dates are {usual:g} days apart, and not daily, weekly or monthly.")
    (frequency,) = near
    if all(map(np.isnan, numbers.values())):
        raise DataError(f"{path} has dates, and no value at any of them.")
    steps, unit = _steps(path, days, frequency)
    if (np.diff(steps) == 0).any():
        day = days[1:][np.diff(steps) == 0][0]
        raise DataError(f"{path}: {day} is in the same month as the date before. Keep one of them.")
    values = np.full(steps[-1] + 1, np.nan)
    values[steps] = [*numbers.values()]
    return Series(path.stem, unit, values), frequency


def _steps(path: Path, days: np.ndarray, frequency: Frequency) -> tuple[np.ndarray, np.ndarray]:
    """The number of the step of each date, from 0, and the dates of all steps."""
    if frequency.name == "monthly":
        months = days.astype("datetime64[M]")
        steps = (months - months[0]).astype(int)
        return steps, months[0] + np.arange(steps[-1] + 1)
    steps, beside = np.divmod((days - days[0]).astype(int), frequency.days)
    if beside.any():
        day = days[beside > 0][0]
        raise DataError(f"{path}: {day} is no whole number of weeks after {days[0]}, the first date.")
    return steps, days[0] + frequency.days * np.arange(steps[-1] + 1)


def check_length(path: Path, series: Series, frequency: Frequency, horizon: int) -> None:
    """Raise DataError unless there is a year of the past and a horizon to learn from, without long gaps."""
    steps = f"{frequency.name} steps"
    needed, found = frequency.season + horizon, len(series.values)
    if found < needed:
        raise DataError(
            f"{path} has {found} {steps}: {needed} are needed, a year ({frequency.season}) and the horizon "
            f"({horizon}). Give more of the past, or a smaller --horizon."
        )
    gap = int(np.diff(np.flatnonzero(np.isfinite(series.values)), append=found).max(initial=1)) - 1
    if gap > frequency.season // 4:
        raise DataError(f"{path} has a gap of {gap} {steps}: a quarter of a year at most can be left out.")
