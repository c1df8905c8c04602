"""Cells with noise: whose masks they are, and when; that the contract holds is in test_unroll.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import WAYS, assert_close, assert_equal
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

import lstmjax
from lstmjax.nnx import Recurrent

pytestmark = pytest.mark.usefixtures("exact")

with jax.enable_x64(True):
    LSTM = lstmjax.lstm(2, 3, dtype=jnp.float64)
    PROJECTED = lstmjax.lstm(2, 4, projection=3, peepholes=True, dtype=jnp.float64)
    GRU = lstmjax.gru(2, 3, dtype=jnp.float64)
    ELMAN = lstmjax.elman(2, 3, dtype=jnp.float64)

NOISY = {
    "locked": lstmjax.dropout(LSTM, inputs=0.5, outputs=0.5),
    "variational": lstmjax.dropout(LSTM, inputs=0.4, hidden=0.4, outputs=0.4),
    "variational elman": lstmjax.dropout(ELMAN, hidden=0.5),
    "variational projection": lstmjax.dropout(PROJECTED, hidden=0.4),
    "recurrent": lstmjax.recurrent_dropout(LSTM, 0.5),
    "zoneout": lstmjax.zoneout(LSTM, hidden=0.5, memory=0.5),
    "zoneout projection": lstmjax.zoneout(PROJECTED, hidden=0.5, memory=0.5),
    "zoneout gru": lstmjax.zoneout(GRU, hidden=0.5),
    "together": lstmjax.dropout(lstmjax.zoneout(lstmjax.dropout(LSTM, hidden=0.5), 0.3, 0.3), outputs=0.5),
}
each = pytest.mark.parametrize("name", NOISY)


def problem(cell, batch=3, time=6):
    keys = jax.random.split(jax.random.key(0), 3)
    params = cell.init(keys[0])
    noisy = cell.sample(keys[1], params, (batch,))
    return params, noisy, jax.random.normal(keys[2], (batch, time, cell.features), jnp.float64)


def row_of(noisy, number):
    """Parameters with the noise of one row of a batch."""
    if not isinstance(noisy, lstmjax.Noisy):
        return noisy
    return lstmjax.Noisy(row_of(noisy.params, number), jax.tree.map(lambda x: x[number], noisy.noise))


@each
@pytest.mark.parametrize("way", WAYS)
def test_each_row_is_as_if_alone_with_its_noise(name, way):
    cell = NOISY[name]
    params, noisy, inputs = problem(cell)
    lengths = jnp.array([6, 0, 4])
    _, together = WAYS[way](cell, noisy, inputs, lengths=lengths)
    for number in range(3):
        _, alone = WAYS[way](cell, row_of(noisy, number), inputs[number], lengths=lengths[number])
        assert_close(together[number], alone, 1e-13)
    _, without = WAYS[way](cell, params, inputs, lengths=lengths)
    assert np.abs(together - without)[0].max() > 1e-3


@each
def test_other_rows_keys_and_steps_have_other_masks(name):
    cell = NOISY[name]
    params, noisy, _ = problem(cell)
    same = jnp.ones((3, 8, 2))
    _, outputs = lstmjax.unroll(cell, noisy, same)
    assert not np.allclose(outputs[0], outputs[1])
    other = cell.sample(jax.random.key(5), params, (3,))
    assert not np.allclose(outputs, lstmjax.unroll(cell, other, same)[1])
    assert_equal(lstmjax.unroll(cell, cell.plain(noisy), same), lstmjax.unroll(cell, params, same))


@each
def test_noise_without_a_batch_is_shared_by_all_rows(name):
    cell = NOISY[name]
    shared = cell.sample(jax.random.key(1), cell.init(jax.random.key(0)))
    _, outputs = lstmjax.unroll(cell, shared, jnp.ones((2, 3, 5, 2)))
    assert_close(outputs, jnp.broadcast_to(outputs[:1, :1], outputs.shape), 1e-13)


@each
def test_old_and_new_keys_draw_the_same(name):
    cell = NOISY[name]
    params = cell.init(jax.random.key(0))
    new, old = (cell.sample(key, params, (2,)) for key in (jax.random.key(3), jax.random.PRNGKey(3)))
    assert_equal(*(lstmjax.unroll(cell, noisy, jnp.ones((2, 5, 2))) for noisy in (new, old)))


def test_masks_are_the_same_without_float64():
    cell = lstmjax.dropout(lstmjax.zoneout(lstmjax.lstm(2, 30), 0.5, 0.5), inputs=0.5, outputs=0.5)

    def outputs():
        noisy = cell.sample(jax.random.key(3), jax.tree.map(jnp.asarray, params), (2,))
        return np.asarray(lstmjax.unroll(cell, noisy, jnp.ones((2, 5, 2), jnp.float32))[1])

    params = jax.tree.map(np.asarray, cell.init(jax.random.key(0)))
    with jax.enable_x64(False):
        narrow = outputs()
    assert_close(narrow, outputs(), 1e-6)


@each
@pytest.mark.parametrize("way", WAYS)
def test_the_batch_and_its_noise_over_devices(name, way):
    cell = NOISY[name]
    _params, noisy, inputs = problem(cell, batch=4)
    everywhere, split = PartitionSpec(), PartitionSpec("devices")

    def specs(tree, spec):
        if isinstance(tree, lstmjax.Noisy):
            return lstmjax.Noisy(specs(tree.params, everywhere), jax.tree.map(lambda _: split, tree.noise))
        return jax.tree.map(lambda _: spec, tree)

    mesh = Mesh(np.array(jax.devices("cpu")[:2]), ("devices",))
    sharded = jax.shard_map(
        functools.partial(WAYS[way], cell),
        mesh=mesh,
        in_specs=(specs(noisy, everywhere), split),
        out_specs=split,
    )
    assert_close(jax.jit(sharded)(noisy, inputs), lstmjax.unroll(cell, noisy, inputs), 1e-12)


def test_samples_under_vmap_are_samples_of_the_network():
    """Monte Carlo dropout: many draws at once, each as if drawn alone."""
    cell = NOISY["together"]
    params, _, inputs = problem(cell)
    keys = jax.random.split(jax.random.key(2), 4)

    def outputs(key):
        return lstmjax.unroll(cell, cell.sample(key, params, (3,)), inputs)[1]

    assert_close(jax.vmap(outputs)(keys), jnp.stack([outputs(key) for key in keys]), 1e-12)


@pytest.mark.parametrize("name", ["locked", "variational"])
def test_dropout_drops_the_same_units_in_all_steps_and_keeps_the_mean(name):
    inner = lstmjax.lstm(2, 400, recurrent_init=lstmjax.initializers.lecun_normal)
    cell = lstmjax.dropout(inner, outputs=0.25, hidden=0.0 if name == "locked" else 0.1)
    params = cell.init(jax.random.key(0))
    noisy = cell.sample(jax.random.key(1), params)
    _, outputs = lstmjax.unroll(cell, noisy, jnp.ones((3, 2), jnp.float32))
    dropped = np.asarray(outputs == 0)
    assert (dropped == dropped[0]).all()
    assert abs(dropped[0].mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)
    masks = np.asarray(noisy.noise.outputs)
    np.testing.assert_allclose(masks[~dropped[0]], 1 / 0.75, rtol=1e-6)


def test_zoneout_keeps_units_at_its_rates_others_in_each_step():
    hidden, memory = 0.2, 0.6
    inner = lstmjax.lstm(2, 1000, recurrent_init=lstmjax.initializers.lecun_normal)
    cell = lstmjax.zoneout(inner, hidden=hidden, memory=memory)
    noisy = cell.sample(jax.random.key(1), cell.init(jax.random.key(0)))
    state, kept = cell.initial_state(), []
    for _ in range(3):
        before, (state, output) = state, cell.step(noisy, state, jnp.ones(2, jnp.float32))
        assert_equal(output, state.inner.hidden)
        kept.append([np.asarray(a == b) for a, b in zip(before.inner, state.inner, strict=True)])
    for of_hidden, of_memory in kept:
        for share, rate in (
            (of_hidden, hidden),
            (of_memory, memory),
            (of_hidden & of_memory, hidden * memory),
        ):
            assert abs(share.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / 1000)
    assert (kept[0][0] != kept[1][0]).any()
    assert (kept[1][1] != kept[2][1]).any()


def test_zoneout_without_noise_is_the_expectation():
    cell = lstmjax.zoneout(LSTM, hidden=0.25, memory=0.5)
    params, _, inputs = problem(cell)
    state, _ = cell.step(params, cell.initial_state((3,)), inputs[:, 0])
    inner, _ = LSTM.step(params, LSTM.initial_state((3,)), inputs[:, 0])
    again, output = cell.step(params, state, inputs[:, 1])
    assert_close(state.inner, lstmjax.LSTMState(0.75 * inner.hidden, 0.5 * inner.cell), 1e-13)
    after, _ = LSTM.step(params, state.inner, inputs[:, 1])
    assert_close(output, 0.25 * state.inner.hidden + 0.75 * after.hidden, 1e-13)
    assert_close(again.inner.cell, 0.5 * state.inner.cell + 0.5 * after.cell, 1e-13)


def test_recurrent_dropout_of_a_gru_equals_the_reference():
    cell = lstmjax.recurrent_dropout(GRU, 0.5)
    params, _, inputs = problem(cell)
    noisy = cell.sample(jax.random.key(4), params)

    def factors(step):
        key = jax.random.fold_in(jax.random.fold_in(noisy.noise, step), 0)
        return 2.0 * ~np.asarray(jax.random.bernoulli(key, jnp.float32(0.5), (3,)))

    step = reference.gru_with_recurrent_dropout(factors)
    in_numpy = jax.tree.map(np.asarray, params)
    initial = jax.tree.map(np.asarray, cell.initial_state())
    expected = reference.unroll(step, in_numpy, np.asarray(inputs), initial)
    assert_close(lstmjax.unroll(cell, noisy, inputs), expected, 1e-12)
    assert any(not factors(step).all() for step in range(6))


@pytest.mark.parametrize("name", ["recurrent", "zoneout"])
def test_a_reset_begins_with_the_masks_of_the_first_step(name):
    cell = NOISY[name]
    _, noisy, inputs = problem(cell)
    twice = jnp.concatenate([inputs, inputs], axis=1)
    resets = jnp.broadcast_to(jnp.arange(12) == 6, (3, 12))
    state, outputs = lstmjax.unroll(cell, noisy, twice, resets=resets)
    assert_close(outputs[:, 6:], outputs[:, :6], 1e-13)
    np.testing.assert_array_equal(state.steps, np.full((3, 1), 6))
    _, without = lstmjax.unroll(cell, noisy, twice)
    assert not np.allclose(without[:, 6:], outputs[:, 6:])


def test_layers_and_modules_draw_noise():
    layer = lstmjax.bidirectional(NOISY["locked"], NOISY["recurrent"])
    module, key = Recurrent(layer, rngs=nnx.Rngs(0)), jax.random.key(1)
    noisy = layer.sample(key, module.values, (2,))
    expected = layer.apply(noisy, jnp.ones((2, 5, 2)))
    assert_close(module(jnp.ones((2, 5, 2)), key=key), expected, 1e-13)
    assert not np.allclose(module(jnp.ones((2, 5, 2)))[1], expected[1])


def test_gradients_reach_parameters_and_not_the_noise():
    cell = NOISY["together"]
    params, _, inputs = problem(cell)

    def loss(params):
        return lstmjax.unroll(cell, cell.sample(jax.random.key(1), params, (3,)), inputs)[1].sum()

    gradient = jax.grad(loss)(params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


@each
def test_noise_of_another_batch_is_refused(name, unchecked):
    cell = NOISY[name]
    _, noisy, inputs = problem(cell)
    for run in (
        lambda: lstmjax.unroll(cell, noisy, inputs[:2]),
        lambda: lstmjax.unroll(cell, noisy, inputs[0]),
        lambda: cell.step(noisy, cell.initial_state((2,)), inputs[:2, 0]),
    ):
        with pytest.raises(ValueError, match=r"noise was sampled for batch shape \(3,\).*sample"):
            run()


def test_noise_for_a_cell_without_is_refused(unchecked):
    _, noisy, inputs = problem(NOISY["locked"])
    with pytest.raises(TypeError, match=r"params must have the structure"):
        lstmjax.unroll(LSTM, noisy, inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: lstmjax.dropout(LSTM, inputs=1.0),
            "dropout: inputs must be a rate from 0 to below 1, got 1",
        ),
        (lambda: lstmjax.dropout(LSTM, hidden=-0.1), "dropout: hidden must be a rate"),
        (lambda: lstmjax.dropout(GRU, hidden=0.5), "dropout: hidden is for cells whose state has a vector"),
        (lambda: lstmjax.recurrent_dropout(LSTM, 2), "recurrent_dropout: rate must be"),
        (lambda: lstmjax.recurrent_dropout(ELMAN, 0.5), "must be an lstm or a gru, got Elman"),
        (lambda: lstmjax.zoneout(LSTM, memory="a"), "zoneout: memory must be a rate"),
        (lambda: lstmjax.zoneout(GRU, memory=0.5), "has no cell state"),
        (lambda: lstmjax.zoneout(lstmjax.stack(LSTM)), "must be that of an LSTM or one array"),
    ],
)
def test_what_cannot_be_is_refused(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()
