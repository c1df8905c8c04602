"""Cells without biases: the parameter is None, and the values are those of a bias of zeros."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax.backends import cudnn
from lstmjax.cells.catalogue import CELLS

KEY = jax.random.key(0)


def _with_zeros(without: Any, shapes: Any) -> Any:
    """The parameters of a cell without biases, with zeros where the one with biases has some."""
    return jax.tree.map(
        lambda leaf, shape: leaf if leaf is not None or shape is None else jnp.zeros(shape.shape),
        without,
        shapes,
        is_leaf=lambda leaf: leaf is None,
    )


@pytest.mark.parametrize("name", CELLS)
def test_no_bias_is_a_bias_of_zeros(name: str, tmp_path: Path) -> None:
    sizes = (2, 2, 1, 1) if name == "ConvLSTM" else (2, 4)
    cell, other = CELLS[name].make(*sizes, bias=False), CELLS[name].make(*sizes)
    params = cell.init(KEY)
    assert params.bias is None
    assert getattr(params, "candidate_bias", None) is None
    assert "bias=False" in repr(cell)
    zeros = _with_zeros(params, jax.eval_shape(other.init, KEY))
    assert jax.tree.structure(zeros) == jax.tree.structure(other.init(KEY))
    inputs = np.random.default_rng(0).standard_normal((3, cell.features)).astype(np.float32)
    state = jax.tree.map(lambda leaf: leaf + 0.5, cell.initial_state((3,)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        cell.step(params, state, inputs),
        other.step(zeros, state, inputs),
    )
    lstmjax.save(tmp_path / "cell", cell, params)
    again, restored = lstmjax.load(tmp_path / "cell")
    assert again == cell
    jax.tree.map(np.testing.assert_array_equal, restored, params)
    with pytest.raises(TypeError, match="params must have the structure"):
        cell.step(zeros, state, inputs)


def test_an_lstm_without_biases_everywhere_else() -> None:
    cell = lstmjax.lstm(2, 3, bias=False)
    params, inputs = cell.init(KEY), jnp.ones((2, 4, 2))
    trace = lstmjax.diagnostics.trace(cell, params, inputs)
    _, outputs = lstmjax.unroll(cell, params, inputs)
    np.testing.assert_allclose(trace.hidden, outputs, rtol=1e-5)
    gradient = jax.grad(lambda params: lstmjax.unroll(cell, params, inputs)[1].sum())(params)
    assert gradient.bias is None
    np.testing.assert_array_equal(
        cudnn.pack(params), cudnn.pack(_with_zeros(params, lstmjax.lstm(2, 3).init(KEY)))
    )
    assert lstmjax.explain(cell, inputs.shape).parts[0][0] == cell
