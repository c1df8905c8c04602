"""Flax linen modules, against the functional form that they wrap and within Flax's own ``nn.RNN``."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CELLS, assert_close, assert_equal
from flax import errors, serialization
from flax import linen as nn
from flax.training import train_state
from flax.traverse_util import flatten_dict, unflatten_dict

import lstmjax
from lstmjax.linen import LSTM, Bidirectional, LSTMCell, Recurrent

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
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    flat = flatten_dict(variables["params"], sep="/")
    assert sorted(names) == sorted(flat)
    return jax.tree.unflatten(structure, [flat[name] for name in names])


@each_module
@pytest.mark.parametrize("reverse", [False, True])
def test_a_module_equals_the_functional_form(name: str, reverse: bool) -> None:
    module, layer = MODULES[name]()
    variables = module.init(jax.random.key(0), _inputs())
    state = jax.tree.map(np.ones_like, layer.initial_state((2,)))
    arguments = (_inputs(), state, LENGTHS, RESETS, reverse)
    assert_equal(
        module.apply(variables, *arguments), lstmjax.unroll(layer, _values(variables, layer), *arguments)
    )


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
        return lstmjax.unroll(layer, params, _inputs(), None, LENGTHS)[1].sum()

    gradient = jax.jit(jax.grad(loss))(variables)
    assert_close(_values(gradient, layer), jax.jit(jax.grad(expected))(_values(variables, layer)), 1e-12)


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


LIFTED: dict[str, Callable[[Any], Any]] = {"remat": nn.remat, "jit": nn.jit}


@pytest.mark.parametrize("name", LIFTED)
def test_lifted_modules_take_options_as_attributes(name: str) -> None:
    plain, inputs = Recurrent(_gru()), _inputs()
    lifted = LIFTED[name](Recurrent)(_gru(), reverse=True, backend="scan", remat=2)
    variables = plain.init(jax.random.key(0), inputs)

    def loss(variables: Any, module: nn.Module, **options: Any) -> jax.Array:
        return (module.apply(variables, inputs, lengths=LENGTHS, **options)[1] ** 2).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)(variables, lifted)
    expected = jax.jit(jax.grad(functools.partial(loss, reverse=True)), static_argnums=1)(variables, plain)
    assert_close(gradient, expected, 1e-12)


@pytest.mark.usefixtures("unchecked")
def test_wrong_options_are_named() -> None:
    module, inputs = LSTM(3, OPTIONS), _inputs()
    variables = module.init(jax.random.key(0), inputs)
    with pytest.raises(TypeError, match=r"reverse is traced.*LSTM\(\.\.\., reverse=True\)"):
        nn.jit(LSTM)(3, OPTIONS).apply(variables, inputs, reverse=True)
    with pytest.raises(ValueError, match="cuda"):
        LSTM(3, OPTIONS, backend="cuda").apply(variables, inputs)
    with pytest.raises(TypeError, match="bakend"):
        module.apply(variables, inputs, bakend="scan")


def test_an_option_of_the_call_overrides_the_attribute() -> None:
    module, inputs = LSTM(3, OPTIONS, reverse=True), _inputs()
    variables = module.init(jax.random.key(0), inputs)
    forward = LSTM(3, OPTIONS).apply(variables, inputs, lengths=LENGTHS)
    assert_equal(module.apply(variables, inputs, lengths=LENGTHS, reverse=False), forward)


def test_modules_with_options_are_values() -> None:
    for make in (LSTM, LSTMCell):
        assert hash(make(3, {**OPTIONS})) == hash(make(3, {**OPTIONS}))
        assert make(3, {**OPTIONS}) == make(3, {**OPTIONS}) != make(3)


def test_noise_is_drawn_with_a_key_or_the_stream_dropout() -> None:
    cell = lstmjax.dropout(_lstm(), outputs=0.5)
    module, key, inputs = Recurrent(cell), jax.random.key(1), np.nan_to_num(_inputs())
    variables = module.init(jax.random.key(0), inputs)
    rngs = {"dropout": key}

    def expected(key: Any) -> Any:
        return lstmjax.unroll(cell, cell.sample(key, _values(variables, cell), (2,)), inputs)

    plain = lstmjax.unroll(cell, _values(variables, cell), inputs)
    of_stream = nn.apply(lambda scope: scope.make_rng("dropout"), module)({}, rngs=rngs)
    assert_equal(module.apply(variables, inputs), plain)
    assert_equal(module.apply(variables, inputs, key=key), expected(key))
    assert_equal(module.apply(variables, inputs, rngs=rngs), expected(of_stream))
    assert_equal(module.apply(variables, inputs, rngs=rngs, deterministic=True), plain)
    still = Recurrent(cell, deterministic=True)
    assert_equal(still.apply(variables, inputs, rngs=rngs), plain)
    assert_equal(still.apply(variables, inputs, rngs=rngs, deterministic=False), expected(of_stream))
    with pytest.raises(errors.InvalidRngError, match="dropout"):
        module.apply(variables, inputs, deterministic=False)


@pytest.mark.parametrize("name", ["lstm", "slstm", "conv_lstm", "lstm_full_gates"])
def test_partitioning_of_initializers_reaches_the_variables(name: str) -> None:
    init = {"kernel_init": nn.initializers.lecun_normal(), "recurrent_init": nn.initializers.normal(0.1)}
    boxed = {option: nn.with_partitioning(each, (None, "model")) for option, each in init.items()}
    make = {
        "lstm": lambda **options: lstmjax.lstm(4, 4, **options),
        "slstm": lambda **options: lstmjax.slstm(4, 4, heads=2, **options),
        "conv_lstm": lambda **options: lstmjax.conv_lstm(2, 2, 1, 4, **options),
        "lstm_full_gates": lambda **options: lstmjax.lstm(4, 4, full_gate_recurrence=True, **options),
    }[name]
    module, inputs = Recurrent(lstmjax.stack(make(**boxed))), jnp.ones((2, 3, 4), jnp.float32)
    _, variables = module.init_with_output(jax.random.key(0), inputs)
    specs = nn.get_partition_spec(variables)["params"]["0"]
    for kernel in ("kernel", "recurrent_kernel"):
        assert specs[kernel] == jax.sharding.PartitionSpec(None, "model")
    assert specs["bias"] == jax.sharding.PartitionSpec()
    _, expected = Recurrent(lstmjax.stack(make(**init))).init_with_output(jax.random.key(0), inputs)
    assert_equal(nn.meta.unbox(variables), expected)
    assert_equal(make(**boxed).init(jax.random.key(0)), make(**init).init(jax.random.key(0)))
    assert_equal(module.apply(expected, inputs)[1], module.apply(variables, inputs)[1])


def test_layers_are_scanned_over_depth_and_mapped_over_models() -> None:
    class Block(nn.Module):
        @nn.compact
        def __call__(self, inputs: Any, _: None) -> Any:
            return LSTM(2, OPTIONS)(inputs)[1], None

    axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    inputs, cell = np.nan_to_num(_inputs()), lstmjax.lstm(2, 2, dtype="float64")
    deep, many = nn.scan(Block, length=2, **axes)(), nn.vmap(LSTM, **axes)(2, OPTIONS)
    variables = deep.init(jax.random.key(0), inputs, None)
    stacked = variables["params"]["LSTM_0"]
    outputs = [inputs]
    for number in (0, 1):
        own = _values({"params": jax.tree.map(lambda leaf, n=number: leaf[n], stacked)}, cell)
        outputs.append(lstmjax.unroll(cell, own, outputs[-1])[1])
    assert_close(deep.apply(variables, inputs, None)[0], outputs[2], 1e-12)
    both = many.apply({"params": stacked}, np.stack(outputs[:2]))[1]
    assert_close(both, np.stack(outputs[1:]), 1e-12)
    assert many.init(jax.random.key(0), np.stack(outputs[:2]))["params"]["kernel"].shape == (2, 2, 8)


def test_variables_are_trained_by_a_train_state_and_flattened_with_dots() -> None:
    module, inputs = Recurrent(CELLS["nested"].make("float64")), np.nan_to_num(_inputs())
    variables = module.init(jax.random.key(0), inputs)
    state = train_state.TrainState.create(
        apply_fn=module.apply, params=variables["params"], tx=optax.sgd(0.1)
    )
    gradient = jax.jit(jax.grad(lambda params: state.apply_fn({"params": params}, inputs)[1].sum()))(
        state.params
    )
    after = state.apply_gradients(grads=gradient).params
    assert_close(after, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient), 1e-15)
    flat = flatten_dict(after, sep=".")
    assert not any("." in part for name in flatten_dict(after) for part in name)
    assert_equal(unflatten_dict(flat, sep="."), after)


def test_variables_are_also_made_in_a_call_that_may_make_them() -> None:
    module = LSTM(4, {"dtype": "float64"})
    _, made = module.apply({}, _inputs(), mutable=["params"], rngs={"params": jax.random.key(0)})
    want = module.init({"params": jax.random.key(0)}, _inputs())
    assert_equal(made, want)
