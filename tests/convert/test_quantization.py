"""Weights of 8 bits: the error that is promised, and that a quantized cell is a cell like any other."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstmjax
from lstmjax.convert import Int8, Quantized, quantize

KEY = jax.random.key(0)


def _inputs(cell: Any, time: int = 7) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((3, time, cell.features)).astype(np.float32)


CELLS = {
    "lstm": lstmjax.lstm(5, 8),
    "layer": lstmjax.layers(
        lstmjax.bidirectional(lstmjax.lstm(5, 8), lstmjax.gru(5, 8)), lstmjax.slstm(16, 4, heads=2)
    ),
    "stack": lstmjax.stack(
        lstmjax.lstm(5, 8, projection=4, bias=False),
        lstmjax.highway(lstmjax.dropout(lstmjax.lstm(4, 4), 0.5)),
    ),
    "conv_lstm": lstmjax.conv_lstm(3, 2, 1, 2, peepholes=True),
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_each_weight_is_off_by_at_most_half_of_its_columns_scale(cell: Any, tmp_path: Path) -> None:
    params = jax.tree.map(np.asarray, cell.init(KEY))
    small, weights = jax.tree.map(np.asarray, quantize(cell, params))
    assert jax.tree.structure(weights) == jax.tree.structure(jax.eval_shape(small.init, KEY))

    def check(path: Any, exact: Any, leaf: Any) -> Any:
        if exact.ndim < 2 or "peepholes" in jax.tree_util.keystr(path):
            np.testing.assert_array_equal(leaf, exact)
            return leaf
        assert isinstance(leaf, Int8)
        assert leaf.values.dtype == jnp.int8
        most = np.abs(exact).max(axis=-2, keepdims=True)
        rounded = np.float32(leaf.values) * leaf.scale
        assert (np.abs(exact - rounded) <= most / 254 * (1 + 1e-5)).all()
        return rounded

    rounded = jax.tree_util.tree_map_with_path(check, params, weights)
    inputs, lengths = _inputs(cell), np.array([7, 0, 3])
    exact, outputs = (
        lstmjax.unroll(one, of_one, inputs, lengths=lengths)
        for one, of_one in ((cell, rounded), (small, weights))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), exact, outputs)
    lstmjax.save(tmp_path / "small", small, weights)
    again, restored = lstmjax.load(tmp_path / "small")
    assert again == small
    jax.tree.map(np.testing.assert_array_equal, restored, weights)


def test_a_quarter_of_the_memory_and_the_backend_of_the_cell_in_it() -> None:
    cell = lstmjax.lstm(128, 256)
    params = cell.init(KEY)
    small, weights = quantize(cell, params)
    size = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (params, weights)]
    assert size[1] < 0.27 * size[0]
    ways = [lstmjax.explain(one, (2, 3, 128)).parts[0] for one in (cell, small)]
    assert ways[0] == ways[1]


def test_a_column_of_zeros_and_a_step_and_gradients_by_what_is_no_integer() -> None:
    cell = lstmjax.lstm(5, 8)
    params = cell.init(KEY)
    small, weights = quantize(cell, params._replace(kernel=params.kernel.at[:, 3].set(0)))
    assert not weights.kernel.values[:, 3].any()
    inputs = _inputs(small, 1)
    state, output = small.step(weights, small.initial_state((3,)), inputs[:, 0])
    np.testing.assert_allclose(output, lstmjax.unroll(small, weights, inputs)[1][:, 0], rtol=1e-5)
    slope = jax.jit(jax.grad(lambda state: small.step(weights, state, inputs[:, 0])[1].sum()))(state)
    assert np.isfinite(slope.cell).all()
    assert slope.cell.any()


def test_what_cannot_be_quantized(unchecked: None) -> None:
    cell = lstmjax.lstm(5, 8)
    params = cell.init(KEY)
    with pytest.raises(ValueError, match=r"quantize: params\.kernel is not finite"):
        quantize(cell, params._replace(kernel=params.kernel.at[0, 0].set(jnp.nan)))
    with pytest.raises(TypeError, match=r"quantize: Quantized\(.*is quantized already"):
        quantize(*quantize(cell, params))
    with pytest.raises(TypeError, match="params must have the structure"):
        quantize(cell, (params,))
    with pytest.raises(TypeError, match="quantize: the first argument must be a cell"):
        quantize(params, cell)
    assert repr(Quantized(cell)) == "Quantized(cell=LSTM(features=5, hidden=8))"
