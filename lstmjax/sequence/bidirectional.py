"""Bidirectional layers: one cell runs forward, one backward, over the valid part of each sequence."""

import dataclasses
import functools
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from lstmjax.cells.cell import Cell, check_cell
from lstmjax.sequence.layers import Layer
from lstmjax.sequence.unroll import Options, unroll
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
        inputs: Float[Array, "*sequence features"],
        state: Directions | None = None,
        lengths: Integer[Array, "*batch"] | None = None,
        resets: Bool[Array, "*sequence"] | None = None,
        reverse: bool = False,
        **options: Unpack[Options],
    ) -> tuple[State, Float[jax.Array, "*sequence output"]]:
        """Run both cells; arguments, results and errors are those of `lstmjax.unroll`.

        The outputs of the forward cell come first, then those of the backward cell, each at the position
        of its input. ``reverse`` swaps the directions of the two cells.
        """
        none = Directions(None, None)
        before = none if state is None else state
        initial = options.get("initial_state")
        initial = none if initial is None else initial
        for name, pair in (("params", params), ("state", before), ("initial_state", initial)):
            if not isinstance(pair, Directions):
                raise TypeError(
                    f"{name} of a bidirectional layer must be Directions(forward, backward), got "
                    f"{type(pair).__name__}."
                )
        way = functools.partial(unroll, lengths=lengths, resets=resets)
        (forward, forward_outputs), (backward, backward_outputs) = (
            way(cell, own, inputs, start, reverse=direction, **{**options, "initial_state": new})
            for cell, own, start, new, direction in zip(
                (self.forward, self.backward), params, before, initial, (reverse, not reverse), strict=True
            )
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
