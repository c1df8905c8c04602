"""The subcommands: forecast, pictures."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

from experiments.common import mapped, models
from experiments.common.flags import Count, Number, Seed
from experiments.seasonal_sales import calendars, evaluation, pictures, user_series
from experiments.seasonal_sales.calendars import Dates
from experiments.seasonal_sales.model import QUANTILES, make_model
from experiments.seasonal_sales.panel import Held, Panel, Setting, make_panel
from experiments.seasonal_sales.task import forecast as forecast_rows
from experiments.seasonal_sales.task import load_model, make_task
from lstmjax import training

PROGRAM = "python -m experiments seasonal_sales"


def forecast(arguments: Sequence[str]) -> None:
    """``forecast --csv FILE``: train on a series of the user's own and forecast it."""

    def write(
        csv: Path,
        date: str,
        value: str,
        holidays: str | None = None,
        festival: str | None = None,
        horizon: int | None = None,
        out: Path = Path("forecast"),
        hidden: Count = 24,
        networks: Count = 5,
        steps: Count = 300,
        seed: Seed = 1,
    ) -> None:
        """Train networks on one series, daily, weekly or monthly, and write its forecast as table and plot.

        Args:
            csv: the file; its first line names the columns.
            date: the column of dates such as 2024-03-25, in any order; dates may be missing.
            value: the column of values, none negative; empty where it is not known.
            holidays: a country, by two letters such as IN, whose holidays have to do with the values.
            festival: the one of them that matters, such as Holi: a year before then means the same distance
                from it, wherever the date moves.
            horizon: steps that are forecast; by default 365 days, 26 weeks or 18 months.
            out: the folder to write to.
            hidden: size of the hidden state.
            networks: number of networks, of which the median is taken.
            steps: training steps.
            seed: random seed.
        """
        panel = user_panel(csv, date, value, holidays, festival, horizon)
        settings = training.TrainConfig(
            steps=steps, seed=seed, learning_rate=5e-3, schedule="cosine", averaging=0.98
        )
        model = make_model("lstm", panel.features, hidden, 1, panel.setting.horizon)
        optimizer = mapped.optimizer(training.adam(settings))
        fitted = training.fit(make_task(panel, model, networks, 8), settings, optimizer=optimizer)
        each = forecast_rows(panel, model, fitted.best.params, np.zeros(1, int), panel.ends)
        quantiles = np.median(each[:, 0], axis=0)
        write_forecast(panel, quantiles, out)
        print(out)

    tyro.cli(write, prog=f"{PROGRAM} forecast", args=arguments)


def user_panel(
    path: Path, date: str, value: str, country: str | None, festival: str | None, horizon: int | None
) -> Panel:
    """The panel of a CSV file, all of it for training.

    Raises:
      DataError: see `user_series.read`; the country or the festival is not known; the series is too short.
      ConfigError: a festival without a country; a horizon that is not positive.
    """
    if festival is not None and country is None:
        raise training.ConfigError(f"--festival {festival} needs --holidays, the country that holds it.")
    series, frequency = user_series.read(path, date, value)
    horizon = frequency.horizon if horizon is None else horizon
    if horizon < 1:
        raise training.ConfigError(f"horizon must be at least 1, got {horizon}.")
    user_series.check_length(path, series, frequency, horizon)
    setting = Setting(
        title=series.name,
        days=frequency.days,
        season=frequency.season,
        horizon=horizon,
        context=frequency.season,
        shortest=frequency.season // 2,
        level=frequency.season,
        steady=1.0,
        held=_held(country, festival),
        moves=festival is not None,
    )
    return make_panel(setting, [series], 0)


def _held(country: str | None, festival: str | None) -> Held:
    def held(series: object, years: Sequence[int]) -> dict[str, Dates]:
        if country is None:
            return {}
        if festival is None:
            return calendars.festivals_of(country, years)
        return {festival: calendars.festival(country, festival, years)}

    return held


def write_forecast(panel: Panel, quantiles: np.ndarray, out: Path) -> None:
    """Write ``forecast.csv`` and ``forecast.png`` of the first series, ``[horizon, quantiles]``."""
    out.mkdir(parents=True, exist_ok=True)
    dates = panel.setting.dates(panel.series[0], panel.ends[0] + np.arange(len(quantiles)))
    with (out / "forecast.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["date", *(f"quantile_{level:.2f}" for level in QUANTILES)])
        rows.writerows(
            [day, *(f"{number:.6g}" for number in row)] for day, row in zip(dates, quantiles, strict=True)
        )
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    axes = figure.subplots()
    pictures.draw_one(axes, panel, 0, quantiles)
    axes.legend(fontsize=8, ncols=4)
    figure.savefig(out / "forecast.png", dpi=110)


def draw(arguments: Sequence[str]) -> None:
    """``pictures``: plot the forecasts of trained networks, and their forget gates around the festivals."""

    def write(
        source: models.Chosen,
        out: Path = Path("pictures"),
        network: Number = 0,
        reach: Count = 30,
        data_dir: Path | None = None,
    ) -> None:
        """Plot the median forecasts, and one network's forget gates in the days around each festival.

        Args:
            source: LSTMs of the festivals; by default the kept ones.
            out: the folder to write to.
            network: whose gates, from 0; they are means over the years that are forecast.
            reach: days before and after the festival.
            data_dir: folder of the data sets.
        """
        saved = load_model(source.folder("seasonal_sales", default="festival-lstm"), data_dir)
        config, panel = saved.config, saved.panel
        if (config.dataset, config.model, config.layers) != ("festivals", "lstm", 1):
            raise training.ConfigError("the pictures are of one layer of LSTMs, with --dataset festivals.")
        if not 0 <= network < config.models:
            raise training.ConfigError(f"network must be from 0 to {config.models - 1}, got {network}.")
        out.mkdir(parents=True, exist_ok=True)
        quantiles = forecast_rows(panel, saved.model, saved.params, *evaluation.held_out(panel))
        pictures.draw_forecasts(panel, np.median(quantiles, axis=0), out / "forecasts.png")
        recurrent = saved.model.bind(jax.tree.map(lambda leaf: leaf[network], saved.params)).recurrent
        found = [_around(panel, recurrent, row, reach) for row in range(len(panel.series))]
        pictures.draw_gates([each.name for each in panel.series], found, out / "forget_gates.png")
        print(out)

    tyro.cli(write, prog=f"{PROGRAM} pictures", args=arguments)


def _around(panel: Panel, recurrent: Any, row: int, reach: int) -> np.ndarray:
    """The forget gates around the festival of a series, the mean over all windows that are held out."""
    series, origin = evaluation.held_out(panel)
    found = []
    for begin in origin[series == row]:
        seen = pictures.forget_gates(recurrent.cell, recurrent.values, panel, row, int(begin))
        first = begin - panel.setting.context
        dates = panel.setting.dates(panel.series[row], first + np.arange(len(seen)))
        years = range(dates[0].astype(object).year, dates[-1].astype(object).year + 1)
        (held,) = panel.setting.held(panel.series[row], years).values()
        found.append(pictures.around(seen, np.searchsorted(dates, held).tolist(), reach))
    return np.mean(found, axis=0)


COMMANDS = {"forecast": forecast, "pictures": draw}
