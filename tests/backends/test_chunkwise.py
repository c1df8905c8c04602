"""The mLSTM in chunks against its scan, over several chunks; the contract is in test_unroll.py."""

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_as_scan, assert_close, random_like

import lstmjax
from lstmjax import backends

pytestmark = pytest.mark.usefixtures("exact")

CHUNK = importlib.import_module("lstmjax.backends.chunkwise").CHUNK
TIME = 2 * CHUNK + 22


@pytest.mark.parametrize("exponential", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_all_of_a_run_is_that_of_the_scan(exponential: bool, reverse: bool) -> None:
    """States, lengths within a chunk and at its end, resets, and a memory that is empty for a while."""
    cell = lstmjax.mlstm(5, 6, heads=2, exponential_forget=exponential, dtype="float64")
    random = np.random.default_rng(0)
    params = random_like(jax.eval_shape(cell.init, jax.random.key(0)), random, 0.3)
    params = params._replace(bias=0 * params.bias)
    batch = 5
    state = random_like(jax.eval_shape(lambda: cell.initial_state((batch,))), random)
    state = jax.tree.map(
        lambda leaf: np.where(np.arange(batch).reshape(-1, *[1] * (leaf.ndim - 1)) > 2, leaf, 0), state
    )
    inputs = random.standard_normal((batch, TIME, 5))
    inputs[0, :20] = 0  # its keys are 0, so that nothing is written
    inputs[1, 70:90] = 0
    lengths, resets = np.array([TIME, TIME, 2 * CHUNK, 30, 0]), random.random((batch, TIME)) < 0.03
    weights = random_like(jax.eval_shape(lambda: (state, inputs @ np.ones((5, 6)))), random)
    assert_as_scan("chunkwise", cell, weights, params, inputs, state, lengths, resets, reverse)


def test_in_float32_it_is_as_exact_as_asked() -> None:
    cell = lstmjax.mlstm(16, 16, heads=2, forget_bias=4.0)
    params, inputs = (
        cell.init(jax.random.key(0)),
        jax.random.normal(jax.random.key(1), (2, 600, 16), "float32"),
    )
    ours, scanned = (lstmjax.unroll(cell, params, inputs, backend=way) for way in ("auto", "scan"))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), ours, scanned)


def test_what_is_not_finite_ends_at_a_reset() -> None:
    cell = lstmjax.mlstm(2, 4, dtype="float64")
    params, inputs = cell.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (9, 2), "float64")
    broken = jax.tree.map(lambda leaf: leaf + jnp.nan, cell.initial_state())
    fresh = np.arange(9) == 0

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params: Any, state: Any) -> Any:
        after, outputs = lstmjax.unroll(cell, params, inputs, state, resets=fresh)
        return outputs.sum(), (after, outputs)

    assert_close(loss(params, broken), loss(params, cell.initial_state()), 1e-13)


def test_it_is_chosen_where_it_can_be() -> None:
    cell = lstmjax.mlstm(2, 4)
    assert backends.choose("auto", cell).way == "chunkwise"
    assert backends.choose("auto", cell, needs=["states of all steps"]).way == "hoisted"
    assert backends.choose("native", cell).way == "hoisted"
    assert backends.choose("chunkwise", lstmjax.lstm(2, 4)).way == "scan"
    inputs = jax.random.normal(jax.random.key(1), (3, 2 * CHUNK, 2), "float32")
    params = cell.init(jax.random.key(0))
    state, outputs, states = lstmjax.unroll(cell, params, inputs, return_states=True)
    np.testing.assert_allclose(outputs, lstmjax.unroll(cell, params, inputs)[1], atol=1e-5)
    np.testing.assert_array_equal(states.cell[:, -1], state.cell)


@pytest.mark.usefixtures("optimized")
def test_the_memory_of_no_single_step_is_kept_for_the_gradient() -> None:
    """A scan keeps one of ``head_size * head_size`` for each step."""
    cell = lstmjax.mlstm(64, 64)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((4, 1024, 64), jnp.float32)

    def mib(backend: Any) -> float:
        def loss(params: Any, inputs: Any) -> Any:
            return lstmjax.unroll(cell, params, inputs, backend=backend)[1].sum()

        analysis: Any = jax.jit(jax.grad(loss)).lower(params, inputs).compile().memory_analysis()
        return analysis.temp_size_in_bytes / 2**20

    assert mib("scan") > 4 * 1024 * 64 * 64 * 4 / 2**20
    assert mib("chunkwise") < mib("scan") / 3
