"""Modes of JAX that change how a program is traced or checked: every backend works under each of them."""

import functools
import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL, LSTM_WAYS
from jax.experimental import checkify

import lstmjax
from lstmjax import backends

CELL = lstmjax.lstm(2, 3)
PARAMS = CELL.init(jax.random.key(0))
INPUTS = np.random.default_rng(0).standard_normal((4, 5, 2)).astype(np.float32)
LENGTHS = np.array([5, 0, 2, 3])
RESETS = np.arange(20).reshape(4, 5) % 3 == 1


def loss(way, params, inputs):
    state, outputs = lstmjax.unroll(CELL, params, inputs, None, LENGTHS, RESETS, backend=way)
    return (state.cell**2).sum() + jnp.sin(outputs).sum()


def gradient(way, inputs=INPUTS):
    return jax.value_and_grad(functools.partial(loss, way))(PARAMS, inputs)


MODES = {
    "disable_jit": jax.disable_jit,
    "debug_nans": functools.partial(jax.debug_nans, True),
    "strict_promotion": functools.partial(jax.numpy_dtype_promotion, "strict"),
    "rank_promotion": functools.partial(jax.numpy_rank_promotion, "raise"),
    "checking_leaks": jax.checking_leaks,
    "enable_x64": functools.partial(jax.enable_x64, True),
}


@pytest.mark.parametrize("way", ["auto", *LSTM_WAYS])
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str, way: str) -> None:
    inputs = np.where((np.arange(5) < LENGTHS[:, None])[..., None], INPUTS, np.nan)
    want = gradient("scan")
    with MODES[mode]():
        got = gradient(way, inputs)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), got, want)


@pytest.mark.parametrize("name", ALL)
def test_no_cell_relies_on_promotion(name: str) -> None:
    cell = ALL[name].make(jnp.float32)
    inputs, flags = jnp.ones((4, 5, cell.features)), jnp.ones((4, 5), bool)

    def loss(params, inputs):
        _, outputs = lstmjax.unroll(cell, params, inputs, None, jnp.arange(4), flags, mask=flags)
        return outputs.sum()

    params = cell.init(jax.random.key(0))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(jax.grad(loss, argnums=(0, 1)), params, inputs)


@pytest.mark.parametrize("way", LSTM_WAYS)
def test_nothing_is_moved_to_the_device_unasked(way: str) -> None:
    arguments = jax.tree.map(jnp.asarray, (PARAMS, INPUTS, None, LENGTHS, RESETS))
    run = jax.jit(functools.partial(lstmjax.unroll, CELL, backend=way))
    with jax.transfer_guard("disallow"):
        run(*arguments)


@pytest.mark.parametrize("way", LSTM_WAYS)
def test_checkify_finds_what_is_not_finite(way: str) -> None:
    checked = checkify.checkify(jax.grad(functools.partial(loss, way)), errors=checkify.float_checks)
    error, got = jax.jit(checked)(PARAMS, INPUTS)
    assert error.get() is None
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), got, gradient(way)[1])
    error, _ = checked(jax.tree.map(lambda leaf: leaf * np.nan, PARAMS), INPUTS)
    assert "nan" in str(error.get())


@pytest.mark.parametrize("way", ["auto", *LSTM_WAYS])
def test_a_function_of_the_user_is_exported(way: str) -> None:
    """With the portable backend by itself, the gradient included; parameters and states are named trees."""
    program = jax.export.export(jax.jit(functools.partial(loss, way)))(PARAMS, INPUTS)
    again = jax.export.deserialize(program.serialize(vjp_order=1))
    assert "custom_call" not in program.mlir_module()
    value, (of_params, of_inputs) = again.call(PARAMS, INPUTS), _pull_back(again)
    want, slopes = jax.value_and_grad(functools.partial(loss, "scan"), argnums=(0, 1))(PARAMS, INPUTS)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(close, (value, of_params, of_inputs), (want, *slopes))


def _pull_back(program):
    """The gradient of an exported loss, whose derivative takes and returns flat arrays."""
    *of_params, of_inputs = program.vjp().call(*PARAMS, INPUTS, np.float32(1))
    return lstmjax.LSTMParams(*of_params), of_inputs


@pytest.mark.usefixtures("unchecked")
def test_use_names_the_backend_of_all_runs_within() -> None:
    def way(**options):
        return lstmjax.explain(CELL, (4, 5, 2), **options).parts[0][1].way

    usual = way()
    with backends.use("fused"):
        assert way() == "fused"
        assert way(backend="scan") == "scan"
        with backends.use("scan"):
            lowered = jax.jit(functools.partial(lstmjax.unroll, CELL)).lower(PARAMS, INPUTS)
        assert "lstmjax_" not in lowered.as_text()
    assert way() == usual
    with pytest.raises(ValueError, match="backend must be one of"), backends.use("fast"):
        pass


@pytest.mark.parametrize(("value", "text"), [("scan", "scan\n"), ("fast", "LSTMJAX_BACKEND must be one of")])
def test_the_environment_names_the_backend(value: str, text: str) -> None:
    code = "import lstmjax; print(lstmjax.explain(lstmjax.lstm(2, 3), (4, 5, 2)).parts[0][1].way)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, backends.VARIABLE: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert text in done.stdout + done.stderr


def test_a_forked_process_says_that_it_cannot_run() -> None:
    code = """
import os, jax.numpy as jnp, jax, lstmjax
cell = lstmjax.lstm(2, 3)
params = cell.init(jax.random.key(0))
lstmjax.unroll(cell, params, jnp.ones((4, 2)))
if os.fork() == 0:
    try:
        lstmjax.unroll(cell, params, jnp.ones((4, 2)))
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert "get_context('spawn')" in done.stdout
