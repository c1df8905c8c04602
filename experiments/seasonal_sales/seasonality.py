"""The season of a short past, by the classical decomposition, and a test of whether there is any."""

import numpy as np


def seasonal_part(logs: np.ndarray, season: int) -> np.ndarray:
    """What each step of the year adds, of logarithms of the past; 0 without a significant season.

    The mean over the years of the difference to the centred moving average over a year.

    Args:
      logs: float64 ``[rows, time]``, NaN where there is no value.
      season: steps of a year, even.

    Returns:
      float64 ``[rows, season]``: the first for the step after the past, and all those whole years away.
    """
    rows, time = logs.shape
    difference = np.full_like(logs, np.nan)
    weights = np.concatenate([[0.5], np.ones(season - 1), [0.5]]) / season
    if time > season:
        around = np.lib.stride_tricks.sliding_window_view(logs, season + 1, axis=1)
        difference[:, season // 2 : time - season // 2] = (
            logs[:, season // 2 : time - season // 2] - around @ weights
        )
    padded = np.pad(difference, ((0, 0), (-time % season, 0)), constant_values=np.nan)
    years = padded.reshape(rows, -1, season)
    known = np.isfinite(years)
    part = np.where(known, years, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    whole = known.any(axis=1).all(axis=1) & is_seasonal(logs, season)
    return np.where(whole[:, None], part - part.mean(axis=1, keepdims=True), 0)


def is_seasonal(logs: np.ndarray, season: int) -> np.ndarray:
    """Whether the autocorrelation at the lag of a year is significant at 90 per cent, bool ``[rows]``.

    Source: the test of Assimakopoulos and Nikolopoulos 2000 (International Journal of Forecasting 16).
    """
    known = np.isfinite(logs)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, logs, 0).sum(axis=1) / count
    centred = np.where(known, logs - mean[:, None], 0)
    variance = np.maximum((centred**2).sum(axis=1), 1e-12)
    lags = [(centred[:, lag:] * centred[:, :-lag]).sum(axis=1) / variance for lag in range(1, season + 1)]
    limit = 1.645 * np.sqrt((1 + 2 * sum(each**2 for each in lags[:-1])) / count)
    return np.abs(lags[-1]) > limit
