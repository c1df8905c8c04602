"""Parameters to and from other libraries: bit for bit, and with the outputs of the real ones.

Libraries that are not installed are skipped: ``pip install lstmjax[convert]`` brings all of them.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_close, assert_equal, random_like
from flax import linen, nnx
from jax.experimental import rnn as cudnn

import lstmjax
from lstmjax import convert
from lstmjax import nnx as own
from lstmjax.export import export_onnx
from lstmjax.sequence.bidirectional import Directions

INPUTS = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)


def _lstm(features: int = 3, dtype: Any = "float32") -> lstmjax.LSTM:
    return lstmjax.lstm(features, 4, dtype=dtype, param_dtype=dtype)


def _both(features: int = 3, dtype: Any = "float32") -> lstmjax.Bidirectional:
    return lstmjax.bidirectional(_lstm(features, dtype), _lstm(features, dtype))


def _gru(features: int = 3, dtype: Any = "float32", **options: Any) -> lstmjax.GRU:
    return lstmjax.gru(features, 4, dtype=dtype, param_dtype=dtype, **options)


def _elman(features: int = 3, dtype: Any = "float32") -> lstmjax.Elman:
    return lstmjax.elman(features, 4, dtype=dtype, param_dtype=dtype)


LAYERS: dict[str, Callable[[Any], Any]] = {
    "lstm": lambda dtype: _lstm(dtype=dtype),
    "stack": lambda dtype: lstmjax.stack(_lstm(dtype=dtype), _lstm(4, dtype), _lstm(4, dtype)),
    "bidirectional": lambda dtype: _both(dtype=dtype),
    "deep bidirectional": lambda dtype: lstmjax.layers(_both(dtype=dtype), _both(8, dtype)),
    "gru": lambda dtype: lstmjax.stack(_gru(dtype=dtype), _gru(4, dtype)),
    "bidirectional gru": lambda dtype: lstmjax.bidirectional(_gru(dtype=dtype), _gru(dtype=dtype)),
    "gru, reset before": lambda dtype: lstmjax.stack(
        _gru(dtype=dtype, reset_after=False), _gru(4, dtype, reset_after=False)
    ),
    "elman": lambda dtype: lstmjax.stack(_elman(dtype=dtype), _elman(4, dtype)),
}
UNBIASED: dict[str, Any] = {
    "lstm": lstmjax.lstm(3, 4, bias=False),
    "stack": lstmjax.stack(lstmjax.lstm(3, 4, bias=False), lstmjax.lstm(4, 4, bias=False)),
    "bidirectional": lstmjax.bidirectional(*[lstmjax.lstm(3, 4, bias=False)] * 2),
    "gru": lstmjax.gru(3, 4, bias=False),
    "gru, reset before": lstmjax.gru(3, 4, reset_after=False, bias=False),
    "elman": lstmjax.elman(3, 4, bias=False),
}
OF_LSTMS = ("lstm", "stack", "bidirectional", "deep bidirectional")
WITH_GRUS = (*OF_LSTMS, "gru", "bidirectional gru")


def _random(name: str, dtype: Any = "float32", seed: int = 0) -> tuple[Any, Any]:
    return _filled(LAYERS[name](dtype), seed)


def _filled(layer: Any, seed: int = 0) -> tuple[Any, Any]:
    shapes = jax.eval_shape(layer.init, jax.random.key(0))
    params = random_like(shapes, np.random.default_rng(seed), 0.5)
    return layer, jax.tree.map(jnp.asarray, params)


def _nnx_modules(layer: Any) -> Any:
    """NNX modules of the sizes of a layer."""
    if isinstance(layer, lstmjax.Bidirectional):
        return nnx.Bidirectional(*(nnx.RNN(_nnx_modules(cell)) for cell in (layer.forward, layer.backward)))
    if isinstance(layer, lstmjax.Stack | lstmjax.Layers):
        return [_nnx_modules(part) for part in (layer.cells if hasattr(layer, "cells") else layer.parts)]
    zeros = nnx.initializers.zeros_init()
    makes = {lstmjax.LSTM: nnx.OptimizedLSTMCell, lstmjax.GRU: nnx.GRUCell, lstmjax.Elman: nnx.SimpleCell}
    make = makes[type(layer)]
    inits = {"kernel_init": zeros, "recurrent_kernel_init": zeros, "param_dtype": layer.param_dtype}
    inits |= {"bias_init": nnx.initializers.ones_init(), "dtype": layer.dtype}
    return make(layer.features, layer.hidden, **inits, rngs=nnx.Rngs(0))


def _through_cudnn(layer: Any, params: Any) -> Any:
    count = len(params) if isinstance(layer, lstmjax.Stack | lstmjax.Layers) else 1
    is_bidirectional = isinstance(layer, lstmjax.Bidirectional | lstmjax.Layers)
    return convert.from_cudnn(convert.to_cudnn(layer, params), 3, 4, count, is_bidirectional)


def _through_onnx(layer: Any, params: Any) -> Any:
    pytest.importorskip("onnx")
    if layer.input_dtype == "bfloat16":
        pytest.skip("export_onnx is for float32 and float64")
    return convert.from_onnx(export_onnx(layer, params))


def _through_equinox(layer: Any, params: Any) -> Any:
    pytest.importorskip("equinox")
    return convert.from_equinox(convert.to_equinox(layer, params))


class RoundTrip(NamedTuple):
    there_and_back: Callable[[Any, Any], Any]
    layers: tuple[str, ...]
    """The layers that the library has; all others must be refused by name."""


ROUND_TRIPS: dict[str, RoundTrip] = {
    "torch": RoundTrip(lambda *both: convert.from_torch(convert.to_torch(*both)), (*WITH_GRUS, "elman")),
    "cudnn": RoundTrip(_through_cudnn, OF_LSTMS),
    "keras": RoundTrip(lambda *both: convert.from_keras(convert.to_keras(*both)), tuple(LAYERS)),
    "linen": RoundTrip(lambda *both: convert.from_linen(convert.to_linen(*both)), (*WITH_GRUS, "elman")),
    "nnx": RoundTrip(
        lambda *both: convert.from_nnx(convert.to_nnx(*both, _nnx_modules(both[0]))), (*WITH_GRUS, "elman")
    ),
    "equinox": RoundTrip(_through_equinox, WITH_GRUS),
    "onnx": RoundTrip(_through_onnx, tuple(LAYERS)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("library", ROUND_TRIPS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_round_trip_gives_the_same_bits(name: str, library: str, dtype: str) -> None:
    there_and_back, layers = ROUND_TRIPS[library]
    with jax.enable_x64(dtype == "float64"):
        layer, params = _random(name, dtype)
        if name not in layers:
            with pytest.raises(ValueError, match=rf"{library}: only LSTMs.* can be converted; got"):
                there_and_back(layer, params)
            return
        if library == "nnx" and "gru" in name:  # whose GRUs have no b'
            with pytest.raises(ValueError, match="no recurrent bias of the candidate"):
                there_and_back(layer, params)
            params = jax.tree.map(
                lambda one: one._replace(candidate_bias=jnp.zeros_like(one.candidate_bias)),
                params,
                is_leaf=lambda leaf: isinstance(leaf, lstmjax.GRUParams),
            )
        again, params_again = there_and_back(layer, params)
        assert again == layer
        assert_equal(params_again, params)


@pytest.mark.parametrize("library", ["torch", "keras", "equinox", "onnx"])
@pytest.mark.parametrize("name", UNBIASED)
def test_cells_without_biases_stay_without(name: str, library: str) -> None:
    there_and_back, layers = ROUND_TRIPS[library]
    if name not in layers:
        pytest.skip(f"{library} has no such cell")
    layer, params = _filled(UNBIASED[name])
    if library == "keras" and "gru" in name:
        assert [array.shape for array in convert.to_keras(layer, params)] == [(3, 12), (4, 12)]
        with pytest.raises(ValueError, match="do not tell where a GRU applies its reset gate"):
            there_and_back(layer, params)
        return
    assert_equal(there_and_back(layer, params), (layer, params))


def _outputs_of_linen(layer: Any, params: Any) -> Any:
    makes = {
        lstmjax.LSTM: linen.OptimizedLSTMCell,
        lstmjax.GRU: linen.GRUCell,
        lstmjax.Elman: linen.SimpleCell,
    }
    module = linen.RNN(makes[type(layer)](4))
    return module.apply({"params": {"cell": convert.to_linen(layer, params)}}, INPUTS)


def _outputs_of_nnx(layer: Any, params: Any) -> Any:
    return nnx.RNN(convert.to_nnx(layer, params, _nnx_modules(layer)))(INPUTS)


def _outputs_of_haiku(layer: Any, params: Any) -> Any:
    kind = "LSTM" if isinstance(layer, lstmjax.LSTM) else "GRU"
    return _haiku_model(kind, 1).apply(convert.to_haiku(layer, params), INPUTS)


def _outputs_of_cudnn(layer: Any, params: Any) -> Any:
    kernels = cudnn.unpack_lstm_weights(jnp.asarray(convert.to_cudnn(layer, params)), 3, 4, 1, False)
    zeros, lengths = jnp.zeros((1, 2, 4)), np.array([5, 5], np.int32)
    return cudnn.lstm_ref(INPUTS, zeros, zeros, *kernels, lengths, 3, 4, 1, 0.0, False)[0]


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        (_outputs_of_linen, "gru"),
        (_outputs_of_haiku, "lstm"),
        (_outputs_of_linen, "lstm"),
        (_outputs_of_linen, "elman"),
        (_outputs_of_nnx, "lstm"),
        (_outputs_of_nnx, "gru"),
        (_outputs_of_nnx, "elman"),
        (_outputs_of_haiku, "gru, reset before"),
        (_outputs_of_cudnn, "lstm"),
    ],
)
def test_libraries_whose_cells_always_have_biases_get_zeros(outputs: Any, name: str) -> None:
    converted = _filled(UNBIASED[name])
    _agree(converted, outputs(*converted))


def _agree(converted: Any, expected: Any, inputs: Any = INPUTS, **options: Any) -> Any:
    """The outputs of what was converted are those expected; returns its state."""
    layer, params = converted
    state, outputs = lstmjax.unroll(layer, params, inputs, **options)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    return state


# PyTorch


def _into_torch(module: Any, layer: Any, params: Any, dtype: Any = None) -> Any:
    """The module with the parameters; with a dtype, by way of it, as `to_torch` says for bfloat16."""
    torch = pytest.importorskip("torch")
    arrays = convert.to_torch(layer, params)
    module.load_state_dict(
        {key: torch.from_numpy(array.astype(dtype or array.dtype)) for key, array in arrays.items()}
    )
    return module


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
@pytest.mark.parametrize("both", [False, True])
def test_other_modules_of_pytorch_agree(kind: str, both: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(3, 4, 2, bidirectional=both, batch_first=True, bias=both)
    outputs, hidden = module(torch.from_numpy(INPUTS))
    converted = convert.from_torch(module)
    state = _agree(converted, outputs.detach())
    np.testing.assert_allclose(np.stack(jax.tree.leaves(state)), hidden.detach(), atol=1e-5)
    again = getattr(torch.nn, kind)(3, 4, 2, bidirectional=both, batch_first=True, bias=both)
    _into_torch(again, *converted)
    np.testing.assert_allclose(again(torch.from_numpy(INPUTS))[0].detach(), outputs.detach(), atol=1e-6)


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
    again = _into_torch(torch.nn.LSTM(3, 4, layers, bias=bias, **options), layer, params)
    np.testing.assert_allclose(again(torch.from_numpy(INPUTS))[0].detach(), outputs.detach(), atol=1e-6)
    assert_equal(convert.from_torch(again), (layer, params))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_pytorch_agrees_on_packed_sequences(kind: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True, batch_first=True)
    lengths = np.array([5, 2])
    pack, unpack = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    packed, _ = module(pack(torch.from_numpy(INPUTS), lengths, batch_first=True))
    _agree(convert.from_torch(module), unpack(packed, batch_first=True)[0].detach(), lengths=lengths)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_pytorch_tensors_of_other_dtypes_keep_their_bits(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(3, 4, dtype=getattr(torch, dtype), bias=False)
    with jax.enable_x64(dtype == "float64"):
        cell, params = convert.from_torch(module)
        assert cell == lstmjax.lstm(3, 4, dtype=dtype, param_dtype=dtype, bias=False)
        assert params.kernel.dtype == dtype
        expected = module.weight_ih_l0.detach().double().numpy().T
        np.testing.assert_array_equal(np.asarray(params.kernel, np.float64), expected)


def test_bfloat16_reaches_pytorch_and_comes_back_with_the_same_bits() -> None:
    torch = pytest.importorskip("torch")
    for name in ("stack", "gru"):
        layer, params = _random(name, "bfloat16")
        kind = {"stack": torch.nn.LSTM, "gru": torch.nn.GRU}[name]
        module = kind(3, 4, len(layer.cells), dtype=torch.bfloat16)
        assert_equal(convert.from_torch(_into_torch(module, layer, params, "float32")), (layer, params))


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_a_cell_of_pytorch_agrees(kind: str) -> None:
    torch = pytest.importorskip("torch")
    module = getattr(torch.nn, kind)(3, 4)
    state = module(torch.from_numpy(INPUTS[:, 0]))
    hidden = state[0] if kind == "LSTMCell" else state
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
    with pytest.raises(ValueError, match=r"kernels \[D, 4H\] and \[H, 4H\]"):
        convert.from_torch({"weight_ih_l0": np.zeros((8, 3)), "weight_hh_l0": np.zeros((8, 4))})
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
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {}),
        ("GRU", {}),
        ("GRU", {"reset_after": False}),
        ("SimpleRNN", {}),
    ],
)
def test_keras_agrees(keras: Any, kind: str, options: Any, both: bool, bias: bool) -> None:
    module = getattr(keras.layers, kind)(4, return_sequences=True, use_bias=bias, **options)
    module = keras.layers.Bidirectional(module) if both else module
    module.build((None, 5, 3))
    _random_weights(module)
    expected = module(INPUTS)
    layer, params = convert.from_keras(module)
    _agree((layer, params), expected)
    before = module.get_weights()
    _random_weights(module, seed=1).set_weights(convert.to_keras(layer, params))
    np.testing.assert_allclose(module(INPUTS), expected, atol=1e-6)
    if kind != "GRU" or not bias:  # its two biases are added where the reset gate does not act on the second
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
    with pytest.raises(ValueError, match="give a layer of Keras or a list, got Param"):
        convert.from_keras(nnx.Param(jnp.ones(3)))
    with pytest.raises(ValueError, match="got 5"):
        convert.from_keras([np.zeros((3, 16), np.float32)] * 5)
    with pytest.raises(ValueError, match="do not tell where a GRU applies its reset gate"):
        convert.from_keras([np.zeros((3, 12), np.float32), np.zeros((4, 12), np.float32)])


def test_layers_of_keras_that_go_backwards_are_refused(keras: Any) -> None:
    def layer(**options: Any) -> Any:
        return keras.layers.LSTM(4, return_sequences=True, **options)

    backwards = layer(go_backwards=True)
    both = keras.layers.Bidirectional(layer(go_backwards=True), backward_layer=layer())
    stacked = keras.layers.RNN([keras.layers.LSTMCell(4)], go_backwards=True)
    for module in (backwards, both, stacked):
        module.build((None, 5, 3))
        with pytest.raises(ValueError, match="go_backwards=True: convert its cell"):
            convert.from_keras(module)
    expected = np.flip(_random_weights(backwards)(INPUTS), 1)
    _agree(convert.from_keras(backwards.cell), expected, reverse=True)


def test_several_cells_and_models_of_keras_are_stacks(keras: Any) -> None:
    cells = [keras.layers.LSTMCell(3), keras.layers.GRUCell(4)]
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            keras.layers.RNN(cells, return_sequences=True),
            keras.layers.SimpleRNN(4, return_sequences=True),
        ]
    )
    converted = convert.from_keras(_random_weights(model))
    _agree(converted, model(INPUTS))
    model.add(keras.layers.Dense(2))
    with pytest.raises(ValueError, match="of Dense, is no LSTM, GRU or SimpleRNN"):
        convert.from_keras(model)


def test_two_layers_of_keras_are_not_two_directions(keras: Any) -> None:
    """The arrays of both are alike where the layers have as many units as inputs."""

    def weights(layers: Any, size: int) -> Any:
        return _random_weights(keras.Sequential([keras.Input((5, size)), *layers])).get_weights()

    def layer() -> Any:
        return keras.layers.LSTM(4, return_sequences=True)

    stacked, both = weights([layer(), layer()], 3), weights([keras.layers.Bidirectional(layer())], 3)
    assert isinstance(convert.from_keras(stacked)[0], lstmjax.Stack)
    assert isinstance(convert.from_keras(both)[0], lstmjax.Bidirectional)
    same = weights([layer(), layer()], 4)
    with pytest.raises(ValueError, match=r"two directions or two layers.*Directions\(weights\[:3\]"):
        convert.from_keras(same)
    assert isinstance(convert.from_keras([same[:3], same[3:]])[0], lstmjax.Stack)
    assert isinstance(convert.from_keras(Directions(same[:3], same[3:]))[0], lstmjax.Bidirectional)


def test_the_dtype_that_keras_computes_in_is_kept(keras: Any) -> None:
    module = keras.layers.LSTM(4, dtype="mixed_bfloat16")
    module.build((None, 5, 3))
    assert convert.from_keras(module)[0] == lstmjax.lstm(3, 4, dtype="bfloat16")


# Flax


@pytest.mark.parametrize("make", [linen.LSTMCell, linen.OptimizedLSTMCell, linen.GRUCell, linen.SimpleCell])
def test_linen_agrees(make: Any) -> None:
    module = linen.RNN(make(4, bias_init=linen.initializers.normal(1.0)))
    variables = module.init(jax.random.key(0), INPUTS)
    converted = convert.from_linen(variables, module=module)
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


@pytest.mark.parametrize("make", [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell])
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


def test_modules_of_this_library_give_what_they_hold() -> None:
    rngs = nnx.Rngs(0)
    for layer in (lstmjax.min_gru(3, 4), _both()):
        module = own.Recurrent(layer, rngs=rngs)
        assert_equal(convert.from_nnx(module), (layer, module.values))
    cells = [own.LSTMCell(3, 4, bias=False, rngs=rngs) for _ in "ab"]
    values = lstmjax.Directions(*(cell.values for cell in cells))
    converted = convert.from_nnx(nnx.Bidirectional(*(nnx.RNN(cell) for cell in cells)))
    assert_equal(converted, (UNBIASED["bidirectional"], values))


def test_other_modules_of_flax_are_refused() -> None:
    with pytest.raises(ValueError, match=r"entries ii, if, .* or ir, iz, .* got \['dense"):
        convert.from_linen({"dense": {"kernel": np.ones((3, 4))}})
    with pytest.raises(ValueError, match=r"MGUCell is none of Flax's"):
        convert.from_linen({}, module=linen.MGUCell(4))
    for module, message in (
        (nnx.Linear(3, 4, rngs=nnx.Rngs(0)), "Linear is none of Flax's"),
        (nnx.LSTMCell(3, 4, activation_fn=jax.nn.relu, rngs=nnx.Rngs(0)), "activation_fn of LSTMCell"),
        (nnx.GRUCell(3, 4, gate_fn=jax.nn.relu, rngs=nnx.Rngs(0)), "gate_fn of GRUCell"),
        (nnx.SimpleCell(3, 4, residual=True, rngs=nnx.Rngs(0)), "residual of SimpleCell must be False"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.from_nnx(module)
    layer, params = _random("bidirectional")
    with pytest.raises(ValueError, match="do not have the layers and directions"):
        convert.to_nnx(layer, params, nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
    module = nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module)))
    with pytest.raises(ValueError, match=r"float32 \(3, 5\) where the cell has float32 \(3, 4\)"):
        convert.to_nnx(layer.forward, params.forward, module)
    assert_equal(nnx.to_pure_dict(nnx.state(module)), before)


@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_modules_of_flax_that_go_backward_are_refused_unless_one_of_two(library: str) -> None:
    def read(module: Any) -> Any:
        if library == "nnx":
            return convert.from_nnx(module)
        return convert.from_linen(module.init(jax.random.key(0), INPUTS), module=module)

    def cell() -> Any:
        return linen.LSTMCell(4) if library == "linen" else nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))

    flax: Any = {"linen": linen, "nnx": nnx}[library]
    for keep_order in (False, True):
        module = flax.RNN(cell(), reverse=True, keep_order=keep_order)
        with pytest.raises(ValueError, match=r"RNN\(reverse=True\) goes backward: convert its cell"):
            read(module)
    backward = flax.RNN(cell(), reverse=True, keep_order=True)
    assert isinstance(read(flax.Bidirectional(flax.RNN(cell()), backward))[0], lstmjax.Bidirectional)
    with pytest.raises(ValueError, match="merge_fn of a Bidirectional must concatenate"):
        read(flax.Bidirectional(flax.RNN(cell()), flax.RNN(cell()), merge_fn=jnp.add))


def test_the_dtype_that_flax_computes_in_is_kept() -> None:
    want = lstmjax.lstm(3, 4, dtype="bfloat16")
    for make in (nnx.LSTMCell, nnx.OptimizedLSTMCell):
        assert convert.from_nnx(make(3, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))[0] == want
    module = linen.RNN(linen.LSTMCell(4, dtype=jnp.bfloat16))
    variables = module.init(jax.random.key(0), INPUTS)
    assert convert.from_linen(variables, module=module)[0] == want
    with pytest.raises(ValueError, match="LSTMCell computes in float32, the cell in bfloat16: make"):
        convert.to_nnx(want, want.init(jax.random.key(0)), nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="all modules must compute in one dtype"):
        convert.from_linen([variables, variables], module=[module, linen.LSTMCell(4)])


# Haiku


def _haiku_model(kind: str, layers: int) -> Any:
    haiku = pytest.importorskip("haiku")

    def run(inputs: Any) -> Any:
        core = haiku.DeepRNN([getattr(haiku, kind)(4) for _ in range(layers)])
        return haiku.dynamic_unroll(core, inputs, core.initial_state(2), time_major=False)[0]

    return haiku.without_apply_rng(haiku.transform(run))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_haiku_agrees(kind: str, layers: int) -> None:
    model = _haiku_model(kind, layers)
    shapes = model.init(jax.random.key(0), INPUTS)
    tree = random_like(shapes, np.random.default_rng(0), 0.5)
    converted = convert.from_haiku(tree)
    _agree(converted, model.apply(tree, INPUTS))
    assert_close(convert.to_haiku(*converted), tree, 1e-6)


def test_haiku_has_exact_round_trips_where_the_forget_bias_allows_it() -> None:
    for name in ("gru, reset before", "stack"):
        layer, params = _random(name)
        if name != "stack":
            assert_equal(convert.from_haiku(convert.to_haiku(layer, params)), (layer, params))
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
    with pytest.raises(ValueError, match=r"only .*GRUs with reset_after=False, alone"):
        convert.to_haiku(*_random("gru"))
    with pytest.raises(ValueError, match=r"norm has \['scale'\]"):
        convert.from_haiku({"norm": {"scale": np.ones(3)}})
    linear = {"w": np.ones((4, 4)), "b": np.ones(4)}
    with pytest.raises(ValueError, match=r"haiku\.VanillaRNN is ReLU"):
        convert.from_haiku({"vanilla_rnn/linear": linear, "vanilla_rnn/linear_1": linear})
    arrays = convert.to_haiku(*_random("lstm"))["lstm/linear"]
    with pytest.raises(ValueError, match="differ by a number"):  # a stack of an encoder and a decoder
        convert.from_haiku({"decoder/lstm/linear": arrays, "encoder/lstm/linear": arrays})
    with pytest.raises(ValueError, match=r"must be \[D \+ H, 4H\], got \(3, 2\)"):
        convert.from_haiku({"linear": {"w": np.ones((3, 2)), "b": np.ones(2)}})
    with pytest.raises(ValueError, match="no parameters"):
        convert.from_haiku({})


# Equinox


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_equinox_agrees(kind: str, bias: bool) -> None:
    equinox = pytest.importorskip("equinox")
    module = getattr(equinox.nn, kind)(3, 4, use_bias=bias, key=jax.random.key(0))

    def run(module: Any, inputs: Any) -> Any:
        def step(state: Any, inputs_t: Any) -> Any:
            state = module(inputs_t, state)
            return state, state[0] if kind == "LSTMCell" else state

        zeros = jnp.zeros(4)
        return jax.lax.scan(step, (zeros, zeros) if kind == "LSTMCell" else zeros, inputs)[1]

    expected = jax.vmap(run, (None, 0))(module, INPUTS)
    converted = convert.from_equinox(module)
    _agree(converted, expected)
    written = convert.to_equinox(*converted)
    assert written.use_bias == bias
    np.testing.assert_allclose(jax.vmap(run, (None, 0))(written, INPUTS), expected, atol=1e-6)


def test_what_is_no_cell_of_equinox_is_refused() -> None:
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


@pytest.mark.parametrize("kind", ["gru", "basic_rnn"])
def test_other_variables_of_tensorflow_agree(kind: str) -> None:
    random = np.random.default_rng(0)
    parts = {"gates/": 8, "candidate/": 4} if kind == "gru" else {"": 4}
    shapes = {f"{part}kernel": (7, size) for part, size in parts.items()}
    shapes |= {f"{part}bias": (size,) for part, size in parts.items()}
    variables = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    hidden, outputs = np.zeros((2, 4)), []
    for inputs_t in np.moveaxis(INPUTS, 1, 0):

        def product(part: str, *operands: Any) -> Any:
            return np.concatenate(operands, 1) @ variables[f"{part}kernel"] + variables[f"{part}bias"]

        if kind == "gru":  # as the code of `tf.compat.v1.nn.rnn_cell.GRUCell` has it
            r, u = np.split(1 / (1 + np.exp(-product("gates/", inputs_t, hidden))), 2, axis=1)
            hidden = u * hidden + (1 - u) * np.tanh(product("candidate/", inputs_t, r * hidden))
        else:
            hidden = np.tanh(product("", inputs_t, hidden))
        outputs.append(hidden)
    converted = convert.from_tensorflow(
        {f"rnn/{kind}_cell/{name}": array for name, array in variables.items()}
    )
    _agree(converted, np.stack(outputs, axis=1))


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
    kinds = lstmjax.stack(_lstm(), lstmjax.gru(4, 4))
    biases = lstmjax.stack(_lstm(), lstmjax.lstm(4, 4, bias=False))
    for layer, message in ((widths, "same hidden size"), (mixed, "must be bidirectional")):
        for to in (convert.to_torch, convert.to_cudnn):
            with pytest.raises(ValueError, match=message):
                to(layer, layer.init(jax.random.key(0)))
    for layer, message in (
        (kinds, "must be of one kind"),
        (biases, "all cells or none must have bias=False"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.to_torch(layer, layer.init(jax.random.key(0)))
    assert convert.to_cudnn(biases, biases.init(jax.random.key(0))).shape == (304,)  # which has zeros
