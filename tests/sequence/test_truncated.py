"""Truncated back-propagation through time, against autodiff of its definition in a Python loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, assert_close
from jax.sharding import Mesh, PartitionSpec

import lstmjax

pytestmark = pytest.mark.usefixtures("exact")

BATCH, TIME = 3, 7
LENGTHS = np.array([7, 4, 0])
RESETS = np.zeros((BATCH, TIME), bool)
RESETS[0, 4] = RESETS[1, 1] = True


def problem(cell):
    keys = jax.random.split(jax.random.key(0), 4)
    params = cell.init(keys[0])
    inputs = jax.random.normal(keys[1], (BATCH, TIME, cell.features), jnp.float64)
    weights = jax.random.normal(keys[2], (BATCH, TIME, cell.output_size), jnp.float64)
    state = jax.tree.map(lambda x: x + 0.3, cell.initial_state((BATCH,)))
    return params, inputs, state, weights


def run_row(cell, params, state, inputs, resets, start, stop):
    outputs = {}
    for t in range(start, stop):
        before = cell.initial_state() if resets[t] else state
        state, outputs[t] = cell.step(params, before, inputs[t])
    return state, outputs


def definition(cell, k1, k2, params, inputs, state, weights, lengths, resets):
    """The sum, over rows and chunks, of the gradients of each chunk's loss; one row and chunk at a time."""

    def loss(params, inputs, state, row, chunk):
        end = (chunk + 1) * k1
        stop, begin = min(end, int(lengths[row])), max(0, end - k2)
        first = jax.tree.map(lambda leaf: leaf[row], state)
        if begin > 0:
            constants = jax.lax.stop_gradient((params, first, inputs[row]))
            first, _ = run_row(cell, *constants, resets[row], 0, min(begin, stop))
        _, outputs = run_row(cell, params, first, inputs[row], resets[row], begin, stop)
        return sum(((weights[row, t] * outputs[t]).sum() for t in outputs if t >= chunk * k1), jnp.zeros(()))

    @jax.jit
    def total(params, inputs, state):
        gradients = [
            jax.grad(loss, argnums=(0, 1, 2))(params, inputs, state, row, chunk)
            for row in range(BATCH)
            for chunk in range(-(-TIME // k1))
        ]
        return jax.tree.map(lambda *leaves: sum(leaves), *gradients)

    return total(params, inputs, state)


def gradients(run, weights, *at):
    def loss(params, inputs, state):
        return (run(params, inputs, state)[1] * weights).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*at)


@pytest.mark.parametrize(
    ("k1", "k2", "masks"), [(1, 3, False), (2, 2, False), (3, 5, False), (1, 1, True), (2, 3, True)]
)
def test_gradients_are_those_of_the_definition(k1, k2, masks):
    cell = CELLS["lstm"].make(jnp.float64)
    *at, weights = problem(cell)
    lengths, resets = (LENGTHS, RESETS) if masks else (np.full(BATCH, TIME), np.zeros_like(RESETS))
    given = {"lengths": lengths, "resets": resets} if masks else {}

    def run(params, inputs, state):
        return lstmjax.truncated_bptt(cell, params, inputs, state, **given, k1=k1, k2=k2)

    assert_close(jax.jit(run)(*at), lstmjax.unroll(cell, *at, **given), 1e-13)
    actual = gradients(run, weights, *at)
    assert_close(actual, definition(cell, k1, k2, *at, weights, lengths, resets), 1e-12)
    full = gradients(lambda *at: lstmjax.unroll(cell, *at, **given), weights, *at)
    assert np.abs(actual[0].kernel - full[0].kernel).max() > 1e-4


@pytest.mark.parametrize("k1", [1, 3, 7, 9])
def test_a_reach_of_the_whole_time_cuts_nothing(k1):
    cell = CELLS["lstm"].make(jnp.float64)
    *at, weights = problem(cell)
    run = functools.partial(lstmjax.truncated_bptt, cell, k1=k1, k2=9)
    expected = gradients(functools.partial(lstmjax.unroll, cell), weights, *at)
    assert_close(gradients(run, weights, *at), expected, 1e-12)


def test_masks_that_change_in_each_step_go_on_across_chunks():
    cell = lstmjax.zoneout(CELLS["lstm"].make(jnp.float64), 0.5, 0.5)
    params, inputs, state, _ = problem(cell)
    state = state._replace(steps=jnp.zeros((BATCH, 1)))
    noisy = cell.sample(jax.random.key(3), params, (BATCH,))
    expected = lstmjax.unroll(cell, noisy, inputs, state)
    assert_close(lstmjax.truncated_bptt(cell, noisy, inputs, state, k1=2, k2=3), expected, 1e-13)


def test_padding_has_no_influence():
    cell = CELLS["lstm"].make(jnp.float64)
    params, inputs, state, weights = problem(cell)
    run = functools.partial(lstmjax.truncated_bptt, cell, lengths=LENGTHS, k1=2, k2=3)
    junk = jnp.where(jnp.arange(TIME)[:, None] < LENGTHS[:, None, None], inputs, jnp.nan)
    one, other = (gradients(run, weights, params, x, state) for x in (inputs, junk))
    assert_close(other, one, 0.0)


def test_it_runs_over_devices_and_ranks_and_under_vmap():
    cell = CELLS["lstm"].make(jnp.float64)
    params, inputs, _, _ = problem(cell)
    inputs = jnp.concatenate([inputs, inputs[:1]])
    run = functools.partial(lstmjax.truncated_bptt, cell, k1=2, k2=3)
    expected = run(params, inputs)
    split = PartitionSpec("devices")
    mesh = Mesh(np.array(jax.devices("cpu")[:2]), ("devices",))
    sharded = jax.shard_map(run, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split)
    assert_close(jax.jit(sharded)(params, inputs), expected, 1e-13)
    assert_close(jax.vmap(run, in_axes=(None, 0))(params, inputs), expected, 1e-13)
    square = run(params, inputs.reshape(2, 2, TIME, -1))
    assert_close(square, jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), expected), 1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": 0, "k2": 1}, "k1 must be a positive integer, got 0"),
        ({"k1": 1, "k2": 1.5}, "k2 must be a positive integer"),
        ({"k1": 3, "k2": 2}, "k2 must be at least k1"),
        ({"k1": 2, "k2": 3, "lengths": np.array([7, 8, 0])}, r"lengths\[1\] is 8"),
        ({"k1": 2, "k2": 3, "state": lstmjax.LSTMState(np.zeros((2, 3)), np.zeros((2, 3)))}, "state.hidden"),
    ],
)
def test_what_cannot_be_is_refused(options, message, unchecked):
    cell = CELLS["lstm"].make(jnp.float64)
    params, inputs, _, _ = problem(cell)
    with pytest.raises(ValueError, match=message):
        lstmjax.truncated_bptt(cell, params, inputs, **options)
