"""What the calendar says in advance: dates of festivals, the distance to them, season and weekday."""

import datetime
from collections.abc import Mapping, Sequence

import holidays
import numpy as np

from experiments.datasets.files import unknown_name

Dates = np.ndarray
"""datetime64[D], one for each year, ascending."""

SPANS = (1.5, 5.0, 20.0)
"""Steps over which the approach of a festival, and the time after it, are felt."""


def festivals_of(country: str, years: Sequence[int]) -> dict[str, Dates]:
    """The festivals of a country, by name, with the first day of each year in which they are held.

    Raises:
      DataError: `holidays` does not know the country, by its code of two letters.
    """
    supported = holidays.list_supported_countries()
    if country not in supported:
        raise unknown_name("country of the package holidays", country, supported)
    categories = holidays.country_holidays(country).supported_categories
    days = holidays.country_holidays(country, years=years, categories=categories, language="en_US")
    found: dict[str, dict[int, datetime.date]] = {}
    for day, text in sorted(days.items()):
        for name in text.split("; "):
            if "(observed)" not in name and "(substituted" not in name:
                found.setdefault(name.removesuffix(" (estimated)"), {}).setdefault(day.year, day)
    return {name: np.array([*each.values()], "datetime64[D]") for name, each in found.items()}


def festival(country: str, name: str, years: Sequence[int]) -> Dates:
    """The dates of one festival of a country; raise DataError with a suggestion if there is none."""
    known = festivals_of(country, years)
    if name not in known:
        raise unknown_name(f"festival of {country}", name, known)
    return known[name]


def nearest(dates: np.ndarray, held: Dates) -> np.ndarray:
    """For each date, the index of the nearest festival in ``held``, the earlier one in the middle."""
    return np.abs(dates[:, None] - held).argmin(axis=1)


def a_year_ago(dates: np.ndarray, held: Dates) -> np.ndarray:
    """For each day, that of the year before at the same distance from the festival, as datetime64[D].

    Distances are those to the nearest festival; there is no year before the first of ``held``, where the day
    is NaT.
    """
    number = nearest(dates, held)
    before = dates - (held[number] - held[number - 1])
    return np.where(number > 0, before, np.datetime64("NaT"))


def distances(dates: np.ndarray, held: Dates, days: int) -> np.ndarray:
    """How near a festival is, float32 ``[time, 9]``.

    With n the number of steps until the next festival, and l that since the last one, exp(-n / span) and
    exp(-l / span) for each of `SPANS`, and whether n = 0, n = 1, l = 1. A step that has the festival in it
    has n = l = 0.

    Args:
      dates: the last day of each step.
      held: the dates of the festival.
      days: how many days a step has.
    """
    steps = np.ceil((held - dates[:, None]).astype(int) / days)
    until = np.where(steps >= 0, steps, np.inf).min(axis=1)
    since = np.where(steps <= 0, -steps, np.inf).min(axis=1)
    near = [np.exp(-count / span) for count in (until, since) for span in SPANS]
    return np.stack([*near, until == 0, until == 1, since == 1], axis=1).astype(np.float32)


def fourier(position: np.ndarray, orders: int) -> np.ndarray:
    """Sines and cosines of a position in the year, from 0 to 1: float32 ``[time, 2 orders]``."""
    angles = 2 * np.pi * position[:, None] * np.arange(1, orders + 1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def position_in_year(dates: np.ndarray) -> np.ndarray:
    """The part of the year that has passed, from 0 to 1."""
    begin = dates.astype("datetime64[Y]")
    length = (begin + 1).astype("datetime64[D]") - begin.astype("datetime64[D]")
    return (dates.astype("datetime64[D]") - begin.astype("datetime64[D]")) / length


def weekdays(dates: np.ndarray) -> np.ndarray:
    """Monday to Sunday, one-hot: float32 ``[time, 7]``."""
    return np.eye(7, dtype=np.float32)[(dates.astype("datetime64[D]").astype(int) + 3) % 7]


def covariates(dates: np.ndarray, days: int, orders: int, held: Mapping[str, Dates]) -> np.ndarray:
    """What is known in advance of each step, float32 ``[time, features]``.

    Args:
      dates: datetime64 of the steps: months, or the last day of each step.
      days: how many days a step has: 1, 7, or 30 for months.
      orders: of the Fourier terms of the year.
      held: the festivals; the distance to each is a feature of its own.
    """
    last = (dates + 1).astype("datetime64[D]") - 1
    parts = [fourier(position_in_year(dates), orders)]
    if days == 1:
        parts.append(weekdays(dates))
    return np.concatenate([*parts, *(distances(last, each, days) for each in held.values())], axis=1)
