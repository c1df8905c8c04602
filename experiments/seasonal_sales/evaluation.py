"""What is held out, forecast in turn, and the figures of a run."""

import numpy as np

from experiments.common import mapped
from experiments.datasets.walmart import HOLIDAY_WEEKS
from experiments.seasonal_sales import metrics
from experiments.seasonal_sales.model import MEDIAN
from experiments.seasonal_sales.panel import Panel

HOLIDAY_WEIGHT = 5
"""Weight of a holiday's week in the error of the contest of Walmart."""


def held_out(panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Series and origins of all forecasts of the part that is held out, int ``[rows]``: each step once.

    A forecast reads all values before its origin; networks are not trained again on the way.
    """
    lengths = np.array([len(each.values) for each in panel.series])
    turns = int((lengths - panel.ends)[0]) // panel.setting.horizon
    origins = [panel.ends + turn * panel.setting.horizon for turn in range(turns)]
    return np.tile(np.arange(len(lengths)), turns), np.concatenate(origins)


def actual(panel: Panel, series: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """What came to be, float64 ``[rows, horizon]``."""
    steps = origin[:, None] + np.arange(panel.setting.horizon)
    return np.take_along_axis(panel.values[series], steps, axis=1)


def name_of(part: str, metric: str) -> str:
    """The name of a metric of a part in a run's summary: only errors say that they are of the test part."""
    return metric if part == "test" and metric in ("coverage_90", "peak_error_days") else f"{part}_{metric}"


def figures(panel: Panel, dataset: str, part: str, quantiles: np.ndarray) -> dict[str, float]:
    """The metrics of a run: mean and range over networks, and those of the median of their forecasts.

    Args:
      panel: the series.
      dataset: their name.
      part: the part that was held out, which begins the names of the metrics.
      quantiles: of `held_out`, ``[models, rows, horizon, quantiles]``.
    """
    each = [score(panel, dataset, forecasts) for forecasts in quantiles]
    found = {name_of(part, name): np.array([one[name] for one in each]) for name in each[0]}
    spread = mapped.spread(found)
    if len(quantiles) == 1:
        return spread
    median = score(panel, dataset, np.median(quantiles, axis=0))
    return spread | {f"{part}_ensemble_{name}": value for name, value in median.items()}


def score(panel: Panel, dataset: str, quantiles: np.ndarray) -> dict[str, float]:
    """The metrics of one model's forecasts of `held_out`, ``[rows, horizon, quantiles]``."""
    series, origin = held_out(panel)
    truth, median = actual(panel, series, origin), quantiles[..., MEDIAN]
    errors = np.abs(truth - median)
    units = np.array(
        [
            metrics.naive_error(panel.values[row, :begin], panel.setting.season)
            for row, begin in zip(series, origin, strict=True)
        ]
    )
    found = {
        "smape": metrics.smape(truth, median).mean(),
        "mase": (errors.mean(axis=1)[units > 0] / units[units > 0]).mean(),
        "coverage_90": metrics.covered(truth, quantiles[..., 0], quantiles[..., -1]).mean(),
    }
    if dataset == "walmart":
        dates = np.stack([panel.series[0].dates[begin:][: truth.shape[1]] for begin in origin])
        weights = np.where(np.isin(dates, HOLIDAY_WEEKS), HOLIDAY_WEIGHT, 1)
        found["wmae"] = (weights * errors).sum() / weights.sum()
    if dataset == "festivals":
        peaks = np.array([metrics.peak(*row) for row in zip(truth, median, strict=True)])
        found |= {"peak_error_days": peaks[:, 0].mean(), "peak_height_error": peaks[:, 1].mean()}
    return {name: float(value) for name, value in found.items()}
