"""Flax NNX modules, against the functional form that they wrap."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, assert_close, assert_equal
from flax import linen, nnx

import lstmjax
from lstmjax.nnx import LSTM, Bidirectional, Functional, LSTMCell, Recurrent, functional

pytestmark = pytest.mark.usefixtures("exact")

LENGTHS = np.array([3, 0], np.int32)
KEY = jax.random.key(0)
RESETS = np.array([[False, False, True], [False, True, False]])


def _bidirectional(dtype: Any) -> lstmjax.Bidirectional:
    return lstmjax.bidirectional(lstmjax.lstm(2, 3, dtype=dtype), lstmjax.gru(2, 4, dtype=dtype))


LAYERS: dict[str, Callable[[Any], Any]] = {
    "lstm": CELLS["lstm"].make,
    "nested": CELLS["nested"].make,
    "bidirectional": _bidirectional,
    "layers": lambda dtype: lstmjax.layers(_bidirectional(dtype), lstmjax.lstm(7, 2, dtype=dtype)),
}

each_layer = pytest.mark.parametrize("name", LAYERS)


def _module(name: str, seed: int = 0) -> Recurrent:
    return Recurrent(LAYERS[name](jnp.float64), rngs=nnx.Rngs(seed))


def _inputs(module: Recurrent) -> np.ndarray:
    inputs = np.random.default_rng(0).standard_normal((2, 3, module.cell.features))
    inputs[LENGTHS[:, None] <= np.arange(3)] = np.nan
    return inputs


def _functional(layer: Any, params: Any, *arguments: Any) -> Any:
    """The functional form: `unroll` of a cell, or `apply` of a layer."""
    if isinstance(layer, lstmjax.Layer):
        return layer.apply(params, *arguments)
    return lstmjax.unroll(layer, params, *arguments)


@each_layer
@pytest.mark.parametrize("reverse", [False, True])
def test_a_module_equals_the_functional_form(name: str, reverse: bool) -> None:
    module = _module(name)
    state = jax.tree.map(jnp.ones_like, module.initial_state((2,)))
    arguments = (_inputs(module), state, LENGTHS, RESETS, reverse)
    assert_equal(module(*arguments), _functional(module.cell, module.values, *arguments))


@each_layer
def test_a_module_starts_as_the_functional_form_does(name: str) -> None:
    module = _module(name, seed=5)
    assert_equal(module.values, module.cell.init(nnx.Rngs(5).params()))
    assert_equal(module.initial_state((2,)), module.cell.initial_state((2,)))
    assert jax.tree.structure(module.values) == jax.tree.structure(module.cell.init(jax.random.key(0)))


@each_layer
def test_every_array_is_a_param_and_survives_split_and_merge(name: str) -> None:
    module = _module(name)
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    assert jax.tree.leaves(rest) == []
    # The graph sorts by name; the same arrays they must be.
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(module.values)]
    assert sorted(array.tobytes() for array in arrays) == sorted(array.tobytes() for array in expected)
    merged = nnx.merge(graph, params, rest)
    assert isinstance(merged, Recurrent)
    assert merged.cell == module.cell
    arguments = (_inputs(module), None, LENGTHS)
    assert_equal(merged(*arguments), module(*arguments))


@each_layer
def test_equal_modules_have_equal_graphs_and_are_traced_once(name: str) -> None:
    graphs = [nnx.split(_module(name, seed))[0] for seed in (0, 1)]
    assert graphs[0] == graphs[1]
    assert hash(graphs[0]) == hash(graphs[1])
    traces = []

    @jax.jit
    def run(graph: Any, params: Any, inputs: Any) -> Any:
        traces.append("trace")
        return nnx.merge(graph, params)(inputs, lengths=LENGTHS)

    for seed in (0, 1):
        graph, params = nnx.split(_module(name, seed))
        run(graph, params, np.nan_to_num(_inputs(_module(name))))
    assert len(traces) == 1
    assert nnx.split(Recurrent(lstmjax.lstm(2, 5), rngs=nnx.Rngs(0)))[0] != graphs[0]


@each_layer
def test_gradients_by_split_parameters_equal_the_functional_ones(name: str) -> None:
    module = _module(name)
    inputs = _inputs(module)
    graph, params = nnx.split(module)

    @jax.jit
    def gradient(params: Any) -> Any:
        return jax.grad(lambda params: nnx.merge(graph, params)(inputs, lengths=LENGTHS)[1].sum())(params)

    @jax.jit
    def expected(params: Any) -> Any:
        def loss(params: Any) -> Any:
            return _functional(module.cell, params, inputs, None, LENGTHS)[1].sum()

        return jax.grad(loss)(params)

    actual = nnx.merge(graph, gradient(params)).values
    assert_close(actual, expected(module.values), 1e-12)
    assert any(leaf.any() for leaf in jax.tree.leaves(actual))


def test_gradients_of_nnx_and_an_update_of_the_module() -> None:
    module = _module("lstm")
    inputs = _inputs(module)

    def loss(module: Recurrent) -> jax.Array:
        return (module(inputs, lengths=LENGTHS)[1] ** 2).sum()

    before, gradients = loss(module), nnx.grad(loss)(module)
    params = nnx.state(module, nnx.Param)
    nnx.update(module, jax.tree.map(lambda p, g: p - 0.01 * g, params, gradients))
    assert loss(module) < before


def test_nnx_jit_takes_a_module() -> None:
    module = _module("nested")
    run = nnx.jit(lambda module, inputs: module(inputs, lengths=LENGTHS))
    assert_close(run(module, _inputs(module)), module(_inputs(module), lengths=LENGTHS), 1e-13)


@pytest.mark.parametrize("name", ["lstm", "nested"])
def test_a_step_is_the_cells_step(name: str) -> None:
    module = _module(name)
    state = jax.tree.map(jnp.ones_like, module.initial_state((4,)))
    inputs = np.ones((4, module.cell.features))
    assert_equal(module.step(state, inputs), module.cell.step(module.values, state, inputs))


def test_a_bidirectional_layer_cannot_be_stepped() -> None:
    module = _module("bidirectional")
    with pytest.raises(TypeError, match="cannot be stepped"):
        module.step(module.initial_state((1,)), np.ones((1, 2)))


def test_the_lstm_module_takes_the_options_of_the_cell() -> None:
    module = LSTM(2, 3, rngs=nnx.Rngs(0), forget_bias=2.0, dtype="bfloat16")
    assert module.cell == lstmjax.lstm(2, 3, forget_bias=2.0, dtype=jnp.bfloat16)
    with pytest.raises(TypeError, match="forget_bais"):
        LSTM(2, 3, rngs=nnx.Rngs(0), forget_bais=2.0)


def test_the_bidirectional_module_is_that_layer() -> None:
    layer = _bidirectional(jnp.float64)
    module = Bidirectional(layer.forward, layer.backward, rngs=nnx.Rngs(0))
    assert module.cell == layer
    assert_equal(
        module(_inputs(module), lengths=LENGTHS), _module("bidirectional")(_inputs(module), None, LENGTHS)
    )


def _cell(seed: int = 0) -> LSTMCell:
    return LSTMCell(2, 3, rngs=nnx.Rngs(seed), dtype="float64")


@pytest.mark.parametrize("reverse", [False, True])
def test_the_cell_drops_into_flaxs_rnn(reverse: bool) -> None:
    """With lengths, in both directions, it gives on valid steps what the sequence contract gives."""
    cell, lengths = _cell(), np.array([3, 2])
    layer = nnx.RNN(cell, return_carry=True, reverse=reverse, keep_order=True)
    inputs = np.random.default_rng(0).standard_normal((2, 3, 2))
    (memory, hidden), outputs = layer(inputs, seq_lengths=lengths)
    state, expected = lstmjax.unroll(cell.cell, cell.values, inputs, None, lengths, None, reverse)
    assert_close(lstmjax.LSTMState(hidden, memory), state, 1e-13)
    assert_close(np.where((np.arange(3) < lengths[:, None])[..., None], outputs, 0.0), expected, 1e-13)


def test_the_cell_drops_into_flaxs_bidirectional_layer_and_its_gradients() -> None:
    forward, backward = _cell(0), _cell(1)
    layer = nnx.Bidirectional(nnx.RNN(forward), nnx.RNN(backward))
    inputs = np.random.default_rng(0).standard_normal((2, 3, 2))
    functional_layer = lstmjax.bidirectional(forward.cell, backward.cell)
    params = lstmjax.Directions(forward.values, backward.values)
    assert_close(layer(inputs), functional_layer.apply(params, inputs)[1], 1e-13)

    def loss(module: nnx.Bidirectional) -> jax.Array:
        return module(inputs).sum()

    gradients = jax.tree.leaves(nnx.grad(loss)(layer))
    expected = jax.grad(lambda params: lstmjax.unroll(functional_layer, params, inputs)[1].sum())(params)
    sizes = sorted(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(expected))
    assert_close(sorted(float(jnp.abs(leaf).sum()) for leaf in gradients), sizes, 1e-12)


def test_the_cell_has_flaxs_carry() -> None:
    ours, flaxs = _cell(), nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    assert ours.num_feature_axes == flaxs.num_feature_axes
    assert_equal(ours.initialize_carry((4, 5, 2)), flaxs.initialize_carry((4, 5, 2), nnx.Rngs(0)))
    init = nnx.initializers.normal(1.0)
    arguments = ((4, 2), nnx.Rngs(3), init)
    assert_equal(ours.initialize_carry(*arguments), flaxs.initialize_carry((4, 2), nnx.Rngs(3), init))
    half = LSTMCell(2, 3, rngs=nnx.Rngs(0), dtype="bfloat16").initialize_carry((2,))
    assert [leaf.dtype for leaf in half] == [jnp.float32, jnp.bfloat16]


def test_the_cell_takes_the_options_of_the_lstm() -> None:
    options = {"dtype": "float64", "projection": 2, "peepholes": True}
    cell = LSTMCell(2, 3, rngs=nnx.Rngs(0), **options)
    inputs = np.random.default_rng(0).standard_normal((2, 3, 2))
    _, expected = lstmjax.unroll(lstmjax.lstm(2, 3, **options), cell.values, inputs)
    assert_close(nnx.RNN(cell)(inputs), expected, 1e-13)
    cell = LSTMCell(2, 3, rngs=nnx.Rngs(0), full_gate_recurrence=True)
    with pytest.raises(ValueError, match="not all of the state"):
        cell(cell.initialize_carry((2,)), jnp.ones(2, jnp.float32))


class _Model(nnx.Module):
    """Two layers and a readout, as an experiment has them."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(
            [Recurrent(LAYERS[name](jnp.float64), rngs=rngs) for name in ("lstm", "bidirectional")]
        )
        self.readout = nnx.Linear(7, 2, rngs=rngs, param_dtype=jnp.float64)

    def __call__(self, inputs: Any) -> Any:
        first, second = self.layers
        _, hidden = first(inputs)
        _, both = second(hidden[..., :2])
        return self.readout(both)


def _model() -> Functional:
    return functional(_Model)


def test_a_functional_model_equals_the_module() -> None:
    model, key = _model(), jax.random.key(3)
    inputs = np.ones((2, 3, 2))
    expected = _Model(nnx.Rngs(params=key))
    params = model.init(key)
    assert_close(model.bind(params)(inputs), expected(inputs), 1e-13)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))


def test_a_functional_model_is_pure() -> None:
    """Jitted, differentiated, and not changed by what is done with the parameters of another."""
    model = _model()
    one, other = (jax.jit(model.init)(jax.random.key(seed)) for seed in (0, 1))
    inputs = np.ones((2, 3, 2))
    before = np.asarray(model.bind(one)(inputs))
    assert not np.array_equal(before, model.bind(other)(inputs))
    gradient = jax.jit(jax.grad(lambda params: model.bind(params)(inputs).sum()))(one)
    assert jax.tree.structure(gradient) == jax.tree.structure(one)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(model.bind(one)(inputs), before)


class _Normalized(nnx.Module):
    """A model with averages and a stream of noise."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.layer = LSTM(2, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, inputs: Any) -> Any:
        return self.dropout(self.layer(self.norm(inputs))[1])


def test_a_functional_model_passes_other_state_through() -> None:
    model, key = functional(_Normalized), jax.random.key(0)
    params, state = model.init(key), model.init_state(key)
    assert set(params) == {"norm", "layer"}
    assert set(state) == {"norm", "dropout"}
    inputs = jnp.ones((2, 3, 2), jnp.float32)

    @jax.jit
    def run(params: Any, state: Any) -> Any:
        module = model.bind(params, state)
        return module(inputs), model.state(module)

    module = _Normalized(nnx.Rngs(jax.random.fold_in(key, 1), params=key))
    for _ in range(2):
        outputs, state = run(params, state)
        assert_close(outputs, module(inputs), 1e-6)
    np.testing.assert_allclose(state["norm"]["mean"], 1 - 0.99**2, rtol=1e-5)
    assert int(state["dropout"]["rngs"]["count"]) == 2
    with pytest.raises(ValueError, match=r"no nnx\.Param.*count.*bind\(params, state\)"):
        model.bind(params)
    assert _model().init_state(key) == {}


def test_noise_is_drawn_with_a_key_or_the_stream_dropout_in_training() -> None:
    cell = lstmjax.dropout(lstmjax.lstm(2, 3, dtype="float64"), outputs=0.5)
    module, key, inputs = Recurrent(cell, rngs=nnx.Rngs(0)), jax.random.key(1), np.ones((2, 3, 2))

    def expected(key: Any) -> Any:
        return lstmjax.unroll(cell, cell.sample(key, module.values, (2,)), inputs)

    plain = lstmjax.unroll(cell, module.values, inputs)
    assert_equal(module(inputs), plain)
    assert_equal(module(inputs, key=key), expected(key))
    assert_equal(module(inputs, rngs=nnx.Rngs(dropout=4)), expected(nnx.Rngs(dropout=4).dropout()))
    assert_equal(module(inputs, rngs=nnx.Rngs(4), deterministic=True), plain)
    module.eval()
    assert_equal(module(inputs, key=key), plain)
    assert_equal(module(inputs, key=key, deterministic=False), expected(key))


@pytest.mark.parametrize("with_partitioning", [nnx.with_partitioning, linen.with_partitioning])
def test_partitioning_of_initializers_reaches_the_parameters(with_partitioning: Any) -> None:
    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    init = nnx.initializers.lecun_normal()
    with jax.set_mesh(mesh):
        module = LSTM(2, 3, rngs=nnx.Rngs(0), kernel_init=with_partitioning(init, (None, "model")))
        specs = nnx.get_partition_spec(nnx.state(module))
        outputs = module(jnp.ones((2, 3, 2), jnp.float32))
    assert specs["weights"].kernel.get_value() == jax.sharding.PartitionSpec(None, "model")
    assert specs["weights"].bias.get_value() == jax.sharding.PartitionSpec()
    plain = LSTM(2, 3, rngs=nnx.Rngs(0), kernel_init=init)
    assert_equal(module.values, plain.values)
    assert_equal(outputs, plain(jnp.ones((2, 3, 2), jnp.float32)))


@each_layer
def test_a_module_becomes_a_linen_module(name: str) -> None:
    layer = LAYERS[name](jnp.float64)
    module, inputs = nnx.bridge.ToLinen(Recurrent, args=(layer,)), jnp.ones((2, 3, layer.features))
    variables = module.init(jax.random.key(0), inputs)
    assert jax.tree.structure(variables).num_leaves == jax.tree.structure(layer.init(KEY)).num_leaves
    doubled = jax.tree.map(lambda leaf: 2 * leaf, variables)
    own = Recurrent(layer, rngs=nnx.Rngs(0))
    nnx.update(own, doubled["params"])
    assert_close(module.apply(doubled, inputs), own(inputs), 1e-13)


def test_many_modules_at_once_and_one_after_the_other() -> None:
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def make(rngs: nnx.Rngs) -> LSTM:
        return LSTM(3, 3, rngs=rngs, dtype="float64")

    @nnx.vmap(in_axes=(0, None))
    def side_by_side(module: LSTM, inputs: Any) -> Any:
        return module(inputs)[1]

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def deep(module: LSTM, inputs: Any) -> Any:
        return module(inputs)[1]

    many, inputs = make(nnx.Rngs(0)), np.random.default_rng(0).standard_normal((2, 4, 3))
    cell, values = many.cell, [jax.tree.map(lambda leaf, i=i: leaf[i], many.values) for i in (0, 1)]
    expected = [lstmjax.unroll(cell, own, inputs)[1] for own in values]
    assert_close(side_by_side(many, inputs), jnp.stack(expected), 1e-12)
    assert_close(deep(many, jnp.asarray(inputs)), lstmjax.unroll(cell, values[1], expected[0])[1], 1e-12)
