"""What the tests of Flax, Haiku and Equinox ask of recurrent layers, asked here of ours.

Flax: ``tests/linen/linen_recurrent_test.py``, ``tests/nnx/nn/recurrent_test.py``; its layers run beside ours.
Haiku: ``haiku/_src/recurrent_test.py``. Equinox: ``tests/test_nn.py``.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lstmjax

INPUTS = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
LENGTHS = np.array([4, 1, 3])
VALID = np.arange(4) < LENGTHS[:, None]

FLAX: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lengths": ({}, {"seq_lengths": LENGTHS}),
    "reverse, in order, lengths": ({"reverse": True, "keep_order": True}, {"seq_lengths": LENGTHS}),
    "basic forward": ({}, {}),
    "unroll": ({"unroll": 2}, {}),
    "time major": ({"time_major": True}, {}),
    "time major, reverse, lengths": ({"time_major": True, "reverse": True}, {"seq_lengths": LENGTHS}),
    "reverse": ({"reverse": True}, {}),
    "an initial carry": ({}, {"initial_carry": (INPUTS[:, 0, :4], INPUTS[:, 1, :4])}),
}
"""Options of `flax.linen.RNN` and `flax.nnx.RNN`, and arguments of the call."""


def _flipped(values: Any, lengths: np.ndarray | None) -> np.ndarray:
    """The valid part of each row in the opposite order, as Flax's layers return it without `keep_order`."""
    values, flipped = np.asarray(values), np.array(values)
    for row, length in enumerate(np.full(3, 4) if lengths is None else lengths):
        flipped[row, :length] = values[row, :length][::-1]
    return flipped


@pytest.mark.parametrize("library", ["linen", "nnx"])
@pytest.mark.parametrize(("options", "arguments"), FLAX.values(), ids=FLAX)
def test_flaxs_layer_and_ours_agree(options: Any, arguments: Any, library: str) -> None:
    swap = (lambda x: x.swapaxes(0, 1)) if options.get("time_major") else (lambda x: x)
    if library == "linen":
        layer = linen.RNN(linen.LSTMCell(4), **options)
        variables = layer.init(jax.random.key(0), swap(INPUTS))
        cell, params = lstmjax.convert.from_linen(variables["params"]["cell"])
        carry, theirs = layer.apply(variables, swap(INPUTS), return_carry=True, **arguments)
    else:
        module = nnx.LSTMCell(5, 4, rngs=nnx.Rngs(0))
        cell, params = lstmjax.convert.from_nnx(module)
        carry, theirs = nnx.RNN(module, **options)(swap(INPUTS), return_carry=True, **arguments)
    lengths, reverse = arguments.get("seq_lengths"), options.get("reverse", False)
    state = arguments.get("initial_carry")
    state = None if state is None else lstmjax.LSTMState(state[1], state[0])
    after, ours = lstmjax.unroll(cell, params, INPUTS, state, lengths, reverse=reverse)
    theirs = swap(theirs)
    if reverse and not options.get("keep_order"):
        theirs = _flipped(theirs, lengths)
    if lengths is not None:  # beyond the lengths, theirs are not 0
        theirs = np.where(VALID[..., None], theirs, 0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for mine, other in zip(after, reversed(carry), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_sequences_flip_as_flaxs_do() -> None:
    """A cell that puts out its last input, run in reverse, meets the steps of ``flip_sequences``."""
    inputs = np.arange(10, dtype=np.float32).reshape(2, 5, 1)
    cell = Counter("input")
    state, outputs = lstmjax.unroll(cell, (), inputs, lengths=np.array([4, 2]), reverse=True)
    np.testing.assert_array_equal(state[:, 0], inputs[:, 0, 0])
    np.testing.assert_array_equal(outputs[..., 0], [[0, 1, 2, 3, 0], [5, 6, 0, 0, 0]])


@dataclasses.dataclass(frozen=True, repr=False)
class Counter(lstmjax.Cell):
    """Haiku's cell that adds 1 in each step; or one whose state is the input."""

    adds: str = "one"
    features: int = 1
    output_size: int = 1
    input_dtype: Any = "float32"

    def init(self, key: Any) -> Any:
        return ()

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.zeros((*batch_shape, 1))

    def step(self, params: Any, state: Any, inputs: Any) -> Any:
        state = state + 1 if self.adds == "one" else jnp.asarray(inputs)
        return state, state


@pytest.mark.parametrize("batch", [(), (3,)], ids=["unbatched", "batched"])
def test_haikus_counter_begins_again_at_a_reset(batch: tuple[int, ...]) -> None:
    resets = np.broadcast_to(np.arange(5) == 2, (*batch, 5))
    inputs = np.zeros((*batch, 5, 1), np.float32)
    outputs = lstmjax.unroll(Counter(), (), inputs, resets=resets)[1]
    np.testing.assert_array_equal(outputs[..., 0], np.broadcast_to([1, 2, 1, 2, 3], (*batch, 5)))
    # Haiku resets before the step at the mark, in either direction; here a mark is a boundary between steps.
    outputs = lstmjax.unroll(Counter(), (), inputs, resets=np.roll(resets, 1, axis=-1), reverse=True)[1]
    np.testing.assert_array_equal(outputs[..., 0], np.broadcast_to([3, 2, 1, 2, 1], (*batch, 5)))


def test_haikus_reset_of_one_row_of_a_batch() -> None:
    cell = lstmjax.lstm(5, 4)
    params, inputs = cell.init(jax.random.key(0)), np.stack([INPUTS[:, 0]] * 2, axis=1)  # the same step twice
    resets = np.array([[False, True], [False, False], [False, False]])
    plain, reset = (lstmjax.unroll(cell, params, inputs, resets=marks)[1] for marks in (None, resets))
    np.testing.assert_allclose(reset[:, 0], plain[:, 0], rtol=1e-6)
    np.testing.assert_allclose(reset[1:, 1], plain[1:, 1], rtol=1e-6)
    np.testing.assert_allclose(reset[0, 1], plain[0, 0], rtol=1e-6)
    assert not np.allclose(reset[0, 1], plain[0, 1])


@pytest.mark.parametrize("make", [lstmjax.lstm, lstmjax.gru, lstmjax.elman])
def test_equinoxs_way_is_a_vmap_of_a_loop_over_single_vectors(make: Any) -> None:
    cell = make(5, 4)
    params = cell.init(jax.random.key(0))

    def sequence(inputs: jax.Array) -> Any:
        state = cell.initial_state()
        for x in inputs:
            state, output = cell.step(params, state, x)
        return output

    expected = jax.jit(jax.vmap(sequence))(INPUTS)
    np.testing.assert_allclose(lstmjax.unroll(cell, params, INPUTS)[1][:, -1], expected, rtol=1e-5, atol=1e-6)
