"""Errors of forecasts, in the units of the series."""

import numpy as np


def smape(actual: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """200 |y - f| / (|y| + |f|) of each step, in per cent, as in M3; 0 where both are 0.

    Source: Makridakis and Hibon 2000 (International Journal of Forecasting 16).
    """
    size = np.abs(actual) + np.abs(forecast)
    return 200 * np.abs(actual - forecast) / np.where(size == 0, 1, size)


def naive_error(past: np.ndarray, season: int) -> float:
    """The mean absolute error of the seasonal naive forecast in the past, the unit of MASE; else NaN.

    Source: Hyndman and Koehler 2006 (International Journal of Forecasting 22).
    """
    changes = np.abs(past[season:] - past[:-season])
    return float(np.nanmean(changes)) if np.isfinite(changes).any() else float("nan")


def covered(actual: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether each value lies within its interval."""
    return (low <= actual) & (actual <= high)


def peak(actual: np.ndarray, forecast: np.ndarray) -> tuple[int, float]:
    """The distance in steps from the real peak to the forecast one, and the relative error of its height."""
    real, said = int(np.nanargmax(actual)), int(forecast.argmax())
    return abs(real - said), float(abs(forecast[said] - actual[real]) / actual[real])
