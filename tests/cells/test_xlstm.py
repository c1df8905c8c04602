"""The xLSTM where exponentials overflow, against its definition in decimal numbers of any size."""

import decimal
import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import jax
import numpy as np
import pytest
from cases import random_like

import lstmjax

pytestmark = pytest.mark.usefixtures("exact")

DIGITS = 80
STEP = Decimal("1e-25")


def _decimal(array: Any) -> np.ndarray:
    return np.vectorize(lambda number: Decimal(float(number)), otypes=[object])(array)


def _each(function: Callable[[Decimal], Decimal]) -> Callable[[Any], Any]:
    return np.vectorize(function, otypes=[object])


exp = _each(Decimal.exp)
sigmoid = _each(lambda x: 1 / (1 + (-x).exp()))
tanh = _each(lambda x: 1 - 2 / ((2 * x).exp() + 1))
zeros = functools.partial(np.full, fill_value=Decimal(0))


def _slstm(params: Any, inputs: Any, forget: Any) -> Any:
    size = params.recurrent_kernel.shape[1]
    c, n, h = zeros(size), zeros(size), zeros(size)
    for x in inputs:
        i, f, z, o = np.split(x @ params.kernel + h @ params.recurrent_kernel[0] + params.bias, 4)
        i, f = exp(i), forget(f)
        c, n = f * c + i * tanh(z), f * n + i
        h = sigmoid(o) * c / n
        yield h


def _mlstm(params: Any, inputs: Any, forget: Any) -> Any:
    size = len(params.bias) // 4
    memory, n = zeros((size, size)), zeros(size)
    for x in inputs:
        q, k, v, o = np.split(x @ params.kernel, 4)
        b_q, b_k, b_v, b_o = np.split(params.bias, 4)
        q, k, v = q + b_q, k / Decimal(size).sqrt() + b_k, v + b_v
        i, f = x @ params.gate_kernel + params.gate_bias
        i, f = exp(i), forget(f)
        memory, n = f * memory + i * np.outer(v, k), f * n + i * k
        yield sigmoid(o + b_o) * (memory @ q) / max(abs(n @ q), Decimal(1))


@functools.cache
def _problem(make: Any, exponential: bool, size: float, start: int) -> Any:
    """Parameters, inputs with a reset at ``start``, weights; and by decimal numbers outputs and gradient."""
    random = np.random.default_rng(3)
    cell = make(2, 2, exponential_forget=exponential)
    params = random_like(jax.eval_shape(cell.init, jax.random.key(0)), random, 0.5)
    inputs = (size * random.standard_normal((5, 2))).astype(np.float32)
    weights = random.standard_normal((5, 2)).astype(np.float32)
    step = _slstm if make is lstmjax.slstm else _mlstm

    def outputs(params: Any) -> np.ndarray:
        forget = exp if exponential else sigmoid
        parts = (inputs[:start], inputs[start:])
        return np.stack([h for part in parts for h in step(params, _decimal(part), forget)])

    leaves, structure = jax.tree.flatten(params)
    with decimal.localcontext(prec=DIGITS, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN):
        exact, gradients = [_decimal(leaf) for leaf in leaves], []
        for number, leaf in enumerate(exact):
            gradients.append(np.zeros(leaf.shape))
            for index in np.ndindex(leaf.shape):
                moved = []
                for sign in (1, -1):
                    near = [array.copy() for array in exact]
                    near[number][index] += sign * STEP
                    moved.append((outputs(structure.unflatten(near)) * _decimal(weights)).sum())
                gradients[-1][index] = (moved[0] - moved[1]) / (2 * STEP)
        values = outputs(structure.unflatten(exact)).astype(float)
    return params, inputs, weights, values, structure.unflatten(gradients)


@pytest.mark.parametrize("size", [100, 1e4, 1])
@pytest.mark.parametrize("exponential", [True, False])
@pytest.mark.parametrize(
    ("make", "backend"), [(lstmjax.mlstm, "chunkwise"), (lstmjax.mlstm, "scan"), (lstmjax.slstm, "scan")]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_are_right_where_gates_overflow(
    make: Any, backend: Any, exponential: bool, size: float, dtype: str
) -> None:
    params, inputs, weights, values, gradients = _problem(make, exponential, size, 3)
    cell = make(2, 2, exponential_forget=exponential, dtype=dtype)
    params, inputs, weights = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, inputs, weights))
    resets = np.arange(5) == 3

    @jax.jit
    def run(params: Any) -> Any:
        outputs = lstmjax.unroll(cell, params, inputs, resets=resets, backend=backend)[1]
        return (outputs * weights).sum(), outputs

    have, outputs = jax.grad(run, has_aux=True)(params)
    for actual, expected in zip(
        [outputs, *jax.tree.leaves(have)], [values, *jax.tree.leaves(gradients)], strict=True
    ):
        tolerance = 10 * np.finfo(dtype).eps * (size + np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("make", [lstmjax.mlstm, lstmjax.slstm])
def test_an_empty_memory_has_the_gradient_of_a_nearly_empty_one(make: Any) -> None:
    """So a learned initial state may start from zeros."""
    cell = make(2, 2, dtype="float64")
    random = np.random.default_rng(0)
    params = random_like(jax.eval_shape(cell.init, jax.random.key(0)), random)
    inputs = random.standard_normal((3, 2))

    @jax.jit
    @jax.grad
    def slope(state: Any) -> Any:
        return lstmjax.unroll(cell, params, inputs, state)[1].sum()

    zeros = cell.initial_state()
    empty = slope(zeros)
    nearly = slope(jax.tree.map(lambda leaf: leaf + 1e-100, zeros)._replace(stabilizer=zeros.stabilizer))
    assert np.abs(empty.cell).min() > 1e-3
    np.testing.assert_allclose(empty.cell, nearly.cell, rtol=1e-12)
    np.testing.assert_allclose(empty.normalizer, nearly.normalizer, rtol=1e-12)
