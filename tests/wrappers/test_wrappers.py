"""Stacks and residual cells, against their parts; what all cells have in common is in test_unroll.py."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_close, assert_equal, random_like

import lstmjax

pytestmark = pytest.mark.usefixtures("exact")


def _lstm(features: int, hidden: int) -> lstmjax.LSTM:
    return lstmjax.lstm(features, hidden, dtype=jnp.float64)


def _gru(features: int, hidden: int) -> lstmjax.GRU:
    return lstmjax.gru(features, hidden, dtype=jnp.float64)


def _random(cell: lstmjax.Cell) -> tuple[Any, Any]:
    """Random parameters, and random inputs ``[3, 4, features]``."""
    random = np.random.default_rng(0)
    params = random_like(jax.eval_shape(cell.init, jax.random.key(0)), random)
    return params, random.standard_normal((3, 4, cell.features))


def test_a_stack_is_one_sequence_after_the_other() -> None:
    below, above = _lstm(2, 3), _gru(3, 5)
    deep = lstmjax.stack(below, above)
    assert (deep.features, deep.output_size, deep.input_dtype) == (2, 5, jnp.float64)
    params, inputs = _random(deep)
    lengths = np.array([4, 0, 2])
    state, outputs = lstmjax.unroll(deep, params, inputs, lengths=lengths)
    state_below, between = lstmjax.unroll(below, params[0], inputs, lengths=lengths)
    state_above, expected = lstmjax.unroll(above, params[1], np.asarray(between), lengths=lengths)
    assert_close((state, outputs), ((state_below, state_above), expected), 1e-13)


def test_a_stack_in_a_stack_is_a_longer_stack() -> None:
    flat = lstmjax.stack(_lstm(2, 3), _gru(3, 4), _lstm(4, 2))
    nested = lstmjax.stack(_lstm(2, 3), lstmjax.stack(_gru(3, 4), _lstm(4, 2)))
    params, inputs = _random(flat)
    first, *rest = params
    expected_state, expected = lstmjax.unroll(flat, params, inputs)
    state, outputs = lstmjax.unroll(nested, (first, tuple(rest)), inputs)
    assert_close(outputs, expected, 1e-13)
    assert_close(jax.tree.leaves(state), jax.tree.leaves(expected_state), 1e-13)


def test_a_stack_of_one_is_the_cell_itself() -> None:
    cell = _lstm(2, 3)
    params, inputs = _random(cell)
    (state,), outputs = lstmjax.unroll(lstmjax.stack(cell), (params,), inputs)
    assert_close((state, outputs), lstmjax.unroll(cell, params, inputs), 1e-13)


def test_cells_of_a_stack_start_differently() -> None:
    cell = _lstm(3, 3)
    first, second = lstmjax.stack(cell, cell).init(jax.random.key(0))
    assert not np.array_equal(first.kernel, second.kernel)
    assert not np.array_equal(first.recurrent_kernel, second.recurrent_kernel)


def test_a_residual_cell_adds_its_input() -> None:
    cell = _gru(3, 3)
    wrapped = lstmjax.residual(cell)
    assert (wrapped.features, wrapped.output_size, wrapped.input_dtype) == (3, 3, jnp.float64)
    params, inputs = _random(wrapped)
    state, outputs = lstmjax.unroll(wrapped, params, inputs, lengths=np.array([4, 0, 2]))
    inner_state, inner = lstmjax.unroll(cell, params, inputs, lengths=np.array([4, 0, 2]))
    assert_equal(state, inner_state)
    valid = np.arange(4) < np.array([4, 0, 2])[:, None]
    assert_close(outputs, np.where(valid[..., None], inputs + inner, 0.0), 1e-13)


def test_a_residual_cell_starts_as_its_inner_cell() -> None:
    cell = _lstm(3, 3)
    key = jax.random.key(3)
    assert_equal(lstmjax.residual(cell).init(key), cell.init(key))
    assert_equal(lstmjax.residual(cell).initial_state((2,)), cell.initial_state((2,)))


def test_a_highway_goes_from_its_input_to_its_cell() -> None:
    cell = _lstm(3, 3)
    wrapped = lstmjax.highway(cell)
    params, inputs = _random(wrapped)
    lengths = np.array([4, 0, 2])
    state, outputs = lstmjax.unroll(wrapped, params, inputs, lengths=lengths)
    inner_state, inner = lstmjax.unroll(cell, params.cell, inputs, lengths=lengths)
    assert_equal(state, inner_state)
    gate = 1 / (1 + np.exp(-(inputs @ params.kernel + params.bias)))
    valid = (np.arange(4) < lengths[:, None])[..., None]
    assert_close(outputs, np.where(valid, gate * inner + (1 - gate) * inputs, 0.0), 1e-13)
    for bias, expected in ((-100.0, np.where(valid, inputs, 0.0)), (100.0, inner)):
        extreme = params._replace(kernel=np.zeros((3, 3)), bias=np.full(3, bias))
        assert_close(lstmjax.unroll(wrapped, extreme, inputs, lengths=lengths)[1], expected, 1e-13)


def test_a_highway_starts_nearer_to_its_input() -> None:
    params = lstmjax.highway(_lstm(3, 3), gate_bias=-2.0).init(jax.random.key(0))
    np.testing.assert_array_equal(params.bias, np.full(3, -2.0))
    assert params.kernel.any()
    with pytest.raises(ValueError, match="highway: the cell takes 2 features and puts out 3"):
        lstmjax.highway(_lstm(2, 3))


def test_narrow_inputs_stay_narrow_through_wrappers() -> None:
    deep = lstmjax.stack(
        lstmjax.residual(lstmjax.lstm(3, 3, dtype=jnp.bfloat16)),
        lstmjax.gru(3, 3, dtype=jnp.bfloat16),
    )
    _, outputs = lstmjax.unroll(deep, deep.init(jax.random.key(0)), np.ones((2, 3), jnp.bfloat16))
    assert outputs.dtype == jnp.bfloat16


def test_a_stack_of_cells_of_different_dtypes_is_refused():
    below, above = lstmjax.lstm(3, 4, dtype="bfloat16"), lstmjax.lstm(4, 5)
    with pytest.raises(TypeError, match="cell 0 puts out bfloat16, but cell 1 takes float32"):
        lstmjax.stack(below, above)
