"""The LSTM by cuDNN: what is done around it, with the reference that comes with it in its place.

On a GPU, cuDNN itself.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn
from test_pallas import assert_alike, problem

import lstmjax
from lstmjax import backends
from lstmjax.backends import cudnn
from lstmjax.backends.scan import Masks
from lstmjax.cells.lstm import LSTMState


def forward(x, hidden, cell, weights, lengths, **sizes):
    results = _reference(x, hidden, cell, weights, lengths, **sizes)
    return results, (x, hidden, cell, weights, lengths, results[0], jnp.zeros(7))


def backward(residuals, cotangents, **sizes):
    *at, lengths, outputs, kept = residuals
    assert outputs.shape == cotangents[0].shape
    assert kept.shape == (7,)
    return jax.vjp(lambda *at: _reference(*at, lengths, **sizes), *at)[1](cotangents)


def _reference(x, hidden, cell, weights, lengths, *, num_layers, bidirectional, dropout, **sizes):
    """`jax.experimental.rnn.lstm_ref` with the arguments of ``lstm``, wrong where cuDNN is not defined."""
    features, size = sizes["input_size"], sizes["hidden_size"]
    unpacked = rnn.unpack_lstm_weights(weights, features, size, num_layers, bidirectional)
    outputs, *last = rnn.lstm_ref(
        x, hidden, cell, *unpacked, lengths, features, size, num_layers, dropout, bidirectional
    )
    wrong = jnp.where((lengths < 1) | (lengths > x.shape[1]), jnp.nan, 0.0).astype(x.dtype)
    return outputs + wrong[:, None, None], *last


SIZES = ("input_size", "hidden_size", "num_layers", "dropout", "bidirectional")

REFERENCE = cudnn.Library(forward, backward, platform=None)

CELL = lstmjax.lstm(3, 5)
PARAMS = jax.tree.map(
    lambda leaf, key: jax.random.normal(key, leaf.shape) / 2,
    CELL.init(jax.random.key(0)),
    lstmjax.LSTMParams(*jax.random.split(jax.random.key(1), 3)),
)


def arguments(batch_shape=(4,), time=6):
    random = np.random.default_rng(0)
    inputs = jnp.asarray(random.normal(size=(*batch_shape, time, 3)), jnp.float32)
    state = LSTMState(*jnp.asarray(random.normal(size=(2, *batch_shape, 5)), jnp.float32))
    return PARAMS, inputs, state


def ours(params, inputs, state, lengths=None, reverse=False):
    """As `lstmjax.unroll` would call it."""
    valid = None
    if lengths is not None:
        valid = jnp.arange(inputs.shape[-2]) < lengths[..., None]
        inputs = jnp.where(valid[..., None], inputs, 0.0)
    return cudnn.cudnn_lstm(CELL, params, inputs, state, Masks(valid, None), reverse, REFERENCE)


def theirs(params, inputs, state, lengths=None, reverse=False):
    return lstmjax.unroll(CELL, params, inputs, state, lengths, reverse=reverse, backend="scan")


def loss(unroll, *at, **options):
    state, outputs = unroll(*at, **options)
    return jnp.sin(3 * outputs).sum() + (state.cell * state.hidden).sum()


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", [None, [6, 0, 3, 1], [0, 0, 0, 0]], ids=str)
def test_values_and_gradients(lengths, reverse):
    lengths = None if lengths is None else jnp.array(lengths)
    params, inputs, state = arguments()
    if lengths is not None:
        inputs = jnp.where(jnp.arange(6)[:, None] < lengths[:, None, None], inputs, jnp.nan)

    def everything(unroll):
        def function(*at):
            return unroll(*at, lengths, reverse)

        results, pull_back = jax.vjp(function, params, inputs, state)
        return results, pull_back(jax.tree.map(lambda leaf: jnp.cos(leaf) + 1, results))

    assert_alike(jax.jit(everything, static_argnums=0)(ours), everything(theirs), 1e-5)


@pytest.mark.parametrize(("batch_shape", "time"), [((), 3), ((2, 2), 3), ((3,), 1), ((2,), 0), ((0,), 3)])
def test_any_batch_rank_and_no_steps_and_no_rows(batch_shape, time):
    at = arguments(batch_shape, time)
    jax.tree.map(np.testing.assert_array_equal, *jax.eval_shape(lambda *at: (ours(*at), theirs(*at)), *at))
    assert_alike(jax.jit(ours)(*at), theirs(*at), 1e-5)


LENGTHS = jnp.array([6, 0, 3, 1])


def gradients_by(library):
    def unroll(params, inputs, state):
        valid = jnp.arange(6) < LENGTHS[:, None]
        return cudnn.cudnn_lstm(CELL, params, inputs, state, Masks(valid, None), True, library)

    return jax.jit(jax.value_and_grad(functools.partial(loss, unroll), argnums=(0, 1, 2)))(*arguments())


@pytest.mark.full
def test_a_program_for_another_platform_has_the_fused_way():
    assert_alike(gradients_by(REFERENCE._replace(platform="cuda")), gradients_by(REFERENCE), 1e-5)


@pytest.mark.full
def test_jax_is_called_as_it_wants_to_be(monkeypatch):
    """The functions of `jax.experimental.rnn` that call cuDNN, with the reference within."""
    signatures = {name: inspect.signature(getattr(rnn, name)) for name in ("lstm_fwd", "lstm_bwd")}
    called = []

    def call(name, *given, **named):
        at = signatures[name].bind(*given, **named).arguments
        called.append((name, str(at.pop("precision"))))
        sizes = {size: at.pop(size) for size in SIZES}
        if name == "lstm_fwd":
            return forward(*at.values(), **sizes)
        return *backward(at["residuals"], at["gradients"], **sizes), None

    for name in signatures:
        monkeypatch.setattr(rnn, name, functools.partial(call, name))
    assert_alike(gradients_by(cudnn.CUDNN._replace(platform=None)), gradients_by(REFERENCE), 1e-5)
    assert {("lstm_fwd", "HIGH"), ("lstm_bwd", "HIGH")} == set(called)
    called.clear()
    with jax.default_matmul_precision("highest"):
        gradients_by(cudnn.CUDNN._replace(platform=None))
    assert {("lstm_fwd", "HIGHEST"), ("lstm_bwd", "HIGHEST")} == set(called)


def test_forward_mode():
    at = arguments()
    tangents = jax.tree.map(jnp.cos, at)
    slopes = (jax.jvp(lambda *at, f=f: f(*at, LENGTHS), at, tangents) for f in (jax.jit(ours), theirs))
    assert_alike(*slopes, 1e-5)


@pytest.mark.full
def test_hessian_vector_products_in_both_orders():
    at = arguments()
    tangents = jax.tree.map(jnp.cos, at)

    @functools.partial(jax.jit, static_argnums=0)
    def products(unroll):
        gradient = jax.grad(functools.partial(loss, unroll, lengths=LENGTHS), argnums=(0, 1, 2))
        forward_over_reverse = jax.jvp(gradient, at, tangents)[1]
        reverse_over_reverse = jax.vjp(gradient, *at)[1](tangents)
        return forward_over_reverse, reverse_over_reverse

    assert_alike(products(ours), products(theirs), 1e-4)


@pytest.mark.full
def test_vmap_over_models_and_rows():
    params, inputs, state = arguments()
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf, 2 * leaf, leaf / 2]), params)

    def gradients(unroll):
        return jax.vmap(jax.grad(functools.partial(loss, unroll), argnums=(0, 1)))(params, inputs, state)

    assert_alike(jax.jit(gradients, static_argnums=0)(ours), gradients(theirs), 1e-5)


def test_the_vector_of_weights_is_what_the_library_takes_apart():
    weights = cudnn.pack(PARAMS)
    assert weights.size == rnn.get_num_params_in_lstm(3, 5, 1, False)
    kernel, recurrent_kernel, bias, other_bias = (
        part[0] for part in rnn.unpack_lstm_weights(weights, 3, 5, 1, False)
    )
    np.testing.assert_array_equal(kernel.T, PARAMS.kernel)
    np.testing.assert_array_equal(recurrent_kernel.T, PARAMS.recurrent_kernel)
    np.testing.assert_array_equal(bias, PARAMS.bias)
    assert not other_bias.any()
    jax.tree.map(np.testing.assert_array_equal, cudnn.unpack(weights, 3, 5), PARAMS)


@pytest.mark.parametrize(
    ("cell", "resets", "reason"),
    [
        (lstmjax.lstm(3, 4), True, "cuDNN has no resets"),
        (lstmjax.lstm(3, 4, dtype="bfloat16"), False, "for float32, not for bfloat16"),
    ],
)
def test_where_it_cannot_be_had_it_says_why(cell, resets, reason):
    with pytest.raises(ValueError, match=f"backend='cudnn' cannot be had: .*{reason}"):
        backends.choose("cudnn", cell, needs=["resets"] * resets, platform="gpu")


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is one")
def test_without_a_gpu_it_cannot_be_had():
    with pytest.raises(ValueError, match="backend='cudnn' cannot be had: cuDNN is for NVIDIA GPUs"):
        lstmjax.unroll(CELL, *arguments(), backend="cudnn")


def test_auto_takes_it_on_a_gpu(monkeypatch):
    monkeypatch.setattr(rnn.gpu_rnn, "compute_rnn_workspace_reserve_space_sizes", None, raising=False)
    assert backends.choose("auto", CELL, platform="gpu").way == "cudnn"
    assert backends.choose("cudnn", CELL, platform="gpu").way == "cudnn"


# On a GPU.


@pytest.mark.gpu
@pytest.mark.parametrize(
    "size", [(64, 50, 32, 64), (33, 21, 7, 20), (1, 5, 3, 1), (32, 20, 64, 500)], ids=str
)
@pytest.mark.parametrize("options", [{}, {"lengths": True}, {"lengths": True, "reverse": True}], ids=str)
def test_on_a_gpu_values_and_gradients_are_those_of_the_scan(size, options):
    with jax.default_matmul_precision("highest"):
        gradient = problem(*size, options, "float32")
        assert_alike(gradient("cudnn"), gradient("scan"), 1e-4)
