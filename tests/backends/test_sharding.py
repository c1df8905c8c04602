"""Batches divided over devices: over automatic and explicit axes of a mesh. Manual ones: contract 8.

Every cell, wrapper, layer, backend and decoder gives the same as on one device, divided as the batch is, and
nothing is communicated but the sum of the parameters' gradient.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, LSTM_WAYS
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from test_cudnn import CELL, arguments
from test_cudnn import ours as by_cudnn

import lstmjax
from lstmjax import decoding

AUTOMATIC = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
EXPLICIT = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
COLLECTIVES = re.compile(r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\(")


def put(tree, mesh, *axes):
    return jax.device_put(tree, NamedSharding(mesh, P(*axes)))


def assert_divided(tree, axis=0):
    for leaf in jax.tree.leaves(tree):
        assert leaf.sharding.spec[axis] == "data", leaf.sharding


def assert_same(got, want, atol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), got, want)


def loss(run, params, inputs, *more):
    state, outputs = run(params, inputs, *more)
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.sin(3 * outputs).sum() + sum((leaf**2).sum() for leaf in floats), (state, outputs)


def gradient(run):
    return jax.jit(jax.value_and_grad(functools.partial(loss, run), argnums=(0, 1), has_aux=True))


BATCHES = [("cudnn", (4,)), *((way, batch) for way in LSTM_WAYS for batch in ((4,), (3, 2)))]
"""cuDNN has one axis of rows: XLA gathers a batch of which an inner axis is divided."""


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(("way", "batch"), BATCHES)
def test_automatic_axes_stay_divided_and_only_the_gradient_is_summed(
    way: str, batch: tuple[int, ...]
) -> None:
    params, inputs, state = arguments(batch, time=5)
    rows = inputs, state, jnp.arange(np.prod(batch)).reshape(batch) % 6

    def unroll(params, inputs, state, lengths):
        if way == "cudnn":
            return by_cudnn(params, inputs, state, lengths)
        return lstmjax.unroll(CELL, params, inputs, state, lengths, backend=way)

    run = gradient(unroll)
    divided = put(rows, AUTOMATIC, *[None] * (len(batch) - 1), "data")
    compiled = run.lower(put(params, AUTOMATIC), *divided).compile()
    (_, results), (_, of_inputs) = got = compiled(put(params, AUTOMATIC), *divided)
    assert_divided((results, of_inputs), axis=len(batch) - 1)
    assert_same(got, run(params, *rows))
    assert set(COLLECTIVES.findall(compiled.as_text())) == {"all-reduce"}


@pytest.mark.parametrize("mesh", [AUTOMATIC, EXPLICIT], ids=["automatic", "explicit"])
def test_inputs_that_are_transposed_first_stay_divided(mesh: Mesh) -> None:
    cell = lstmjax.lstm(128, 3)  # the width is one of those
    params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (4, 5, 128))
    run = gradient(functools.partial(lstmjax.unroll, cell, backend="native"))
    given = put(params, mesh), put(inputs, mesh, "data")
    with jax.set_mesh(mesh):
        lowered = run.lower(*given)
        (_, results), (_, of_inputs) = got = run(*given)
    assert "optimization_barrier" in lowered.as_text()
    assert_divided((results, of_inputs))
    assert_same(got, run(params, inputs))
    assert set(COLLECTIVES.findall(lowered.compile().as_text())) == {"all-reduce"}


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    "name", ["normalized_projected", "gru_reset_before", "slstm", "conv_lstm", "stepwise"]
)
def test_no_cell_sums_over_devices_in_each_step(name: str) -> None:
    cell = ALL[name].make(jnp.float32)
    params = cell.init(jax.random.key(0))
    inputs = jax.random.normal(jax.random.key(1), (4, 5, cell.features))
    for way in ("hoisted", "scan"):
        run = gradient(functools.partial(lstmjax.unroll, cell, backend=way))
        text = run.lower(put(params, AUTOMATIC), put(inputs, AUTOMATIC, "data")).compile().as_text()
        computations = re.split(r"\n\n", text)
        of_loops = [each for each in computations if COLLECTIVES.search(each) and "ENTRY" not in each]
        assert (len(of_loops) > 0) == (way == "scan")


LAYERS = {
    "bidirectional": lstmjax.bidirectional(lstmjax.lstm(2, 3), lstmjax.lstm(2, 3)),
    "layers": lstmjax.layers(
        lstmjax.bidirectional(lstmjax.lstm(2, 3), lstmjax.gru(2, 3)), lstmjax.residual(lstmjax.lstm(6, 6))
    ),
}


@pytest.mark.parametrize("given", [False, True], ids=["inputs", "all"])
@pytest.mark.parametrize("name", [*LAYERS, *ALL])
def test_explicit_axes(name: str, given: bool) -> None:
    layer = LAYERS.get(name) or ALL[name].make(jnp.float32)
    inner = getattr(layer, "cell", layer) if type(layer).__name__ == "Sampled" else layer
    params = inner.init(jax.random.key(0))
    inputs = jax.random.normal(jax.random.key(1), (4, 3, layer.features))
    resets = jnp.zeros((4, 3), bool).at[1, 2].set(True)
    more = (inner.initial_state((4,)), jnp.array([3, 0, 2, 1]), resets) if given else ()

    def unroll(params, *rest):
        noise = inner.sample(jax.random.key(2), params, (4,))
        return lstmjax.unroll(inner, noise, *rest)

    run = gradient(unroll)
    want = run(params, inputs, *more)
    with jax.set_mesh(EXPLICIT):
        (_, results), (_, of_inputs) = got = run(
            put(params, EXPLICIT), put(inputs, EXPLICIT, "data"), *put(more, EXPLICIT, "data")
        )
    assert_divided((results, of_inputs))
    assert_same(got, want)


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("way", [*LSTM_WAYS, "remat", "truncated"])
def test_explicit_axes_by_each_way(way: str) -> None:
    cell = lstmjax.lstm(2, 3)
    params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (4, 5, 2))

    def unroll(params, inputs):
        if way == "remat":
            return lstmjax.unroll(cell, params, inputs, remat=2)
        if way == "truncated":
            return lstmjax.truncated_bptt(cell, params, inputs, k1=1, k2=2)
        return lstmjax.unroll(cell, params, inputs, backend=way)

    run = gradient(unroll)
    divided = put(params, EXPLICIT), put(inputs, EXPLICIT, "data")
    got = run(*divided)  # the mesh is that of the arguments
    assert_divided(got[0][1])
    assert_same(got, run(params, inputs))
    assert set(COLLECTIVES.findall(run.lower(*divided).compile().as_text())) == {"all-reduce"}


def test_hidden_units_divided_over_devices() -> None:
    """Tensor parallelism, by XLA's own rules: the columns of the kernels lie on different devices."""
    cell = lstmjax.lstm(3, 4)
    params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (2, 5, 3))
    run = gradient(functools.partial(lstmjax.unroll, cell, backend="scan"))
    divided = lstmjax.LSTMParams(
        put(params.kernel, AUTOMATIC, None, "data"),
        put(params.recurrent_kernel, AUTOMATIC, None, "data"),
        put(params.bias, AUTOMATIC, "data"),
    )
    assert_same(run(divided, put(inputs, AUTOMATIC)), run(params, inputs))


@pytest.mark.parametrize("decoder", ["greedy", "sample", "beam_search"])
def test_decoders_over_explicit_axes(decoder: str) -> None:
    cell = lstmjax.lstm(7, 5)
    params = cell.init(jax.random.key(0))
    readout = 3 * jax.random.normal(jax.random.key(1), (5, 7))
    state = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(2), leaf.shape), cell.initial_state((4,))
    )
    options = {"sample": {"key": jax.random.key(3), "top_p": 0.8}, "beam_search": {"beams": 3}}

    @jax.jit
    def decode(params, readout, state):
        def step(state, tokens):
            state, outputs = cell.step(params, state, jax.nn.one_hot(tokens, 7))
            return state, outputs @ readout

        decode = getattr(decoding, decoder)
        return decode(step, state, start=0, end=1, max_length=5, **options.get(decoder, {}))

    want = decode(params, readout, state)
    with jax.set_mesh(EXPLICIT):
        got = decode(*put((params, readout), EXPLICIT), put(state, EXPLICIT, "data"))
    assert_divided(got)
    assert_same(got, want)


def test_a_scan_over_an_explicit_axis_outside_of_jit() -> None:
    params, inputs, _ = arguments((4,), time=3)
    want = lstmjax.unroll(CELL, params, inputs, backend="scan")
    with jax.set_mesh(EXPLICIT):
        got = lstmjax.unroll(CELL, params, put(inputs, EXPLICIT, "data"), backend="scan")
    assert_divided(got)
    assert_same(got, want)


def test_some_axes_manual_and_others_automatic() -> None:
    mesh = jax.make_mesh((2, 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    params, inputs, _ = arguments((4,), time=3)

    def unroll(params, inputs):
        return lstmjax.unroll(CELL, params, inputs, backend="native")

    with jax.set_mesh(mesh):
        part = jax.shard_map(unroll, in_specs=(P(), P("data")), out_specs=P("data"), axis_names={"data"})
        got = gradient(part)(params, put(inputs, mesh, "data"))
    assert_same(got, gradient(unroll)(params, inputs))
