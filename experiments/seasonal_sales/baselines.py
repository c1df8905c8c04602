"""Forecasts without a network, each from the past of one series alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.seasonal_sales.model import QUANTILES
from experiments.seasonal_sales.panel import Panel, ago
from lstmjax.training import ConfigError


def naive(panel: Panel, series: int, origin: int) -> np.ndarray:
    """The value of a year before, at the same date; the quantiles of what it was wrong by in the past."""
    steps = np.arange(panel.values.shape[1] + panel.setting.horizon)
    return _as_before(panel, series, origin, np.maximum(steps - panel.setting.season, -1))


def aligned(panel: Panel, series: int, origin: int) -> np.ndarray:
    """The same, but at the same distance from the festival."""
    return _as_before(panel, series, origin, panel.year_ago[series % len(panel.year_ago)])


def _as_before(panel: Panel, series: int, origin: int, year_ago: np.ndarray) -> np.ndarray:
    values = panel.values[series]
    index = origin + np.arange(panel.setting.horizon)
    before = ago(year_ago[None], index[None], np.array([origin]))[0]
    past = year_ago[:origin]
    errors = (values[:origin] - values[past])[past >= 0]
    spread = np.nanquantile(errors, QUANTILES) if np.isfinite(errors).any() else np.zeros(len(QUANTILES))
    spread = spread - spread[len(QUANTILES) // 2]
    return values[before][:, None] + spread


def theta(panel: Panel, series: int, origin: int) -> np.ndarray:
    """The dynamic optimised Theta method (Fiorucci et al. 2016), with its own intervals."""
    from statsforecast.models import DynamicOptimizedTheta  # noqa: PLC0415 (takes seconds)

    return _by_statsforecast(DynamicOptimizedTheta(season_length=panel.setting.season), panel, series, origin)


def ets(panel: Panel, series: int, origin: int) -> np.ndarray:
    """Exponential smoothing, its form chosen by the AICc (Hyndman and Khandakar 2008), with its intervals."""
    from statsforecast.models import AutoETS  # noqa: PLC0415 (takes seconds)

    return _by_statsforecast(AutoETS(season_length=panel.setting.season), panel, series, origin)


def _by_statsforecast(model: Any, panel: Panel, series: int, origin: int) -> np.ndarray:
    past = panel.values[series, :origin]
    found = model.forecast(y=past, h=panel.setting.horizon, level=[50, 90])
    return np.stack([found[name] for name in ("lo-90", "lo-50", "mean", "hi-50", "hi-90")], axis=-1)


BASELINES: dict[str, Callable[[Panel, int, int], np.ndarray]] = {
    "naive": naive,
    "aligned": aligned,
    "theta": theta,
    "ets": ets,
}


def forecast(name: str, panel: Panel, series: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """The quantiles of a baseline, ``[1, rows, horizon, quantiles]``.

    Raises:
      ConfigError: it needs a package that is not installed.
    """
    try:
        rows = [BASELINES[name](panel, *row) for row in zip(series, origin, strict=True)]
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--model {name} needs {error.name}: install the extra forecasting, pip install .[forecasting]."
        ) from error
    return np.stack(rows)[None]
