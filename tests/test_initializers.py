"""How parameters start: distributions, gate by gate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax import initializers

HIDDEN = 48
KEY = jax.random.key(7)


def _gates(kernel: jax.Array, count: int) -> list[np.ndarray]:
    return np.split(np.asarray(kernel), count, axis=-1)


@pytest.mark.parametrize(("make", "count"), [(lstmjax.lstm, 4), (lstmjax.gru, 3), (lstmjax.elman, 1)])
def test_recurrent_kernels_are_orthogonal_gate_by_gate(make: object, count: int) -> None:
    params = make(5, HIDDEN).init(KEY)
    gates = _gates(params.recurrent_kernel, count)
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(HIDDEN), atol=1e-5)
    for one, other in itertools.pairwise(gates):
        assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize(("make", "count"), [(lstmjax.lstm, 4), (lstmjax.gru, 3), (lstmjax.elman, 1)])
def test_kernels_have_the_variance_of_their_own_fan_in(make: object, count: int) -> None:
    features = 200
    gates = _gates(make(features, HIDDEN).init(KEY).kernel, count)
    for gate in gates:
        assert gate.shape == (features, HIDDEN)
        # The standard deviation of 9600 numbers is known to 1 / sqrt(2 * 9600) = 0.7%: five times that.
        np.testing.assert_allclose(gate.std(), features**-0.5, rtol=0.036)
        assert abs(gate.mean()) < 5 * features**-0.5 / np.sqrt(gate.size)
    for one, other in itertools.pairwise(gates):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_orthogonal_works_in_few_bits(dtype: object) -> None:
    kernel = initializers.orthogonal(KEY, (16, 16), dtype)
    assert kernel.dtype == dtype
    wide = np.asarray(kernel, np.float32)
    np.testing.assert_allclose(wide.T @ wide, np.eye(16), atol=0.02)


def test_uniform_fills_its_range() -> None:
    numbers = np.asarray(initializers.uniform(0.08)(KEY, (100, 100)))
    assert numbers.dtype == np.float32
    assert -0.08 <= numbers.min() < -0.0799
    assert 0.0799 < numbers.max() < 0.08
    np.testing.assert_allclose(numbers.std(), 0.08 / np.sqrt(3), rtol=0.02)
    assert abs(numbers.mean()) < 5 * 0.08 / np.sqrt(3 * numbers.size)


def test_uniform_starts_a_whole_cell() -> None:
    init = initializers.uniform(0.1)
    params = lstmjax.lstm(5, HIDDEN, kernel_init=init, recurrent_init=init).init(KEY)
    for kernel in (params.kernel, params.recurrent_kernel):
        assert 0.099 < np.abs(kernel).max() <= 0.1


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_the_forget_bias_is_the_forget_gates(value: float) -> None:
    i, f, g, o = _gates(lstmjax.lstm(2, 3, forget_bias=value).init(KEY).bias, 4)
    np.testing.assert_array_equal(f, [value] * 3)
    assert not any(gate.any() for gate in (i, g, o))


def test_the_forget_bias_is_one_unless_said_otherwise() -> None:
    _, f, _, _ = _gates(lstmjax.lstm(2, 3).init(KEY).bias, 4)
    np.testing.assert_array_equal(f, [1.0] * 3)


def test_chrono_spreads_time_constants_over_the_range() -> None:
    hidden, longest = 4000, 100.0
    bias = (
        lstmjax.lstm(
            1, hidden, forget_bias=initializers.chrono(longest), recurrent_init=(initializers.uniform(0.1))
        )
        .init(KEY)
        .bias
    )
    i, f, g, o = _gates(bias, 4)
    np.testing.assert_array_equal(i, -f)
    assert not g.any()
    assert not o.any()
    times = np.exp(f)
    assert times.min() >= 1.0
    assert times.max() <= (longest - 1) * (1 + 1e-6)
    # Uniform: the quartiles lie where they should, to five standard errors.
    quartiles = np.quantile((times - 1) / (longest - 2), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [0.25, 0.5, 0.75], atol=5 * 0.5 / np.sqrt(hidden))


def test_chrono_draws_with_its_own_key() -> None:
    cell = lstmjax.lstm(2, 8, forget_bias=initializers.chrono(50.0))
    first, other = (cell.init(jax.random.key(seed)).bias for seed in (0, 1))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "make",
    [initializers.uniform, initializers.forget_gate_bias, lambda value: initializers.chrono(10 + value)],
)
def test_equal_arguments_give_equal_initializers_and_equal_cells(make: object) -> None:
    assert make(0.5) == make(0.5)
    assert make(0.5) != make(0.25)
    option = "kernel_init" if make is initializers.uniform else "forget_bias"
    one, twin, other = (lstmjax.lstm(2, 3, **{option: make(value)}) for value in (0.5, 0.5, 0.25))
    assert one == twin
    assert hash(one) == hash(twin)
    assert one != other


def test_initializers_of_jax_may_be_used() -> None:
    cell = lstmjax.gru(2, 3, recurrent_init=jax.nn.initializers.constant(0.25))
    np.testing.assert_array_equal(cell.init(KEY).recurrent_kernel, np.full((3, 9), 0.25))


def test_old_style_keys_work() -> None:
    params = lstmjax.lstm(2, 3).init(jax.random.PRNGKey(0))
    np.testing.assert_array_equal(params.kernel, lstmjax.lstm(2, 3).init(jax.random.key(0)).kernel)
