"""Differences and the most probable trajectory, against matrices that are written out."""

import numpy as np
import pytest

from experiments.speech_synthesis.trajectories import most_probable, with_dynamics


def matrix(frames):
    """What maps a trajectory to itself, its first and its second differences."""
    first, second = np.zeros((2, frames, frames))
    for frame in range(1, frames - 1):
        first[frame, frame - 1 : frame + 2] = -0.5, 0, 0.5
        second[frame, frame - 1 : frame + 2] = 1, -2, 1
    return np.concatenate([np.eye(frames), first, second])


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 30])
def test_it_is_the_solution_of_the_normal_equations(frames):
    random = np.random.default_rng(frames)
    means, variances = random.normal(size=(frames, 6)), random.uniform(0.1, 2, 6)
    found = most_probable(means, variances)
    wide = matrix(frames)
    for column in range(2):
        precision = np.diag(np.repeat(1 / variances[column::2], frames))
        right = wide.T @ precision @ means[:, column::2].T.ravel()
        expected = np.linalg.solve(wide.T @ precision @ wide, right)
        np.testing.assert_allclose(found[:, column], expected, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 9])
def test_what_is_consistent_is_its_own_trajectory(frames):
    static = np.random.default_rng(frames).normal(size=(frames, 3))
    both = with_dynamics(static)
    np.testing.assert_allclose(both[:, 1::3].T.ravel(), matrix(frames) @ static[:, 1], atol=1e-12)
    np.testing.assert_allclose(most_probable(both, np.arange(1.0, 10)), static, atol=1e-5)
