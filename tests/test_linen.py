"""Flax linen modules, against the functional form that they wrap and within Flax's own ``nn.RNN``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, assert_close, assert_equal
from flax import linen as nn
from flax import serialization

import lstmjax
from lstmjax.linen import LSTM, Bidirectional, LSTMCell, Recurrent
from lstmjax.sequence.layers import apply

pytestmark = pytest.mark.usefixtures("exact")

LENGTHS = np.array([3, 0], np.int32)
RESETS = np.array([[False, False, True], [False, True, False]])
OPTIONS = {"dtype": "float64"}


def _lstm() -> lstmjax.LSTM:
    return lstmjax.lstm(2, 3, dtype="float64")


def _gru() -> lstmjax.GRU:
    return lstmjax.gru(2, 4, dtype="float64")


MODULES: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "lstm": lambda: (LSTM(3, OPTIONS), _lstm()),
    "cell": lambda: (Recurrent(_gru()), _gru()),
    "nested": lambda: (Recurrent(CELLS["nested"].make("float64")), CELLS["nested"].make("float64")),
    "bidirectional": lambda: (Bidirectional(_lstm(), _gru()), lstmjax.bidirectional(_lstm(), _gru())),
}
"""Modules, and the cell or layer that each runs."""

each_module = pytest.mark.parametrize("name", MODULES)


def _inputs() -> np.ndarray:
    inputs = np.random.default_rng(0).standard_normal((2, 3, 2))
    inputs[LENGTHS[:, None] <= np.arange(3)] = np.nan
    return inputs


def _values(variables: Any, layer: Any) -> Any:
    """The parameters of a module as the functional form takes them."""
    paths, structure = jax.tree_util.tree_flatten_with_path(jax.eval_shape(layer.init, jax.random.key(0)))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    assert sorted(names) == sorted(variables["params"])
    return jax.tree.unflatten(structure, [variables["params"][name] for name in names])


@each_module
@pytest.mark.parametrize("reverse", [False, True])
def test_a_module_equals_the_functional_form(name: str, reverse: bool) -> None:
    module, layer = MODULES[name]()
    variables = module.init(jax.random.key(0), _inputs())
    state = jax.tree.map(jnp.ones_like, layer.initial_state((2,)))
    arguments = (_inputs(), state, LENGTHS, RESETS, reverse)
    assert_equal(module.apply(variables, *arguments), apply(layer, _values(variables, layer), *arguments))


@each_module
def test_a_module_starts_as_the_functional_form_does(name: str) -> None:
    """With one key for all, so that what the cell's ``init`` makes stays together."""
    module, layer = MODULES[name]()
    variables = module.init(jax.random.key(0), _inputs())
    key = nn.apply(lambda scope: scope.make_rng("params"), module)({}, rngs={"params": jax.random.key(0)})
    assert_equal(_values(variables, layer), layer.init(key))
    assert_equal(jax.jit(module.init)(jax.random.key(0), _inputs()), variables)


@each_module
def test_gradients_and_serialization(name: str) -> None:
    module, layer = MODULES[name]()
    variables = module.init(jax.random.key(0), _inputs())
    state = serialization.from_bytes(variables, serialization.to_bytes(variables))
    assert_equal(jax.tree.map(jnp.asarray, state), variables)

    def loss(variables: Any) -> jax.Array:
        return module.apply(variables, _inputs(), lengths=LENGTHS)[1].sum()

    def expected(params: Any) -> jax.Array:
        return apply(layer, params, _inputs(), None, LENGTHS)[1].sum()

    gradient = jax.jit(jax.grad(loss))(variables)
    assert_close(_values(gradient, layer), jax.grad(expected)(_values(variables, layer)), 1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_cell_drops_into_flaxs_rnn(reverse: bool) -> None:
    """With lengths, in both directions, it gives on valid steps what the sequence contract gives."""
    layer = nn.RNN(LSTMCell(3, OPTIONS), return_carry=True, reverse=reverse, keep_order=True)
    inputs, lengths = np.nan_to_num(_inputs()), np.array([3, 2])
    variables = layer.init(jax.random.key(0), inputs)
    params = _values({"params": variables["params"]["cell"]}, _lstm())
    (memory, hidden), outputs = layer.apply(variables, inputs, seq_lengths=lengths)
    state, expected = lstmjax.unroll(_lstm(), params, inputs, None, lengths, None, reverse)
    assert_close(lstmjax.LSTMState(hidden, memory), state, 1e-13)
    valid = (np.arange(3) < lengths[:, None])[..., None]
    assert_close(np.where(valid, outputs, 0.0), expected, 1e-13)


def test_the_cell_drops_into_flaxs_bidirectional_layer() -> None:
    layer = nn.Bidirectional(nn.RNN(LSTMCell(3, OPTIONS)), nn.RNN(LSTMCell(3, OPTIONS)))
    inputs = np.nan_to_num(_inputs())
    variables = layer.init(jax.random.key(0), inputs)
    ways = [
        _values({"params": variables["params"][way]["cell"]}, _lstm())
        for way in ("forward_rnn", "backward_rnn")
    ]
    _, expected = lstmjax.bidirectional(_lstm(), _lstm()).apply(lstmjax.Directions(*ways), inputs)
    assert_close(layer.apply(variables, inputs), expected, 1e-13)


def test_the_cell_takes_the_options_of_the_lstm() -> None:
    options = {**OPTIONS, "projection": 2, "peepholes": True}
    layer, inputs = nn.RNN(LSTMCell(3, options)), np.nan_to_num(_inputs())
    outputs, variables = layer.init_with_output(jax.random.key(0), inputs)
    cell = lstmjax.lstm(2, 3, **options)
    params = _values({"params": variables["params"]["cell"]}, cell)
    assert_close(outputs, lstmjax.unroll(cell, params, inputs)[1], 1e-13)


def test_the_cell_has_flaxs_carry() -> None:
    ours, flaxs = LSTMCell(3, OPTIONS), nn.OptimizedLSTMCell(3, param_dtype=jnp.float64)
    key = jax.random.key(0)
    assert ours.num_feature_axes == flaxs.num_feature_axes
    assert_equal(ours.initialize_carry(key, (4, 5, 2)), flaxs.initialize_carry(key, (4, 5, 2)))
    half = LSTMCell(3, {"dtype": "bfloat16"}).initialize_carry(key, (2,))
    assert [leaf.dtype for leaf in half] == [jnp.float32, jnp.bfloat16]


def test_options_reach_the_cell_and_dtypes_are_not_cast() -> None:
    inputs = jnp.ones((2, 3, 2), jnp.bfloat16)
    module = LSTM(3, {"dtype": "bfloat16", "forget_bias": 2.0})
    (state, outputs), variables = module.init_with_output(jax.random.key(0), inputs)
    assert (outputs.dtype, state.cell.dtype, variables["params"]["bias"].dtype) == ("bfloat16",) + 2 * (
        "float32",
    )
    assert np.array_equal(variables["params"]["bias"][3:6], [2.0, 2.0, 2.0])
    with pytest.raises(TypeError, match="computes in bfloat16"):
        module.apply(variables, np.ones((2, 3, 2)))
    with pytest.raises(TypeError, match="forget_bais"):
        LSTM(3, {"forget_bais": 2.0}).init(jax.random.key(0), inputs)
