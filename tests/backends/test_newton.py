"""Newton's method against the scan: all cells, all blocks, certificates, and networks made to mislead it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_as_scan, assert_close, positive_normalizer, random_like

import lstmjax
from lstmjax import backends
from lstmjax.backends.newton import ITERATIONS

TIME, BATCH = 40, 5

CELLS = {
    "lstm": functools.partial(lstmjax.lstm, 3, 4),
    "peepholes": functools.partial(lstmjax.lstm, 3, 4, peepholes=True),
    "normalized": functools.partial(lstmjax.lstm, 3, 4, layer_norm=True, projection=2),
    "gru": functools.partial(lstmjax.gru, 3, 4),
    "elman": functools.partial(lstmjax.elman, 3, 4),
    "slstm": functools.partial(lstmjax.slstm, 3, 4, heads=2),
}
exact = pytest.mark.usefixtures("exact")


def made(name: str, scale: float = 1.0, dtype: str = "float64") -> tuple[lstmjax.Cell, Any, Any]:
    """A cell, its parameters with recurrent ones scaled, and inputs."""
    cell = CELLS[name](dtype=dtype)
    params = cell.init(jax.random.key(0))
    if scale != 1:
        params = params._replace(recurrent_kernel=scale * params.recurrent_kernel)
    return cell, params, jax.random.normal(jax.random.key(1), (BATCH, TIME, 3), dtype)


@exact
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_values_and_gradients_are_those_of_the_scan(name: str, reverse: bool) -> None:
    cell, params, inputs = made(name)
    random = np.random.default_rng(0)
    state = random_like(jax.eval_shape(lambda: cell.initial_state((BATCH,))), random, 0.3)
    if name == "slstm":
        state = positive_normalizer(state)
    lengths, resets = np.array([TIME, 0, 17, 33, 1]), random.random((BATCH, TIME)) < 0.05
    weights = random_like(jax.eval_shape(lambda: (state, jnp.zeros((BATCH, TIME, cell.output_size)))), random)
    assert_as_scan("newton", cell, weights, params, inputs, state, lengths, resets, reverse)
    certificate = lstmjax.solve(cell, params, inputs, state, lengths, resets, reverse).certificate
    assert bool(certificate.converged), certificate


@exact
@pytest.mark.parametrize("name", ["lstm", "gru", "peepholes"])
def test_with_parts_of_the_jacobians_there_are_more_iterations_to_the_same_end(name: str) -> None:
    cell, params, inputs = made(name)
    solutions = {
        blocks: lstmjax.solve(cell, params, inputs, blocks=blocks) for blocks in ("full", "units", "diagonal")
    }
    numbers = [int(solution.certificate.iterations) for solution in solutions.values()]
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1] < ITERATIONS
    expected = lstmjax.unroll(cell, params, inputs, return_states=True, backend="scan")
    for solution in solutions.values():
        assert bool(solution.certificate.converged)
        assert_close(solution[:3], expected, 1e-10)


@exact
def test_the_states_of_another_run_are_a_good_beginning() -> None:
    cell, params, inputs = made("lstm")
    cold = lstmjax.solve(cell, params, inputs)
    changed = params._replace(bias=params.bias + 1e-4)
    again, near = (lstmjax.solve(cell, each, inputs, guess=cold.states) for each in (params, changed))
    assert int(again.certificate.iterations) == 1
    assert int(near.certificate.iterations) < int(lstmjax.solve(cell, changed, inputs).certificate.iterations)
    assert_close(near[:2], lstmjax.unroll(cell, changed, inputs, backend="scan"), 1e-10)


@exact
def test_the_exponent_is_that_of_the_product_of_all_jacobians() -> None:
    cell, params, inputs = made("elman")
    kernel = np.asarray(params.recurrent_kernel)
    certificate = lstmjax.solve(cell, params, inputs).certificate
    states = np.asarray(lstmjax.unroll(cell, params, inputs)[1])
    products = []
    for row in states:
        product = np.eye(4)
        for state in row:
            product = np.diag(1 - state**2) @ kernel.T @ product
        products.append(np.log(np.linalg.norm(product)) / TIME)
    np.testing.assert_allclose(certificate.exponent, max(products), rtol=1e-10)
    assert max(products) < 0


CHAOTIC = {
    "a chaotic GRU": ("gru", 9.0, 0.3),
    "a chaotic LSTM": ("lstm", 20.0, 0.3),
    "a network that saturates": ("elman", 9.0, 1.0),
    "an unstable point that is begun with": ("elman", 9.0, 0.0),
    "a deviation too small to be seen for long": ("elman", 9.0, 1e-7),
}


@pytest.mark.parametrize("blocks", ["full", "units", "diagonal"])
@pytest.mark.parametrize("case", CHAOTIC)
def test_where_neighbours_part_the_steps_are_taken_one_by_one(case: str, blocks: Any) -> None:
    name, scale, size = CHAOTIC[case]
    cell, params, inputs = made(name, scale, "float32")
    inputs = jnp.concatenate([size * inputs] * 4, axis=1)
    if size < 1:  # at the origin the state stays there, but for what is added in the first step
        inputs = inputs.at[:, 1:].set(0)

    def run(way: str) -> Any:
        def loss(params: Any) -> Any:
            found = lstmjax.unroll(cell, params, inputs[:, :8], backend=way)
            return (found[1] ** 2).sum(), found

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    solution = jax.jit(functools.partial(lstmjax.solve, cell, blocks=blocks))(params, inputs)
    assert not bool(solution.certificate.converged)
    assert "chaotic" not in case or float(solution.certificate.exponent) > 0
    # Rounding, too, is amplified: what can be asked for is that every state follows from the one before.
    before = jax.tree.map(
        lambda leaf: jnp.concatenate([jnp.zeros_like(leaf[:, :1]), leaf[:, :-1]], axis=1), solution.states
    )
    follows = cell.step(params, before, inputs)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-5), follows, (solution.states, solution.outputs)
    )
    (ours, found), gradient = run("newton")
    (theirs, right), expected_gradient = run("scan")
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-3), found, right)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-3)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected_gradient)) or 1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3 * scale), gradient, expected_gradient
    )


def test_what_is_not_finite_is_as_in_the_scan() -> None:
    cell, params, inputs = made("lstm", dtype="float32")
    inputs = inputs.at[1, 5].set(jnp.nan)
    solution = lstmjax.solve(cell, params, inputs)
    assert not bool(solution.certificate.converged)
    expected = lstmjax.unroll(cell, params, inputs, backend="scan")
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), solution[:2], expected)


@exact
def test_it_can_be_differentiated_twice_and_vectorized() -> None:
    cell, params, inputs = made("lstm")

    def loss(way: Any, params: Any) -> Any:
        return (lstmjax.unroll(cell, params, inputs[:2, :9], backend=way)[1] ** 2).sum()

    def product(way: Any, scale: Any) -> Any:
        return jax.jvp(
            jax.grad(functools.partial(loss, way)), (params,), (jax.tree.map(lambda x: scale * x, params),)
        )

    ours, expected = (
        jax.jit(jax.vmap(functools.partial(product, way)))(jnp.arange(1.0, 3)) for way in ("newton", "scan")
    )
    assert_close(ours, expected, 1e-9)


@exact
@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (1, 3), (2, 2, 7, 3)])
def test_any_number_of_rows_and_steps(shape: tuple[int, ...]) -> None:
    cell, params, _ = made("lstm")
    inputs = np.random.default_rng(0).standard_normal(shape)
    ours, expected = (lstmjax.unroll(cell, params, inputs, backend=way) for way in ("newton", "scan"))
    assert_close(ours, expected, 1e-12)


def test_what_it_cannot_run_is_said() -> None:
    cell, params, inputs = made("lstm", dtype="float32")
    with pytest.raises(ValueError, match="guess"):
        lstmjax.solve(cell, params, inputs, guess=cell.initial_state((BATCH,)))
    narrow = lstmjax.lstm(3, 4, dtype="bfloat16")
    with pytest.raises(TypeError, match="of one floating point dtype"):
        lstmjax.solve(narrow, narrow.init(jax.random.key(0)), inputs.astype("bfloat16"))
    assert backends.choose("newton", narrow).way == "scan"
    projected = lstmjax.lstm(3, 4, projection=2)
    with pytest.raises(ValueError, match="blocks='units' is for states whose leaves have one shape"):
        lstmjax.solve(projected, projected.init(jax.random.key(0)), inputs, blocks="units")
