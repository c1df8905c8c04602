"""Layers one above the other, against `stack` and against the same layers run by hand."""

from typing import Any

import jax
import numpy as np
import pytest
from cases import assert_close, assert_equal, random_like

import lstmjax

pytestmark = pytest.mark.usefixtures("exact")

LENGTHS = np.array([4, 0, 2], np.int32)
VALID = np.arange(4) < LENGTHS[:, None]
RESETS = np.random.default_rng(0).random((3, 4)) < 0.4


def _bidirectional(features: int) -> lstmjax.Bidirectional:
    return lstmjax.bidirectional(
        lstmjax.lstm(features, 3, dtype="float64"), lstmjax.gru(features, 2, dtype="float64")
    )


def _deep() -> lstmjax.Layers:
    return lstmjax.layers(_bidirectional(2), lstmjax.elman(5, 4, dtype="float64"), _bidirectional(4))


def _problem(layer: Any) -> tuple[Any, np.ndarray, Any]:
    random = np.random.default_rng(1)
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0)), random)
    state = random_like(jax.eval_shape(lambda: layer.initial_state((3,))), random)
    return params, np.where(VALID[..., None], random.standard_normal((3, 4, 2)), np.nan), state


@pytest.mark.parametrize("reverse", [False, True])
def test_layers_of_cells_equal_their_stack(reverse: bool) -> None:
    """In values and gradients; the stack is held to the whole sequence contract."""
    cells = lstmjax.lstm(2, 3, dtype="float64"), lstmjax.gru(3, 2, dtype="float64")
    layer, stack = lstmjax.layers(*cells), lstmjax.stack(*cells)
    params, inputs, state = _problem(layer)
    arguments = (LENGTHS, RESETS, reverse)
    result, pullback = jax.vjp(lambda *a: layer.apply(*a, *arguments), params, inputs, state)
    expected, pullback_of_stack = jax.vjp(
        lambda *a: lstmjax.unroll(stack, *a, *arguments), params, inputs, state
    )
    assert_close(result, expected, 1e-13)
    assert_close(pullback(expected), pullback_of_stack(expected), 1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_outputs_of_each_part_are_the_inputs_of_the_next(reverse: bool) -> None:
    layer = _deep()
    params, inputs, state = _problem(layer)
    lowest, middle, highest = layer.parts
    arguments = (LENGTHS, RESETS, reverse)
    first, outputs = lowest.apply(params[0], inputs, state[0], *arguments)
    second, outputs = lstmjax.unroll(middle, params[1], outputs, state[1], *arguments)
    third, outputs = highest.apply(params[2], outputs, state[2], *arguments)
    assert_equal(layer.apply(params, inputs, state, *arguments), ((first, second, third), outputs))


def test_a_row_equals_the_sequence_without_its_padding() -> None:
    layer = _deep()
    params, inputs, _ = _problem(layer)
    outputs = np.asarray(layer.apply(params, inputs, lengths=LENGTHS)[1])
    for row, length in enumerate(LENGTHS):
        _, alone = layer.apply(params, inputs[row, :length])
        assert_close(outputs[row, :length], alone, 1e-13)
    assert not outputs[~VALID].any()


def test_sizes_starts_and_equality() -> None:
    layer = _deep()
    assert (layer.features, layer.output_size) == (2, 5)
    assert layer == _deep()
    assert hash(layer) == hash(_deep())
    params = layer.init(jax.random.key(0))
    inputs = np.ones((1, 2, 2))
    assert not np.array_equal(params[0].forward.recurrent_kernel, params[2].forward.recurrent_kernel)
    assert_equal(layer.initial_state((2,)), tuple(part.initial_state((2,)) for part in layer.parts))
    apply = jax.jit(lambda layer, *arguments: layer.apply(*arguments))
    assert_close(apply(layer, params, inputs), layer.apply(params, inputs), 1e-13)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        lstmjax.layers()
    with pytest.raises(ValueError, match="part 0 puts out 5 features, but part 1 takes 3"):
        lstmjax.layers(_bidirectional(2), lstmjax.lstm(3, 3))
    layer, inputs = _deep(), np.ones((1, 2, 2))
    params, _, _ = _problem(layer)
    with pytest.raises(TypeError, match=r"params of layers must be a tuple.*3 parts"):
        layer.apply(params[:2], inputs)
    with pytest.raises(TypeError, match="state of layers"):
        layer.apply(params, inputs, layer.initial_state((1,))[:2])
