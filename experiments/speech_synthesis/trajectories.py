r"""Dynamic features, and the trajectory of static features that is most probable given both.

With the static features c of a dimension, their first and second differences are

.. math:: \Delta c_t = (c_{t+1} - c_{t-1}) / 2, \qquad \Delta^2 c_t = c_{t-1} - 2 c_t + c_{t+1}

and 0 at the first and the last frame, where they do not count. Given the means m of [c, Dc, DDc] and their
variances S, the most probable trajectory solves, with the matrix W that maps c to all three,
:math:`W^T S^{-1} W c = W^T S^{-1} m`, which is banded.

Source: Tokuda et al. 2000 (ICASSP), "Speech parameter generation algorithms for HMM-based speech synthesis".
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import solveh_banded

WINDOWS = ((-0.5, 0.0, 0.5), (1.0, -2.0, 1.0))
"""Weights of the frames t - 1, t and t + 1, for the first and the second differences."""


def with_dynamics(static: Float[np.ndarray, "frames size"]) -> Float[np.ndarray, "frames three_sizes"]:
    """Static features, their first and their second differences, side by side."""
    dynamic = np.zeros((len(static), 2 * static.shape[1]), static.dtype)
    if len(static) > 2:
        before, now, after = static[:-2], static[1:-1], static[2:]
        parts = [a * before + b * now + c * after for a, b, c in WINDOWS]
        dynamic[1:-1] = np.concatenate(parts, axis=1)
    return np.concatenate([static, dynamic], axis=1)


def most_probable(
    means: Float[np.ndarray, "frames three_sizes"], variances: Float[np.ndarray, " three_sizes"]
) -> Float[np.ndarray, "frames size"]:
    """The most probable static trajectory (MLPG), with the same variances at all frames."""
    frames, size = len(means), means.shape[1] // 3
    precisions = 1 / np.asarray(variances, np.float64)
    found = np.empty((frames, size), np.float32)
    for column in range(size):
        precision, mean = precisions[column::size], means[:, column::size].astype(np.float64)
        found[:, column] = solveh_banded(*_normal_equations(mean, precision), lower=True)
    return found


def _normal_equations(means: np.ndarray, precisions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lower bands of W'PW, ``[3, frames]``, and W'Pm, of one dimension."""
    frames = len(means)
    bands, right = np.zeros((3, frames)), np.zeros(frames)
    bands[0] = precisions[0]
    right += precisions[0] * means[:, 0]
    inner = np.arange(1, frames - 1)
    for weights, precision, mean in zip(WINDOWS, precisions[1:], means.T[1:], strict=True):
        for first in range(3):  # the window at frame t covers t - 1, t, t + 1
            right[inner + first - 1] += weights[first] * precision * mean[inner]
            for second in range(first, 3):
                bands[second - first, inner + first - 1] += weights[first] * weights[second] * precision
    return bands, right
