"""The Elman cell and the gated recurrent unit; what all cells have in common is in test_cell.py."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax

pytestmark = pytest.mark.usefixtures("exact")


def test_shapes_of_parameters() -> None:
    shapes = jax.tree.map(jnp.shape, lstmjax.elman(2, 3).init(jax.random.key(0)))
    assert shapes == lstmjax.ElmanParams((2, 3), (3, 3), (3,))
    shapes = jax.tree.map(jnp.shape, lstmjax.gru(2, 3).init(jax.random.key(0)))
    assert shapes == lstmjax.GRUParams((2, 9), (3, 9), (9,), (3,))


@pytest.mark.parametrize("make", [lstmjax.elman, lstmjax.gru])
def test_biases_start_at_zero(make: object) -> None:
    params = make(2, 3).init(jax.random.key(0))._asdict()
    biases = [leaf for name, leaf in params.items() if "bias" in name]
    assert biases
    assert not any(leaf.any() for leaf in biases)


def test_an_elman_cell_by_hand() -> None:
    cell = lstmjax.elman(1, 1, dtype=jnp.float64)
    params = lstmjax.ElmanParams(np.array([[2.0]]), np.array([[-1.0]]), np.array([0.25]))
    state, output = cell.step(params, np.array([0.5]), np.array([0.1]))
    np.testing.assert_allclose(output, [math.tanh(2 * 0.1 - 0.5 + 0.25)], rtol=1e-15)
    np.testing.assert_array_equal(state, output)


@pytest.mark.parametrize(
    ("reset", "update", "expected"),
    [
        # Update gate shut: the candidate of bias 0.2, without what the shut reset gate keeps out.
        (-1e3, -1e3, math.tanh(0.2)),
        # Reset gate open: the candidate sees the state, and the bias inside the product.
        (1e3, -1e3, math.tanh(0.2 + 3.0 * 0.5 - 0.7)),
        # Half open.
        (0.0, -1e3, math.tanh(0.2 + (3.0 * 0.5 - 0.7) / 2)),
        # Update gate open: the state stays.
        (1e3, 1e3, 0.5),
        # Update gate half open: the mean of both.
        (-1e3, 0.0, (math.tanh(0.2) + 0.5) / 2),
    ],
)
def test_each_gate_of_a_gru_does_its_work(reset: float, update: float, expected: float) -> None:
    cell = lstmjax.gru(1, 1, dtype=jnp.float64)
    params = lstmjax.GRUParams(
        kernel=np.zeros((1, 3)),
        recurrent_kernel=np.array([[0.0, 0.0, 3.0]]),
        bias=np.array([reset, update, 0.2]),
        candidate_bias=np.array([-0.7]),
    )
    state, output = cell.step(params, np.array([0.5]), np.zeros(1))
    np.testing.assert_allclose(output, [expected], rtol=1e-13)
    np.testing.assert_array_equal(state, output)
