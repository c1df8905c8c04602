"""Cells in general, over the table of cells, and the LSTM's equations."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import CELLS, Gradients, assert_close, random_like

import lstmjax
from lstmjax.checks import describe

pytestmark = pytest.mark.usefixtures("exact")

each_cell = pytest.mark.parametrize("name", CELLS)


def _random_step(name: str, batch_shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Any, Any]:
    """Random parameters, state and inputs of a cell, in float64."""
    cell, random = CELLS[name].make(jnp.float64), np.random.default_rng(seed)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(functools.partial(cell.initial_state, batch_shape))
    inputs = random.standard_normal((*batch_shape, cell.features))
    return random_like(params, random), CELLS[name].reachable(random_like(state, random)), inputs


@each_cell
@pytest.mark.parametrize("batch_shape", [(), (3,), (2, 0), (2, 1)], ids=str)
def test_step_equals_the_reference_for_any_batch(name: str, batch_shape: tuple[int, ...]) -> None:
    cell = CELLS[name].make(jnp.float64)
    params, state, inputs = _random_step(name, batch_shape)
    new_state, outputs = jax.jit(cell.step)(params, state, inputs)
    assert outputs.shape == (*batch_shape, cell.output_size)
    assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(np.shape, state)
    for row in np.ndindex(*batch_shape):
        row_state = jax.tree.map(lambda leaf, row=row: leaf[row], state)
        expected = CELLS[name].step(params, row_state, inputs[row])
        actual = jax.tree.map(lambda leaf, row=row: leaf[row], (new_state, outputs))
        assert_close(actual, expected, 1e-13)


@each_cell
def test_initial_state_is_zero(name: str) -> None:
    cell = CELLS[name].make(jnp.float64)
    single, batch = (jax.tree.leaves(cell.initial_state(shape)) for shape in ((), (2, 3)))
    for one, many in zip(single, batch, strict=True):
        assert many.shape == (2, 3, *one.shape)
        assert one.ndim > 0
        assert not many.any()


@pytest.mark.parametrize("name", ["lstm_chrono", "nested"])  # Between them, all kinds of cells.
def test_init_depends_on_the_key_and_on_nothing_else(name: str) -> None:
    init = jax.jit(CELLS[name].make(jnp.float64).init)
    first, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert_close(first, again, 0.0)
    changed = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (first, other)), strict=True)]
    assert sum(changed) >= 2  # Kernels; biases may be constant.
    distinct = {leaf.tobytes() for leaf in map(np.asarray, jax.tree.leaves(first)) if leaf.any()}
    assert len(distinct) == sum(bool(leaf.any()) for leaf in jax.tree.leaves(first))


@each_cell
def test_equal_cells_are_one_to_jax(name: str) -> None:
    """Equal and hashable, without leaves, the same after a round trip through a transformation."""
    cell, twin = CELLS[name].make(jnp.float64), CELLS[name].make("float64")
    assert cell == twin
    assert hash(cell) == hash(twin)
    assert jax.tree.leaves(cell) == []
    assert jax.jit(lambda cell: cell)(cell) == cell
    assert cell != CELLS[name].make(jnp.float32)


@each_cell
def test_cells_cannot_be_changed(name: str) -> None:
    cell = CELLS[name].make(jnp.float64)
    field = dataclasses.fields(cell)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cell, field, getattr(cell, field))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (lstmjax.lstm(2, 3), "LSTM(features=2, hidden=3)"),
        (lstmjax.gru(2, 3, dtype="bfloat16"), "GRU(features=2, hidden=3, dtype='bfloat16')"),
        (lstmjax.elman(2, 3, param_dtype=jnp.float16), "Elman(features=2, hidden=3, param_dtype='float16')"),
        (lstmjax.lstm(2, 3, forget_bias=2.0), "LSTM(features=2, hidden=3, forget_bias=2.0)"),
        (
            lstmjax.stack(lstmjax.lstm(2, 3), lstmjax.residual(lstmjax.gru(3, 3))),
            "Stack(cells=(LSTM(features=2, hidden=3), Residual(cell=GRU(features=3, hidden=3))))",
        ),
    ],
)
def test_a_cell_prints_as_what_makes_it(cell: lstmjax.Cell, text: str) -> None:
    assert repr(cell) == text


def test_parameters_and_state_of_an_lstm() -> None:
    cell = lstmjax.lstm(2, 3, forget_bias=1.5, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == lstmjax.LSTMParams((2, 12), (3, 12), (12,))
    np.testing.assert_array_equal(params.bias, [0] * 3 + [1.5] * 3 + [0] * 6)
    assert isinstance(cell.initial_state(), lstmjax.LSTMState)


def _one_unit(**gates: float) -> lstmjax.LSTMParams:
    """An LSTM of one unit whose gates see nothing but a bias; i, f, g, o of the given pre-activations."""
    bias = np.array([gates.get(gate, 0.0) for gate in "ifgo"])
    return lstmjax.LSTMParams(np.zeros((1, 4)), np.zeros((1, 4)), bias)


@pytest.mark.parametrize(
    ("gates", "cell", "hidden"),
    [
        # All gates half open: c = 0.8 / 2.
        ({}, 0.4, 0.5 * math.tanh(0.4)),
        # Input gate shut, forget gate open: what was remembered stays, whatever the candidate.
        ({"i": -1e3, "f": 1e3, "g": 1e3, "o": 1e3}, 0.8, math.tanh(0.8)),
        # Forget gate shut, input gate open: the candidate takes its place.
        ({"i": 1e3, "f": -1e3, "g": 0.3, "o": 1e3}, math.tanh(0.3), math.tanh(math.tanh(0.3))),
        # Both open: they add.
        ({"i": 1e3, "f": 1e3, "g": -1e3, "o": 1e3}, -0.2, math.tanh(-0.2)),
        # Output gate shut: remembered, but not told.
        ({"i": -1e3, "f": 1e3, "o": -1e3}, 0.8, 0.0),
    ],
    ids=["half open", "remember", "overwrite", "add", "silent"],
)
def test_each_gate_of_an_lstm_does_its_work(gates: dict[str, float], cell: float, hidden: float) -> None:
    state = lstmjax.LSTMState(np.array([0.5]), np.array([0.8]))
    lstm = lstmjax.lstm(1, 1, dtype=jnp.float64)
    new, output = lstm.step(_one_unit(**gates), state, np.zeros(1))
    np.testing.assert_allclose(new.cell, [cell], rtol=1e-12)
    np.testing.assert_allclose(new.hidden, [hidden], rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(output, new.hidden)


def test_the_cell_state_is_kept_in_float32_when_the_rest_is_narrow() -> None:
    """A sum of a thousand small numbers, which bfloat16 would stop counting at 256 times their size."""
    cell = lstmjax.lstm(1, 1, dtype=jnp.bfloat16)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), _one_unit(i=1e3, f=1e3, g=math.atanh(1e-3)))
    state, outputs = lstmjax.unroll(cell, params, np.zeros((1000, 1), jnp.bfloat16))
    assert outputs.dtype == jnp.bfloat16
    np.testing.assert_allclose(state.cell, [1.0], rtol=1e-2)


def test_gates_are_computed_in_float32_when_the_rest_is_narrow() -> None:
    """A thousand products of numbers of bfloat16, whose sum is none; exact up to float32's rounding."""
    cell, random = lstmjax.lstm(1000, 2, dtype=jnp.bfloat16), np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: (0.03 * random.standard_normal(leaf.shape)).astype(jnp.bfloat16),
        jax.eval_shape(cell.init, jax.random.key(0)),
    )
    inputs = random.standard_normal(1000).astype(jnp.bfloat16)
    state, _ = cell.step(
        jax.tree.map(lambda leaf: leaf.astype(np.float32), params), cell.initial_state(), inputs
    )
    double = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
    zero = lstmjax.LSTMState(np.zeros(2), np.zeros(2))
    expected, _ = reference.lstm(double, zero, inputs.astype(np.float64))
    np.testing.assert_allclose(state.cell, expected.cell, rtol=1e-5)


@each_cell
def test_huge_inputs_give_finite_results_and_gradients(name: str) -> None:
    cell = CELLS[name].make(jnp.float64)
    params, state, inputs = _random_step(name, (3,))

    @jax.jit
    def run(at: Gradients) -> Any:
        return jax.vjp(lambda at: cell.step(at.params, at.state, at.inputs), at)

    for scale in (1e30, -1e30):
        result, pullback = run(Gradients(params, scale * inputs, state))
        gradients = pullback(jax.tree.map(np.ones_like, result))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((result, gradients)))


@dataclasses.dataclass(frozen=True, repr=False)
class Leaky(lstmjax.Cell):
    """A cell of one's own: ``h' = decay * h + x``, with a scalar as its only parameter."""

    features: int

    @property
    def output_size(self) -> int:
        return self.features

    @property
    def input_dtype(self) -> Any:
        return jnp.float64

    def init(self, key: Any) -> dict[str, jax.Array]:
        return {"decay": jax.random.uniform(key, (), jnp.float64)}

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> list[jax.Array]:
        return [jnp.zeros((*batch_shape, self.features), jnp.float64)]

    def step(self, params: Any, state: Any, inputs: Any) -> Any:
        hidden = params["decay"] * state[0] + inputs
        return [hidden], hidden


def test_a_cell_of_ones_own_needs_five_definitions() -> None:
    cell, params = Leaky(2), {"decay": np.asarray(0.5)}
    inputs = np.ones((1, 3, 2))
    [hidden], outputs = lstmjax.unroll(cell, params, inputs, lengths=np.array([2]))
    np.testing.assert_array_equal(outputs[0, :, 0], [1.0, 1.5, 0.0])
    np.testing.assert_array_equal(hidden, [[1.5, 1.5]])
    deep = lstmjax.stack(cell, lstmjax.residual(cell))
    assert lstmjax.unroll(deep, (params, params), inputs)[1].shape == (1, 3, 2)
    assert repr(deep) == "Stack(cells=(Leaky(features=2), Residual(cell=Leaky(features=2))))"


def test_a_cell_must_define_everything() -> None:
    class Unfinished(lstmjax.Cell):
        features = 1

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.zeros((2, 3), np.int8), "int8 of shape (2, 3)"), ([1], "list"), (None, "NoneType")],
)
def test_describe(value: Any, text: str) -> None:
    assert describe(value) == text


def test_reference_derivatives_are_exact() -> None:
    """The oracle's own oracle: the derivative of a function known in closed form."""
    at, direction = (np.array([0.3, -2.0]), np.array([1.5])), (np.array([1.0, 2.0]), np.array([-1.0]))

    def function(tree: Any) -> Any:
        return np.tanh(tree[0]).sum() * reference.sigmoid(tree[1]).sum()

    sigmoid = 1 / (1 + math.exp(-1.5))
    tanh = np.tanh(at[0])
    expected = (sigmoid * (1 - tanh**2), np.array([tanh.sum() * sigmoid * (1 - sigmoid)]))
    assert_close(reference.gradient(function, at), expected, 1e-15)
    slope = reference.derivative(function, at, direction)
    np.testing.assert_allclose(slope, reference.inner(expected, direction), rtol=1e-15)
