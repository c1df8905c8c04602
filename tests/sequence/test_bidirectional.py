"""Bidirectional layers, against the oracle in both directions."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import assert_close, assert_equal, random_like

import lstmjax

pytestmark = pytest.mark.usefixtures("exact")

FORWARD = functools.partial(lstmjax.lstm, 2, 3)
BACKWARD = functools.partial(lstmjax.gru, 2, 4)
LENGTHS = np.array([5, 0, 3, 1], np.int32)
VALID = np.arange(5) < LENGTHS[:, None]


def _layer() -> lstmjax.Bidirectional:
    return lstmjax.bidirectional(FORWARD(dtype=jnp.float64), BACKWARD(dtype=jnp.float64))


def _problem(seed: int = 0) -> tuple[Any, np.ndarray, Any, np.ndarray]:
    """Parameters, inputs, state and resets, all random; the padding of the inputs is NaN."""
    layer, random = _layer(), np.random.default_rng(seed)
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0)), random)
    state = random_like(jax.eval_shape(functools.partial(layer.initial_state, (4,))), random)
    inputs = np.where(VALID[..., None], random.standard_normal((4, 5, 2)), np.nan)
    return params, inputs, state, random.random((4, 5)) < 0.4


def _expect(
    params: Any, inputs: Any, state: Any, lengths: Any, resets: Any, reverse: bool
) -> tuple[Any, np.ndarray]:
    lstm_zero = lstmjax.LSTMState(np.zeros(3), np.zeros(3))
    forward, first = reference.unroll(
        reference.lstm, params.forward, inputs, lstm_zero, state.forward, lengths, resets, reverse
    )
    backward, second = reference.unroll(
        reference.gru, params.backward, inputs, np.zeros(4), state.backward, lengths, resets, not reverse
    )
    return lstmjax.Directions(forward, backward), np.concatenate([first, second], axis=-1)


@pytest.mark.parametrize("reverse", [False, True])
def test_contract_06_a_bidirectional_layer_is_right_under_padding(reverse: bool) -> None:
    params, inputs, state, resets = _problem()
    expected = _expect(params, inputs, state, LENGTHS, resets, reverse)
    weights = random_like(expected, np.random.default_rng(1))
    layer = _layer()

    @jax.jit
    def run(params: Any, inputs: Any, state: Any) -> Any:
        def forward(params: Any, inputs: Any, state: Any) -> Any:
            return layer.apply(params, inputs, state, LENGTHS, resets, reverse)

        result, pullback = jax.vjp(forward, params, inputs, state)
        return result, pullback(weights)

    result, gradients = run(params, inputs, state)
    assert_close(result, expected)

    def loss(at: Any) -> Any:
        return reference.inner(_expect(*at, LENGTHS, resets, reverse), weights)

    assert_close(gradients, reference.gradient(loss, (params, inputs, state)))


def test_without_state_lengths_and_resets() -> None:
    params, inputs, _, _ = _problem()
    inputs = np.nan_to_num(inputs)
    layer = _layer()
    fresh = jax.tree.map(np.asarray, layer.initial_state((4,)))
    assert_close(
        layer.apply(params, inputs),
        _expect(params, inputs, fresh, np.full(4, 5), np.zeros((4, 5), bool), False),
    )


def test_every_output_sees_its_whole_sequence_and_no_more() -> None:
    """Which inputs an output depends on: all of its own row between two resets, none of the padding."""
    layer = _layer()
    params, _, _, _ = _problem()
    resets = np.zeros((4, 5), bool)
    resets[0, 2] = True

    def outputs(inputs: Any) -> Any:
        return layer.apply(params, inputs, None, LENGTHS, resets)[1].sum(axis=-1)

    jacobian = jax.jit(jax.jacrev(outputs))(np.random.default_rng(2).standard_normal((4, 5, 2)))
    depends = np.abs(jacobian).sum(axis=-1) > 0
    expected = np.zeros((4, 5, 4, 5), bool)
    expected[0, :2, 0, :2] = expected[0, 2:, 0, 2:] = True
    expected[2, :3, 2, :3] = expected[3, :1, 3, :1] = True
    np.testing.assert_array_equal(depends, expected)


def test_sizes_and_parts() -> None:
    layer = _layer()
    assert (layer.features, layer.output_size) == (2, 7)
    assert (layer.forward, layer.backward) == (FORWARD(dtype="float64"), BACKWARD(dtype="float64"))
    params = layer.init(jax.random.key(0))
    state = layer.initial_state((4,))
    assert isinstance(params, lstmjax.Directions)
    assert isinstance(state, lstmjax.Directions)
    assert_equal(state.forward, layer.forward.initial_state((4,)))
    assert_equal(state.backward, layer.backward.initial_state((4,)))


def test_both_directions_start_differently() -> None:
    cell = lstmjax.lstm(2, 3)
    params = lstmjax.bidirectional(cell, cell).init(jax.random.key(0))
    assert not np.array_equal(params.forward.kernel, params.backward.kernel)


def test_a_layer_goes_through_jit_like_any_argument() -> None:
    params, inputs, state, resets = _problem()
    apply = jax.jit(lambda layer, *arguments: layer.apply(*arguments))
    actual = apply(_layer(), params, inputs, state, LENGTHS, resets)
    assert_close(actual, _layer().apply(params, inputs, state, LENGTHS, resets), 1e-13)
    assert _layer() == _layer()
    assert hash(_layer()) == hash(_layer())
    assert apply._cache_size() == 1
    apply(_layer(), params, inputs, state, LENGTHS[::-1].copy(), ~resets)
    assert apply._cache_size() == 1


def test_any_batch_rank() -> None:
    params, inputs, state, resets = _problem()
    layer = _layer()
    _, expected = layer.apply(params, inputs, state, LENGTHS, resets)
    square = jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), (inputs, state, LENGTHS, resets))
    _, outputs = layer.apply(params, *square)
    assert_close(outputs.reshape(expected.shape), expected, 1e-13)
