"""Parameters to and from other libraries: bit for bit, and with the outputs of the real ones.

Libraries that are not installed are skipped: ``pip install lstmjax[convert]`` brings all of them.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_close, assert_equal, random_like
from flax import linen, nnx
from jax.experimental import rnn as cudnn

import lstmjax
from lstmjax import convert
from lstmjax.sequence.bidirectional import Directions
from lstmjax.sequence.layers import apply

INPUTS = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)


def _lstm(features: int = 3, dtype: Any = "float32") -> lstmjax.LSTM:
    return lstmjax.lstm(features, 4, dtype=dtype, param_dtype=dtype)


def _both(features: int = 3, dtype: Any = "float32") -> lstmjax.Bidirectional:
    return lstmjax.bidirectional(_lstm(features, dtype), _lstm(features, dtype))


LAYERS: dict[str, Callable[[Any], Any]] = {
    "lstm": lambda dtype: _lstm(dtype=dtype),
    "stack": lambda dtype: lstmjax.stack(_lstm(dtype=dtype), _lstm(4, dtype), _lstm(4, dtype)),
    "bidirectional": lambda dtype: _both(dtype=dtype),
    "deep bidirectional": lambda dtype: lstmjax.layers(_both(dtype=dtype), _both(8, dtype)),
}

each_layer = pytest.mark.parametrize("name", LAYERS)


def _random(name: str, dtype: Any = "float32", seed: int = 0) -> tuple[Any, Any]:
    layer = LAYERS[name](dtype)
    shapes = jax.eval_shape(layer.init, jax.random.key(0))
    params = random_like(shapes, np.random.default_rng(seed), 0.5)
    return layer, jax.tree.map(jnp.asarray, params)


def _nnx_modules(layer: Any, make: Any = nnx.OptimizedLSTMCell) -> Any:
    """NNX modules of the sizes of a layer."""
    if isinstance(layer, lstmjax.Bidirectional):
        return nnx.Bidirectional(*(nnx.RNN(_nnx_modules(cell)) for cell in (layer.forward, layer.backward)))
    if isinstance(layer, lstmjax.Stack | lstmjax.Layers):
        return [_nnx_modules(part) for part in (layer.cells if hasattr(layer, "cells") else layer.parts)]
    zeros = nnx.initializers.zeros_init()
    inits = {"kernel_init": zeros, "recurrent_kernel_init": zeros, "param_dtype": layer.param_dtype}
    return make(layer.features, layer.hidden, **inits, rngs=nnx.Rngs(0))


def _through_cudnn(layer: Any, params: Any) -> Any:
    count = len(params) if isinstance(layer, lstmjax.Stack | lstmjax.Layers) else 1
    is_bidirectional = isinstance(layer, lstmjax.Bidirectional | lstmjax.Layers)
    return convert.from_cudnn(convert.to_cudnn(layer, params), 3, 4, count, is_bidirectional)


ROUND_TRIPS: dict[str, Callable[[Any, Any], Any]] = {
    "torch": lambda *both: convert.from_torch(convert.to_torch(*both)),
    "cudnn": _through_cudnn,
    "keras": lambda *both: convert.from_keras(convert.to_keras(*both)),
    "linen": lambda *both: convert.from_linen(convert.to_linen(*both)),
    "nnx": lambda *both: convert.from_nnx(convert.to_nnx(*both, _nnx_modules(both[0]))),
}


@each_layer
@pytest.mark.parametrize("library", ROUND_TRIPS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_round_trip_gives_the_same_bits(name: str, library: str, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        layer, params = _random(name, dtype)
        again, params_again = ROUND_TRIPS[library](layer, params)
        assert again == layer
        assert_equal(params_again, params)


def _agree(converted: Any, expected: Any, inputs: Any = INPUTS, **options: Any) -> Any:
    """The outputs of what was converted are those expected; returns its state."""
    layer, params = converted
    state, outputs = apply(layer, params, inputs, **options)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    return state


# PyTorch


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("projection", [0, 2])
def test_pytorch_agrees(projection: int, layers: int, both: bool, bias: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    options = {"bidirectional": both, "batch_first": True, "proj_size": projection}
    module = torch.nn.LSTM(3, 4, layers, bias=bias, **options)
    outputs, (hidden, cell) = module(torch.from_numpy(INPUTS))
    layer, params = convert.from_torch(module)
    state = _agree((layer, params), outputs.detach())
    kinds = lstmjax.LSTMState | lstmjax.GeneralLSTMState
    states = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, kinds))
    np.testing.assert_allclose(np.stack([one.hidden for one in states]), hidden.detach(), atol=1e-5)
    np.testing.assert_allclose(np.stack([one.cell for one in states]), cell.detach(), atol=1e-5)
    again = torch.nn.LSTM(3, 4, layers, **options)
    arrays = convert.to_torch(layer, params)
    again.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    np.testing.assert_allclose(again(torch.from_numpy(INPUTS))[0].detach(), outputs.detach(), atol=1e-6)
    assert_equal(convert.from_torch(again), (layer, params))


def test_pytorch_agrees_on_packed_sequences() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module, lengths = torch.nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True), np.array([5, 2])
    pack, unpack = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    packed, _ = module(pack(torch.from_numpy(INPUTS), lengths, batch_first=True))
    _agree(convert.from_torch(module), unpack(packed, batch_first=True)[0].detach(), lengths=lengths)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_pytorch_tensors_of_other_dtypes_keep_their_bits(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(3, 4, dtype=getattr(torch, dtype), bias=False)
    with jax.enable_x64(dtype == "float64"):
        cell, params = convert.from_torch(module)
        assert cell == lstmjax.lstm(3, 4, dtype=dtype, param_dtype=dtype)
        assert params.kernel.dtype == dtype
        expected = module.weight_ih_l0.detach().double().numpy().T
        np.testing.assert_array_equal(np.asarray(params.kernel, np.float64), expected)


def test_a_cell_of_pytorch_agrees() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTMCell(3, 4)
    hidden, _ = module(torch.from_numpy(INPUTS[:, 0]))
    _agree(convert.from_torch(module), hidden.detach()[:, None], INPUTS[:, :1])


def test_what_is_no_lstm_of_pytorch_is_refused() -> None:
    arrays = convert.to_torch(*_random("stack"))
    with pytest.raises(ValueError, match=r"encoder\.weight is no parameter"):
        convert.from_torch({**arrays, "encoder.weight": np.zeros(3)})
    with pytest.raises(ValueError, match="layers are not complete"):
        convert.from_torch({name: array for name, array in arrays.items() if "l1" not in name})
    with pytest.raises(ValueError, match="layers are not complete"):
        convert.from_torch({})
    with pytest.raises(ValueError, match=r"layer 2: got only.*weight_hh"):
        convert.from_torch({name: array for name, array in arrays.items() if name != "weight_ih_l2"})
    with pytest.raises(ValueError, match="got only"):
        convert.from_torch({name: array for name, array in arrays.items() if name != "bias_hh_l0"})
    with pytest.raises(ValueError, match=r"kernels \[D, 4H\] and \[H, 4H\]"):  # of a GRU
        convert.from_torch({"weight_ih_l0": np.zeros((12, 3)), "weight_hh_l0": np.zeros((12, 4))})
    with pytest.raises(ValueError, match="one floating point dtype"):
        convert.from_torch({"weight_ih_l0": np.zeros((16, 3), int), "weight_hh_l0": np.zeros((16, 4), int)})


# cuDNN


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_cudnns_flat_weights_agree(layers: int, both: bool) -> None:
    """With the reference that JAX has beside its call of cuDNN."""
    weights = cudnn.init_lstm_weight(jax.random.key(0), 3, 4, layers, both)
    kernels = cudnn.unpack_lstm_weights(weights, 3, 4, layers, both)
    zeros = jnp.zeros((layers * (1 + both), 2, 4))
    lengths = np.array([5, 3], np.int32)
    expected, _, _ = cudnn.lstm_ref(INPUTS, zeros, zeros, *kernels, lengths, 3, 4, layers, 0.0, both)
    converted = convert.from_cudnn(weights, 3, 4, layers, both)
    _agree(converted, expected, lengths=lengths)
    again = convert.to_cudnn(*converted)
    assert again.shape == weights.shape
    assert_equal(convert.from_cudnn(again, 3, 4, layers, both), converted)


def test_flat_weights_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(144,\), got \(145,\)"):
        convert.from_cudnn(np.zeros(145, np.float32), 3, 4)
    with pytest.raises(ValueError, match="layers must be a positive"):
        convert.from_cudnn(np.zeros(144, np.float32), 3, 4, layers=0)


# Keras


@pytest.fixture
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras")


def _random_weights(layer: Any, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    layer.set_weights([random.standard_normal(array.shape) / 2 for array in layer.get_weights()])
    return layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [False, True])
def test_keras_agrees(keras: Any, both: bool, bias: bool) -> None:
    module = keras.layers.LSTM(4, return_sequences=True, use_bias=bias)
    module = keras.layers.Bidirectional(module) if both else module
    module.build((None, 5, 3))
    _random_weights(module)
    expected = module(INPUTS)
    layer, params = convert.from_keras(module)
    _agree((layer, params), expected)
    if bias:
        before = module.get_weights()
        _random_weights(module, seed=1).set_weights(convert.to_keras(layer, params))
        assert_equal(module.get_weights(), before)


def test_several_layers_of_keras_agree(keras: Any) -> None:
    def layer() -> Any:
        return keras.layers.LSTM(4, return_sequences=True)

    model = keras.Sequential([keras.Input((5, 3)), keras.layers.Bidirectional(layer()), layer()])
    for module in model.layers:
        _random_weights(module)
    converted = convert.from_keras(model.layers)
    _agree(converted, model(INPUTS))
    for module, arrays in zip(model.layers, convert.to_keras(*converted), strict=True):
        assert_equal(module.get_weights(), arrays)


def test_other_layers_of_keras_are_refused(keras: Any) -> None:
    for options, message in (
        ({"activation": "relu"}, "activation must be 'tanh', got 'relu'"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation must be 'sigmoid'"),
    ):
        module = keras.layers.LSTM(4, **options)
        module.build((None, 5, 3))
        with pytest.raises(ValueError, match=message):
            convert.from_keras(module)
    module = keras.layers.Bidirectional(keras.layers.LSTM(4), merge_mode="sum")
    module.build((None, 5, 3))
    with pytest.raises(ValueError, match="merge_mode must be 'concat', got 'sum'"):
        convert.from_keras(module)
    with pytest.raises(ValueError, match="got 5"):
        convert.from_keras([np.zeros((3, 16), np.float32)] * 5)


# Flax


@pytest.mark.parametrize("make", [linen.LSTMCell, linen.OptimizedLSTMCell])
def test_linen_agrees(make: Any) -> None:
    module = linen.RNN(make(4, bias_init=linen.initializers.normal(1.0)))
    variables = module.init(jax.random.key(0), INPUTS)
    converted = convert.from_linen(variables)
    _agree(converted, module.apply(variables, INPUTS))
    assert_equal({"params": {"cell": convert.to_linen(*converted)}}, variables)


def test_bidirectional_layers_of_linen_agree() -> None:
    modules = [linen.Bidirectional(linen.RNN(linen.LSTMCell(4)), linen.RNN(linen.LSTMCell(4))) for _ in "ab"]
    trees, outputs = [], INPUTS
    for module in modules:
        trees.append(module.init(jax.random.key(0), outputs))
        outputs = module.apply(trees[-1], outputs)
    layer, params = convert.from_linen(trees)
    _agree((layer, params), outputs)
    for tree, written in zip(trees, convert.to_linen(layer, params), strict=True):
        assert isinstance(written, Directions)
        assert_equal(written.backward, tree["params"]["backward_rnn"]["cell"])


@pytest.mark.parametrize("make", [nnx.LSTMCell, nnx.OptimizedLSTMCell])
def test_nnx_agrees(make: Any) -> None:
    cell = make(3, 4, bias_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0))
    converted = convert.from_nnx(nnx.RNN(cell))
    expected = nnx.RNN(cell)(INPUTS)
    _agree(converted, expected)
    other = make(3, 4, rngs=nnx.Rngs(1))
    assert convert.to_nnx(*converted, other) is other
    assert_equal(nnx.RNN(other)(INPUTS), expected)


def test_bidirectional_layers_of_nnx_agree() -> None:
    layer, params = _random("deep bidirectional")
    modules = convert.to_nnx(layer, params, _nnx_modules(layer))
    _agree((layer, params), modules[1](modules[0](INPUTS)))


def test_other_modules_of_flax_are_refused() -> None:
    with pytest.raises(ValueError, match=r"entries ii, if, .* got \['hn"):
        convert.from_linen(linen.GRUCell(4).init(jax.random.key(0), jnp.ones((1, 4)), INPUTS[:1, 0]))
    with pytest.raises(ValueError, match=r"GRUCell is neither an nnx\.LSTMCell"):
        convert.from_nnx(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="activation_fn of an LSTM"):
        convert.from_nnx(nnx.LSTMCell(3, 4, activation_fn=jax.nn.relu, rngs=nnx.Rngs(0)))
    layer, params = _random("bidirectional")
    with pytest.raises(ValueError, match="do not have the layers and directions"):
        convert.to_nnx(layer, params, nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
    module = nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module)))
    with pytest.raises(ValueError, match=r"float32 \(3, 5\) where the cell has float32 \(3, 4\)"):
        convert.to_nnx(layer.forward, params.forward, module)
    assert_equal(nnx.to_pure_dict(nnx.state(module)), before)


# Haiku


@pytest.mark.parametrize("layers", [1, 2])
def test_haiku_agrees(layers: int) -> None:
    haiku = pytest.importorskip("haiku")

    def run(inputs: Any) -> Any:
        core = haiku.DeepRNN([haiku.LSTM(4) for _ in range(layers)])
        return haiku.dynamic_unroll(core, inputs, core.initial_state(2), time_major=False)[0]

    model = haiku.without_apply_rng(haiku.transform(run))
    shapes = model.init(jax.random.key(0), INPUTS)
    tree = random_like(shapes, np.random.default_rng(0), 0.5)
    converted = convert.from_haiku(tree)
    _agree(converted, model.apply(tree, INPUTS))
    assert_close(convert.to_haiku(*converted), tree, 1e-6)


def test_haiku_has_exact_round_trips_where_the_forget_bias_allows_it() -> None:
    layer, params = _random("stack")
    bias = jax.random.uniform(jax.random.key(0), (4,), minval=0.5, maxval=2.0)
    params = tuple(p._replace(bias=p.bias.at[4:8].set(bias)) for p in params)
    assert_equal(convert.from_haiku(convert.to_haiku(layer, params)), (layer, params))
    # Taking 1 away rounds where the bias is small, by no more than half a unit in the last place of 1.
    small = tuple(p._replace(bias=p.bias.at[4:8].set(bias * 1e-3)) for p in params)
    assert_close(convert.from_haiku(convert.to_haiku(layer, small))[1], small, 2.0**-24)


def test_haikus_order_is_that_of_its_numbers() -> None:
    cells = [_lstm(3), *[_lstm(4)] * 10]
    layer = lstmjax.stack(*cells)
    params = layer.init(jax.random.key(0))
    tree = convert.to_haiku(layer, params)
    assert list(tree)[:2] == ["lstm/linear", "lstm_1/linear"]
    shuffled = {name: tree[name] for name in sorted(tree, reverse=True)}
    assert_equal(convert.from_haiku(shuffled), (layer, params))


def test_what_is_no_lstm_of_haiku_is_refused() -> None:
    with pytest.raises(ValueError, match="no bidirectional layer"):
        convert.to_haiku(*_random("bidirectional"))
    with pytest.raises(ValueError, match=r"gru has \['b', 'w_h', 'w_i'\]"):
        convert.from_haiku({"gru": {"w_i": np.ones((3, 12)), "w_h": np.ones((4, 12)), "b": np.ones(12)}})
    with pytest.raises(ValueError, match=r"must be \[D \+ H, 4H\], got \(3, 2\)"):
        convert.from_haiku({"linear": {"w": np.ones((3, 2)), "b": np.ones(2)}})
    with pytest.raises(ValueError, match="no parameters"):
        convert.from_haiku({})


# Equinox


@pytest.mark.parametrize("bias", [True, False])
def test_equinox_agrees(bias: bool) -> None:
    equinox = pytest.importorskip("equinox")
    module = equinox.nn.LSTMCell(3, 4, use_bias=bias, key=jax.random.key(0))

    def run(module: Any, inputs: Any) -> Any:
        def step(state: Any, inputs_t: Any) -> Any:
            state = module(inputs_t, state)
            return state, state[0]

        return jax.lax.scan(step, (jnp.zeros(4), jnp.zeros(4)), inputs)[1]

    expected = jax.vmap(run, (None, 0))(module, INPUTS)
    converted = convert.from_equinox(module)
    _agree(converted, expected)
    written = convert.to_equinox(*converted)
    np.testing.assert_allclose(jax.vmap(run, (None, 0))(written, INPUTS), expected, atol=1e-6)


@each_layer
def test_a_round_trip_through_equinox_gives_the_same_bits(name: str) -> None:
    pytest.importorskip("equinox")
    layer, params = _random(name)
    assert_equal(convert.from_equinox(convert.to_equinox(layer, params)), (layer, params))
    with pytest.raises(ValueError, match=r"str is no equinox\.nn\.LSTMCell"):
        convert.from_equinox("cell")


# TensorFlow


def _tensorflow_cell(variables: dict[str, np.ndarray], forget_bias: float, inputs: Any) -> np.ndarray:
    """``tf.compat.v1.nn.rnn_cell.LSTMCell`` over a sequence, as its code has it."""

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    kernel, bias = variables["kernel"], variables["bias"]
    size = kernel.shape[1] // 4
    projection = variables.get("projection/kernel", np.eye(size))
    w_i, w_f, w_o = (variables.get(f"w_{gate}_diag", np.zeros(size)) for gate in "ifo")
    memory = np.zeros((inputs.shape[0], size))
    hidden = np.zeros((inputs.shape[0], projection.shape[1]))
    outputs = []
    for inputs_t in np.moveaxis(inputs, 1, 0):
        i, j, f, o = np.split(np.concatenate([inputs_t, hidden], 1) @ kernel + bias, 4, axis=1)
        memory = sigmoid(f + forget_bias + w_f * memory) * memory + sigmoid(i + w_i * memory) * np.tanh(j)
        hidden = sigmoid(o + w_o * memory) * np.tanh(memory) @ projection
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("projection", [None, 2])
@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("forget_bias", [1.0, 0.0])
def test_tensorflows_variables_agree(forget_bias: float, peepholes: bool, projection: int | None) -> None:
    shapes: dict[str, tuple[int, ...]] = {"kernel": (3 + (projection or 4), 16), "bias": (16,)}
    if peepholes:
        shapes |= {f"w_{gate}_diag": (4,) for gate in "ifo"}
    if projection:
        shapes["projection/kernel"] = (4, projection)
    random = np.random.default_rng(0)
    variables = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    named = {f"rnn/lstm_cell/{name}": array for name, array in variables.items()}
    converted = convert.from_tensorflow(named, forget_bias)
    more = {"peepholes": peepholes, "projection": projection}
    assert converted[0] == lstmjax.lstm(3, 4, **more)
    _agree(converted, _tensorflow_cell(variables, forget_bias, INPUTS))


def test_variables_of_other_cells_of_tensorflow_are_refused() -> None:
    arrays = {"kernel": np.ones((7, 16), np.float32), "bias": np.ones(16, np.float32)}
    for name in ("rnn/lstm_cell/w_i_diag", "gates/kernel_2"):
        with pytest.raises(ValueError, match=rf"an LSTM has kernel and bias.*{name}"):
            convert.from_tensorflow({**arrays, name: np.ones(4, np.float32)})
    peepholes = {f"w_{gate}_diag": np.ones(5, np.float32) for gate in "ifo"}
    with pytest.raises(ValueError, match=r"peepholes are \[3H\].*\(15,\)"):
        convert.from_tensorflow({**arrays, **peepholes})


# All


@pytest.mark.parametrize("to", [convert.to_torch, convert.to_keras, convert.to_linen, convert.to_haiku])
def test_what_others_do_not_have_is_refused(to: Any) -> None:
    cell = lstmjax.residual(lstmjax.lstm(4, 4))
    with pytest.raises(ValueError, match=rf"{to.__name__}: only LSTMs.*Residual"):
        to(cell, cell.init(jax.random.key(0)))
    stack, params = _random("stack")
    with pytest.raises(TypeError, match="one entry for each part"):
        to(stack, params[:2])
    with pytest.raises(TypeError, match="must have the structure"):
        to(_lstm(), params)


@pytest.mark.parametrize(
    "source", [convert.from_keras, convert.from_linen, convert.from_nnx, convert.from_equinox]
)
def test_no_layer_at_all_is_refused(source: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        source([])


def test_layers_that_differ_are_refused_where_they_must_be_alike() -> None:
    widths = lstmjax.stack(lstmjax.lstm(3, 4), lstmjax.lstm(4, 5))
    mixed = lstmjax.layers(_both(), _lstm(8))
    for layer, message in ((widths, "same hidden size"), (mixed, "must be bidirectional")):
        for to in (convert.to_torch, convert.to_cudnn):
            with pytest.raises(ValueError, match=message):
                to(layer, layer.init(jax.random.key(0)))
