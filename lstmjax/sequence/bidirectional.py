"""Bidirectional layers: one cell runs forward, one backward, over the valid part of each sequence."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from lstmjax.backends import Backend
from lstmjax.cells.cell import Cell, check_cell
from lstmjax.sequence.layers import Layer
from lstmjax.sequence.remat import Remat
from lstmjax.sequence.unroll import unroll
from lstmjax.types import Array, DTypeLike, Key, Params, State


class Directions(NamedTuple):
    """Parameters, or states, of both directions of a bidirectional layer."""

    forward: Params
    backward: Params


@dataclasses.dataclass(frozen=True)
class Bidirectional(Layer):
    """Two cells over the same inputs, one in each direction; made by `bidirectional`."""

    forward: Cell
    backward: Cell

    def __post_init__(self) -> None:
        for direction in ("forward", "backward"):
            check_cell("bidirectional", getattr(self, direction), direction)
        if self.forward.features != self.backward.features:
            raise ValueError(
                f"bidirectional: both cells see the same inputs, but the forward one takes "
                f"{self.forward.features} features and the backward one {self.backward.features}."
            )

    @property
    def features(self) -> int:
        """Size of an input vector."""
        return self.forward.features

    @property
    def output_size(self) -> int:
        """Size of an output vector: the sum of both cells'."""
        return self.forward.output_size + self.backward.output_size

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of the inputs: that of the forward cell."""
        return self.forward.input_dtype

    def init(self, key: Key) -> Directions:
        """Fresh parameters of both cells."""
        forward_key, backward_key = jax.random.split(key)
        return Directions(self.forward.init(forward_key), self.backward.init(backward_key))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Directions:
        """Initial states of both cells."""
        return Directions(self.forward.initial_state(batch_shape), self.backward.initial_state(batch_shape))

    def sample(self, key: Key, params: Directions, batch_shape: tuple[int, ...] = ()) -> Directions:
        """Parameters with the noise of both cells drawn, see `Cell.sample`."""
        forward_key, backward_key = jax.random.split(key)
        return Directions(
            self.forward.sample(forward_key, params.forward, batch_shape),
            self.backward.sample(backward_key, params.backward, batch_shape),
        )

    def apply(
        self,
        params: Directions,
        inputs: Float[Array, "*batch time features"],
        state: Directions | None = None,
        lengths: Integer[Array, "*batch"] | None = None,
        resets: Bool[Array, "*batch time"] | None = None,
        reverse: bool = False,
        *,
        backend: Backend = "auto",
        remat: Remat = None,
    ) -> tuple[State, Float[jax.Array, "*batch time output"]]:
        """Run both cells; arguments, results and errors are those of `lstmjax.unroll`.

        The outputs of the forward cell come first, then those of the backward cell, each at the position
        of its input. ``reverse`` swaps the directions of the two cells.
        """
        if not isinstance(params, Directions) or not isinstance(state, Directions | None):
            raise TypeError(
                "params and state of a bidirectional layer must be Directions(forward, backward), "
                f"got {type(params).__name__} and {type(state).__name__}."
            )
        before = state if state is not None else Directions(None, None)
        way = functools.partial(unroll, lengths=lengths, resets=resets, backend=backend, remat=remat)
        forward, forward_outputs = way(self.forward, params.forward, inputs, before.forward, reverse=reverse)
        backward, backward_outputs = way(
            self.backward, params.backward, inputs, before.backward, reverse=not reverse
        )
        outputs = jnp.concatenate([forward_outputs, backward_outputs], axis=-1)
        return Directions(forward, backward), outputs


def bidirectional(forward: Cell, backward: Cell) -> Bidirectional:
    r"""A bidirectional layer: :math:`y_t = [\overrightarrow{h}_t; \overleftarrow{h}_t]`.

    It is a layer, not a cell, since it cannot be stepped: it has ``init``, ``initial_state`` and ``apply``.

    Raises:
      ValueError: the cells take inputs of different sizes.

    Source: Schuster and Paliwal 1997 (IEEE Trans. Signal Processing 45(11)); with LSTMs: Graves and
    Schmidhuber 2005 (Neural Networks 18(5-6)).

    Example:
      >>> import lstmjax
      >>> layer = bidirectional(lstmjax.lstm(3, 4), lstmjax.lstm(3, 4))
      >>> params = layer.init(jax.random.key(0))
      >>> state, outputs = layer.apply(params, jnp.ones((2, 5, 3)), lengths=jnp.array([5, 2]))
      >>> outputs.shape
      (2, 5, 8)
    """
    return Bidirectional(forward, backward)
