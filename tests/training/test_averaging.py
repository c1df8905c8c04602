"""Averages of parameters and when they begin: against the loops that define them."""

import jax.numpy as jnp
import numpy as np
import pytest

from lstmjax.training import averaging
from lstmjax.training.averaging import NonMonotone


@pytest.mark.parametrize("interval", [1, 2, 5])
@pytest.mark.parametrize("seed", range(6))
def test_the_criterion_is_that_of_the_algorithm(interval, seed):
    """Algorithm 1 of Merity et al. 2018: t > n and v > min(logs[0..t - n - 1])."""
    values = 1 / np.arange(1, 21) + np.random.default_rng(seed).normal(size=20) * 0.1
    criterion, logs, reached = NonMonotone.of(interval), [], False
    for value in values.tolist():
        reached = reached or (len(logs) > interval and value > min(logs[:-interval]))
        logs.append(value)
        criterion = criterion.after(value)
        assert criterion.reached == reached
    assert reached, "so that there was something to be seen"
    assert not NonMonotone.of(interval).after(1.0).reached


def test_values_that_only_get_better_or_stay_never_reach_it():
    criterion = NonMonotone.of(2)
    for value in (3.0, 2.0, 2.0, 2.0, 2.0, 1.0):
        criterion = criterion.after(value)
    assert not criterion.reached


def test_a_mean_is_of_all_parameters_since_it_began():
    iterates = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    average, count = {"w": jnp.asarray(iterates[0])}, jnp.int32(0)
    for number, params in enumerate(iterates[1:], start=1):
        average, count = averaging.running_mean(average, {"w": jnp.asarray(params)}, count)
        if number <= 4:
            np.testing.assert_array_equal(average["w"], params), "not begun"
            assert int(count) == 0
        else:
            np.testing.assert_allclose(average["w"], iterates[4 : number + 1].mean(axis=0), rtol=1e-5)
            assert int(count) == number - 3
        if number == 4:
            count = jnp.int32(1)


def test_a_moving_average_is_quick_in_the_beginning():
    average = averaging.moving_average(jnp.float32(1.0), jnp.float32(0.0), decay=0.9, step=0)
    assert float(average) == pytest.approx(0.1)
    average = averaging.moving_average(jnp.float32(1.0), jnp.float32(0.0), decay=0.9, step=1000)
    assert float(average) == pytest.approx(0.9)
