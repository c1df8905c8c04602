"""Series with their calendars as arrays, and windows of them: what a network reads and what it forecasts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from experiments import datasets
from experiments.datasets.series import Series, join
from experiments.seasonal_sales import calendars
from experiments.seasonal_sales.calendars import Dates
from experiments.seasonal_sales.seasonality import seasonal_part

FLOOR = 0.01
"""Values below this share of the mean of the past count as so much, since they are read as logarithms."""

Held = Callable[[Series, Sequence[int]], Mapping[str, Dates]]


class Setting(NamedTuple):
    """How a data set is forecast."""

    title: str
    days: int
    """Days of a step; 30 for months."""
    season: int
    """Steps of a year; of a year with a moving festival, about."""
    horizon: int
    """Steps that are forecast at once."""
    context: int
    """Steps of the past that are read before."""
    shortest: int
    """Fewest steps of the past that a window for training may have."""
    level: int
    """Steps at the end of the past whose geometric mean is the unit of the window."""
    steady: float
    """The least scale of a window, by which logarithms are divided; else their mean change in a step."""
    held: Held
    """The festivals that a series has to do with, with their dates in given years."""
    orders: int = 3
    """Orders of the Fourier terms of the year."""
    lag: bool = True
    """Whether the value a year ago is read beside each step."""
    moves: bool = False
    """Whether a year ago means the same distance from the festival, instead of the same date."""
    adjust: int = 0
    """Steps of the past whose season is taken out of what is read, and put back into the forecast; 0 if the
    season is left in."""

    def dates(self, series: Series, steps: np.ndarray) -> np.ndarray:
        """The dates of steps of a series, beyond its end, too."""
        monthly = series.dates.dtype == np.dtype("datetime64[M]")
        return series.dates[0] + (1 if monthly else self.days) * steps


def _none(series: Series, years: Sequence[int]) -> dict[str, Dates]:
    return {}


SUPER_BOWLS = np.array(
    ["2009-02-01", "2010-02-07", "2011-02-06", "2012-02-05", "2013-02-03"], "datetime64[D]"
)
"""Which the package holidays does not have."""


def _of_walmart(series: Series, years: Sequence[int]) -> dict[str, Dates]:
    american = calendars.festivals_of("US", years)
    names = ("Thanksgiving Day", "Christmas Day", "Labor Day")
    easter = {"Easter Sunday": calendars.festival("PL", "Easter Sunday", years)}
    return {"Super Bowl": SUPER_BOWLS, **{name: american[name] for name in names}, **easter}


WIKIPEDIA = {
    "easter": ("PL", "Easter Sunday"),
    "christmas": ("US", "Christmas Day"),
    "chinese_new_year": ("CN", "Chinese New Year (Spring Festival)"),
    "thanksgiving": ("US", "Thanksgiving Day"),
}
"""Where the package holidays has the dates of the festivals: a country and a name."""


def _of_page(series: Series, years: Sequence[int]) -> dict[str, Dates]:
    return {"the festival": calendars.festival(*WIKIPEDIA[series.name], years)}


SETTINGS = {
    "m3": Setting(
        title="M3, monthly",
        days=30,
        season=12,
        horizon=18,
        context=36,
        shortest=12,
        level=1,
        steady=0.01,
        held=_none,
        lag=False,
        adjust=120,
    ),
    "walmart": Setting(
        title="Weekly sales of Walmart",
        days=7,
        season=52,
        horizon=13,
        context=52,
        shortest=26,
        level=13,
        steady=0.01,
        held=_of_walmart,
    ),
    "festivals": Setting(
        title="Views of pages of festivals",
        days=1,
        season=365,
        horizon=365,
        context=365,
        shortest=180,
        level=365,
        steady=1.0,
        held=_of_page,
        moves=True,
    ),
}
"""The table of data sets."""


class Panel(NamedTuple):
    """Series from their beginnings, as arrays."""

    setting: Setting
    series: tuple[Series, ...]
    values: np.ndarray
    """float64 ``[series, time]``; NaN where there is none, and beyond the end."""
    covariates: np.ndarray
    """float32 ``[series or 1, time, features]``: what is known in advance, a horizon beyond the end too."""
    year_ago: np.ndarray
    """int ``[series or 1, time]``: the step a year ago; -1 where there is none."""
    ends: np.ndarray
    """int ``[series]``: the numbers of steps up to the part that is held out."""

    @property
    def seen(self) -> "Panel":
        """The same without the values that are held out."""
        held_out = np.arange(self.values.shape[1]) >= self.ends[:, None]
        return self._replace(values=np.where(held_out, np.nan, self.values))

    @property
    def features(self) -> int:
        """The size of the inputs of a window: six of the values and the horizon."""
        return 7 + self.covariates.shape[-1]


def make_panel(setting: Setting, series: Sequence[Series], held_out: int) -> Panel:
    """The arrays of series, whose last ``held_out`` steps are kept from training."""
    longest = max(len(each.values) for each in series)
    values = np.full((len(series), longest), np.nan)
    for row, each in enumerate(series):
        values[row, : len(each.values)] = each.values
    alike = all(np.array_equal(each.dates, series[0].dates) for each in series) and not setting.moves
    described = [_describe(setting, each, longest) for each in (series[:1] if alike else series)]
    covariates, year_ago = (np.stack(part) for part in zip(*described, strict=True))
    ends = np.array([len(each.values) - held_out for each in series])
    return Panel(setting, tuple(series), values, covariates, year_ago, ends)


def _describe(setting: Setting, series: Series, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """The covariates and the steps a year ago of a series, to a horizon beyond the longest series."""
    steps = np.arange(longest + setting.horizon)
    dates = setting.dates(series, steps)
    first, last = dates[[0, -1]].astype("datetime64[Y]").astype(int) + 1970
    years = range(first - 2, last + 2)
    held = setting.held(series, years)
    before = steps - setting.season
    if setting.moves:
        (days,) = held.values()
        before = (calendars.a_year_ago(dates, days) - dates[0]).astype(int)
    covariates = calendars.covariates(dates, setting.days, setting.orders, held)
    return covariates, np.maximum(before, -1)


def load_panel(
    dataset: str, held_out: Literal["valid", "test"], data_dir: Path | None = None, limit: int = 0
) -> Panel:
    """The panel of a data set; to forecast its validation part, the series without their test part."""
    parts = datasets.load(dataset, data_dir).limited(limit)
    shown = parts if held_out == "test" else parts[:2]
    return make_panel(SETTINGS[dataset], join(shown), len(shown[-1][0].values))


class Windows(NamedTuple):
    """Windows of series: a past that is read, and a future of which the calendar is known."""

    inputs: np.ndarray
    """float32 ``[..., context + horizon, features]``."""
    mask: np.ndarray
    """bool ``[..., context + horizon]``: false before the series begins."""
    targets: np.ndarray
    """float32 ``[..., horizon]``: logarithms of the future, standardized as inputs; 0 where there is none."""
    known: np.ndarray
    """bool ``[..., horizon]``: where there is a value."""
    unit: np.ndarray
    """float64 ``[..., horizon]``: the logarithm of the unit, and of the season if that is taken out."""
    scale: np.ndarray
    """float64 ``[...]``: what logarithms are divided by."""


def ago(year_ago: np.ndarray, index: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """The last step before the origin that is a whole number of years before a step; -1 if there is none.

    Args:
      year_ago: int ``[rows, time]``.
      index: int ``[rows, steps]``: the steps; those before the beginning have none before them.
      origin: int ``[rows]``: the first step of the forecast.
    """

    def before(index: np.ndarray) -> np.ndarray:
        return np.where(index >= 0, np.take_along_axis(year_ago, np.maximum(index, 0), axis=1), -1)

    found = before(index)
    while (late := found >= origin[:, None]).any():
        found = np.where(late, before(found), found)
    return found


def cut(panel: Panel, series: np.ndarray, origin: np.ndarray) -> Windows:
    """The windows of series whose forecast begins at an origin: int ``[rows]`` both."""
    setting = panel.setting
    index = origin[:, None] + np.arange(-setting.context, setting.horizon)
    values = _at(panel.values[series], index)
    past, future = values[:, : setting.context], values[:, setting.context :]
    described = series % len(panel.covariates)
    lagged = _at(panel.values[series], ago(panel.year_ago[described], index, origin))
    lagged = lagged if setting.lag else np.full_like(lagged, np.nan)
    floor = FLOOR * _mean(np.abs(past)) + 1e-9
    season = np.zeros(index.shape)
    if setting.adjust:
        history = _at(panel.values[series], origin[:, None] + np.arange(-setting.adjust, 0))
        part = seasonal_part(np.log(np.maximum(history, floor)), setting.season)
        season = part[:, np.arange(-setting.context, setting.horizon) % setting.season]
    adjusted = np.log(np.maximum(past, floor)) - season[:, : setting.context]
    unit = _level(adjusted, setting.level) + season
    scale = np.maximum(_mean(np.abs(np.diff(adjusted, axis=1))), setting.steady)
    read = np.concatenate([past, np.full_like(future, np.nan)], axis=1)
    logs, before, targets = (
        (np.log(np.maximum(each, floor)) - unit[:, -each.shape[1] :]) / scale
        for each in (read, lagged, future)
    )
    ahead = np.maximum(np.arange(-setting.context, setting.horizon) + 1, 0) / setting.horizon
    columns = [
        *(np.nan_to_num(logs), np.isfinite(logs), np.nan_to_num(before), np.isfinite(before)),
        *(season / scale, np.broadcast_to(np.log(scale), index.shape), np.broadcast_to(ahead, index.shape)),
    ]
    calendar = panel.covariates[described[:, None], np.maximum(index, 0)]
    return Windows(
        np.concatenate([np.stack(columns, axis=-1), calendar], axis=-1).astype(np.float32),
        index >= 0,
        np.nan_to_num(targets).astype(np.float32),
        np.isfinite(targets),
        unit[:, setting.context :],
        scale[:, 0],
    )


def _at(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The values of each row at steps ``[rows, steps]``; NaN before the beginning and beyond the end."""
    there = (index >= 0) & (index < values.shape[1])
    found = np.take_along_axis(values, np.clip(index, 0, values.shape[1] - 1), axis=1)
    return np.where(there, found, np.nan)


def _level(past: np.ndarray, steps: int) -> np.ndarray:
    """The mean of the last steps, or of the whole past if none of them has a value: ``[rows, 1]``."""
    last = past[:, -steps:]
    return np.where(np.isfinite(last).any(axis=1, keepdims=True), _mean(last), _mean(past))


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean of the values of each row that there are, ``[rows, 1]``; 0 if there are none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=1, keepdims=True)
    return total / np.maximum(known.sum(axis=1, keepdims=True), 1)
