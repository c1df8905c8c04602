"""Options of `lstmjax.unroll` beyond lengths and resets: masks, states of all steps, initial states, time
axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, LSTM_WAYS, WAYS, random_like

import lstmjax

BATCH, TIME = 5, 6
RUNS = [*(("lstm", way) for way in LSTM_WAYS), ("nested", "native"), ("nested", "scan"), ("gru", "scan")]
RUNS += [("min_lstm", way) for way in ("scan", "associative")]
RUNS = [(name, way) for name, way in RUNS if way in WAYS]
LAYERS = {
    "bidirectional": lstmjax.bidirectional(lstmjax.lstm(2, 3), lstmjax.gru(2, 3)),
    "layers": lstmjax.layers(
        lstmjax.bidirectional(lstmjax.lstm(2, 3), lstmjax.lstm(2, 2)), lstmjax.lstm(5, 4)
    ),
}


def problem(cell, seed=0):
    random = np.random.default_rng(seed)
    params = random_like(jax.eval_shape(cell.init, jax.random.key(0)), random, 0.5)
    inputs = random.standard_normal((BATCH, TIME, cell.features)).astype(np.float32)
    mask, resets = random.random((2, BATCH, TIME)) < [[[0.6]], [[0.3]]]
    mask[0] = False
    state, initial = (random_like(cell.initial_state(shape), random) for shape in ((BATCH,), ()))
    return params, inputs, state, initial, mask, resets


def assert_same(got, want):
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), got, want)


def packed(mask, resets):
    """Where the valid steps of each row lie, first, and the resets of these."""
    order = np.argsort(~mask, axis=1, kind="stable")
    moved = np.zeros_like(resets)
    for row, steps in enumerate(mask.cumsum(1)):
        for t in np.flatnonzero(resets[row]):
            place = steps[t] - mask[row, t]  # of the first valid step from t on
            if place < mask[row].sum():
                moved[row, place] = True
    return order, moved


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("name", "way"), RUNS)
def test_skipped_steps_are_as_if_they_were_not_there(name: str, way: str, reverse: bool) -> None:
    cell = ALL[name].make(jnp.float32)
    params, inputs, state, initial, mask, resets = problem(cell)
    inputs[~mask] = np.nan

    @jax.jit
    def run(inputs, state, mask, resets):
        def outputs(params, inputs, state):
            return lstmjax.unroll(
                cell, params, inputs, state, None, resets, reverse,
                mask=mask, initial_state=initial, return_states=True, backend=way,
            )  # fmt: skip

        results, pull_back = jax.vjp(outputs, params, inputs, state)
        return results, pull_back(jax.tree.map(jnp.cos, results))

    order, moved = packed(mask, resets)
    rows = np.arange(BATCH)[:, None]
    (after, outputs, states), (of_params, of_inputs, of_state) = run(inputs, state, mask, resets)
    want, slopes = run(inputs[rows, order], state, mask[rows, order], moved)
    pack = functools.partial(jax.tree.map, lambda leaf: leaf[rows, order])
    assert_same((after, pack(outputs), pack(states)), want)
    # Weights differ only where outputs are skipped and so have no gradient.
    assert_same((of_params, pack(of_inputs), of_state), slopes)
    assert not np.any(np.where(mask[..., None], 0, outputs))
    assert not np.any(np.where(mask[..., None], 0, of_inputs))


@pytest.mark.parametrize(("name", "way"), RUNS)
def test_states_are_those_after_each_step(name: str, way: str) -> None:
    cell = ALL[name].make(jnp.float32)
    params, inputs, state, *_ = problem(cell)
    _, outputs, states = lstmjax.unroll(cell, params, inputs, state, return_states=True, backend=way)
    for t in (0, 3):
        after, until = lstmjax.unroll(cell, params, inputs[:, : t + 1], state, backend=way)
        assert_same((outputs[:, t], jax.tree.map(lambda leaf, t=t: leaf[:, t], states)), (until[:, t], after))


@pytest.mark.parametrize("way", LSTM_WAYS)
def test_every_derivative_of_the_states(way: str) -> None:
    cell = lstmjax.lstm(2, 3)
    params, inputs, state, _, _, resets = problem(cell)

    def loss(way, params, inputs):
        options = {"resets": resets, "reverse": True, "return_states": True, "backend": way}
        _, _, states = lstmjax.unroll(cell, params, inputs, state, jnp.arange(BATCH), **options)
        return jnp.sin(states.cell).sum() + (states.hidden**2).sum()

    def derivatives(way):
        function = functools.partial(loss, way)
        dots = jax.tree.map(jnp.ones_like, (params, inputs))
        gradient = jax.grad(function, argnums=(0, 1))
        return jax.jvp(function, (params, inputs), dots), jax.jvp(gradient, (params, inputs), dots)

    got, want = jax.jit(derivatives, static_argnums=0)(way), jax.jit(derivatives, static_argnums=0)("scan")
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), got, want)


@pytest.mark.parametrize("way", LSTM_WAYS)
def test_resets_return_to_the_initial_state_given(way: str) -> None:
    """Two sequences in one row are as two rows, and the gradient of a learned state is theirs."""
    cell = lstmjax.stack(lstmjax.lstm(2, 3), lstmjax.residual(lstmjax.lstm(3, 3)))
    params, inputs, _, initial, *_ = problem(cell)
    resets = np.zeros((BATCH, TIME), bool)
    resets[:, 4] = True

    def together(initial, params):
        run = functools.partial(lstmjax.unroll, cell, params, backend=way, initial_state=initial)
        after, outputs = run(inputs, resets=resets)
        return sum(leaf.sum() for leaf in jax.tree.leaves(after)) + jnp.sin(outputs).sum()

    def apart(initial, params):
        run = functools.partial(lstmjax.unroll, cell, params, backend=way, initial_state=initial)
        _, first = run(inputs[:, :4])
        after, second = run(inputs[:, 4:])
        last = sum(leaf.sum() for leaf in jax.tree.leaves(after))
        return last + jnp.sin(first).sum() + jnp.sin(second).sum()

    gradients = [
        jax.jit(jax.value_and_grad(one, argnums=(0, 1)))(initial, params) for one in (together, apart)
    ]
    assert_same(*gradients)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["lstm", *LAYERS])
def test_time_may_be_the_first_axis(name: str, reverse: bool) -> None:
    layer = LAYERS.get(name) or ALL[name].make(jnp.float32)
    params, inputs, state, initial, mask, resets = problem(layer)
    lengths = np.arange(BATCH)
    options = {"lengths": lengths, "reverse": reverse, "initial_state": initial}
    after, outputs = lstmjax.unroll(layer, params, inputs, state, resets=resets, mask=mask, **options)
    turned = inputs.swapaxes(0, 1), state
    flags = {"resets": resets.T, "mask": mask.T}
    got, turned_outputs = lstmjax.unroll(layer, params, *turned, **flags, time_axis=0, **options)
    assert_same((got, turned_outputs.swapaxes(0, 1)), (after, outputs))
    assert lstmjax.unroll(layer, params, inputs[:, None], time_axis=-2)[1].shape[:3] == (BATCH, 1, TIME)


@pytest.mark.usefixtures("unchecked")
def test_options_that_do_not_fit_say_so() -> None:
    cell = lstmjax.lstm(2, 3)
    params, inputs, _, initial, mask, _ = problem(cell)
    run = functools.partial(lstmjax.unroll, cell, params, inputs)
    for options, error, text in (
        ({"mask": mask.astype(int)}, TypeError, "mask != 0"),
        ({"mask": mask.T}, ValueError, r"mask must be .*\(5, 6\)"),
        ({"time_axis": 2}, ValueError, "features"),
        ({"time_axis": 3}, ValueError, "time_axis"),
        ({"time_axis": "time"}, ValueError, "time_axis"),
        ({"initial_state": cell.initial_state((BATCH,))}, ValueError, r"initial_state.*\(3,\)"),
        ({"initial_state": tuple(initial)}, TypeError, "initial_state"),
    ):
        with pytest.raises(error, match=text):
            run(**options)
    layer = LAYERS["layers"]
    with pytest.raises(ValueError, match="return_states"):
        lstmjax.unroll(layer, layer.init(jax.random.key(0)), inputs, return_states=True)
