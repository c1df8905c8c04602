"""Gradients that are clipped or cut in each step, against autodiff of the definition in a Python loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import WAYS, assert_close, assert_equal

import lstmjax

pytestmark = pytest.mark.usefixtures("exact")

with jax.enable_x64(True):
    LSTM = lstmjax.lstm(2, 3, dtype=jnp.float64)


def problem(cell, time=5):
    keys = jax.random.split(jax.random.key(0), 4)
    params = jax.tree.map(lambda x: 2 * x, cell.init(keys[0]))
    inputs = jax.random.normal(keys[1], (4, time, 2), jnp.float64)
    weights = jax.random.normal(keys[2], (4, time, cell.output_size), jnp.float64)
    state = jax.tree.map(lambda x: x + 0.3, cell.initial_state((4,)))
    return params, inputs, state, weights


def test_clipped_gradients_are_those_of_the_definition():
    """By hand: each step's pullback in turn, its message to the state before it clipped."""
    limit = 0.2
    params, inputs, state, weights = problem(LSTM)

    @jax.jit
    def pull(params, at, input, message):
        return jax.vjp(LSTM.step, params, at, input)[1](message)

    step, states = jax.jit(LSTM.step), [state]
    inputs, weights = np.asarray(inputs), np.asarray(weights)
    for t in range(inputs.shape[1]):
        states.append(step(params, states[-1], inputs[:, t])[0])
    message = jax.tree.map(np.zeros_like, state)
    gradient, by_inputs, clipped = jax.tree.map(np.zeros_like, params), [], 0
    for t in reversed(range(inputs.shape[1])):
        found = pull(params, states[t], inputs[:, t], (message, weights[:, t]))
        by_params, message, by_input = jax.tree.map(np.asarray, found)
        clipped += sum((np.abs(leaf) > limit).sum() for leaf in message)
        message = jax.tree.map(lambda leaf: np.clip(leaf, -limit, limit), message)
        gradient = jax.tree.map(np.add, gradient, by_params)
        by_inputs.insert(0, by_input)
    assert clipped > 20

    def loss(params, inputs, state):
        return (lstmjax.unroll(lstmjax.clip_gradient(LSTM, limit), params, inputs, state)[1] * weights).sum()

    actual = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, inputs, state)
    assert_close(actual, (gradient, np.stack(by_inputs, axis=1), message), 1e-12)


def test_clipping_changes_no_value_and_no_forward_derivative():
    cell = lstmjax.clip_gradient(LSTM, 1e-3)
    params, inputs, state, _ = problem(cell)
    tangents = jax.tree.map(np.ones_like, (params, inputs, state))

    def run(cell):
        return jax.jvp(
            lambda *at: lstmjax.unroll(cell, *at, backend="scan"), (params, inputs, state), tangents
        )

    assert_equal(run(cell), run(LSTM))


def test_a_derivative_of_the_clipped_gradient_is_that_of_the_clipping():
    """Forward over reverse, against differences."""
    cell = lstmjax.clip_gradient(LSTM, 0.2)
    params, inputs, state, weights = problem(cell)
    params = jax.tree.map(np.asarray, params)
    direction = jax.tree.map(lambda x: np.cos(np.arange(x.size, dtype=x.dtype)).reshape(x.shape), params)

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: (lstmjax.unroll(cell, p, inputs, state)[1] * weights).sum())(params)

    forward = jax.jit(lambda: jax.jvp(gradient, (params,), (direction,))[1])()
    step = 1e-6
    ends = [
        gradient(jax.tree.map(lambda x, v, sign=sign: x + sign * step * v, params, direction))
        for sign in (1, -1)
    ]
    differences = jax.tree.map(lambda a, b: (np.asarray(a) - b) / (2 * step), *ends)
    assert_close(forward, differences, 1e-6)
    assert np.abs(jax.tree.leaves(forward)[0]).max() > 1e-3


@pytest.mark.parametrize("way", WAYS)
def test_the_truncated_gradient_is_that_of_the_definition(way):
    """Autodiff of the equations, with what the gates see of the past taken as a constant."""
    params, inputs, state, weights = problem(LSTM)

    def definition(params, inputs, state):
        hidden, memory, total = state.hidden, state.cell, 0.0
        for t in range(inputs.shape[1]):
            past = jax.lax.stop_gradient(hidden)
            gates = inputs[:, t] @ params.kernel + past @ params.recurrent_kernel + params.bias
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
            total += (weights[:, t] * hidden).sum()
        return total

    def loss(params, inputs, state):
        return (WAYS[way](lstmjax.truncate_gradient(LSTM), params, inputs, state)[1] * weights).sum()

    expected = jax.jit(jax.grad(definition, argnums=(0, 1, 2)))(params, inputs, state)
    assert_close(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, inputs, state), expected, 1e-12)
    assert not expected[2].hidden.any()
    assert expected[0].recurrent_kernel.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lstmjax.clip_gradient(LSTM, 0), "limit must be a number above 0, got 0"),
        (lambda: lstmjax.clip_gradient(LSTM, float("inf")), "use the cell itself"),
        (lambda: lstmjax.clip_gradient(LSTM, float("nan")), "limit must be"),
        (lambda: lstmjax.truncate_gradient(lstmjax.gru(2, 3)), "truncate_gradient: for cells whose state"),
    ],
)
def test_what_cannot_be_is_refused(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()
