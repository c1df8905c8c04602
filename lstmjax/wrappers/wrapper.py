"""Base classes of wrappers: each takes a cell and is itself a cell."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell, check_inputs, check_params
from lstmjax.types import Array, DTypeLike, Key, Params, State


@dataclasses.dataclass(frozen=True, repr=False)
class Wrapper(Cell):
    """A cell that contains another cell and delegates everything but the step to it."""

    cell: Cell

    @property
    def features(self) -> int:  # type: ignore[override]
        """Size of an input vector: that of the inner cell."""
        return self.cell.features

    @property
    def output_size(self) -> int:
        """Size of an output vector: that of the inner cell."""
        return self.cell.output_size

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of the inputs: that of the inner cell."""
        return self.cell.input_dtype

    def init(self, key: Key) -> Params:
        """Parameters of the inner cell."""
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """State of the inner cell."""
        return self.cell.initial_state(batch_shape)

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Params:
        """Parameters with the noise of the inner cell drawn."""
        return self.cell.sample(key, params, batch_shape)

    def plain(self, params: Params) -> Params:
        """Parameters of the inner cell without noise."""
        return self.cell.plain(params)


class Pointwise(Wrapper):
    """A wrapper that transforms the inputs and outputs of each step separately and has no state of its own.

    It can therefore be applied to a whole sequence at once, with the inner cell run by any backend
    (`lstmjax.backends`). Subclasses define `split`, `before` and `after`.
    """

    def split(self, params: Params, batch_shape: tuple[int, ...]) -> tuple[Params, Any]:
        """Parameters of the inner cell, and what `before` and `after` need."""
        return params, None

    def before(self, own: Any, inputs: jax.Array) -> jax.Array:
        """The inputs of the inner cell: ``[time, ..., features]`` for a sequence, or without time."""
        return inputs

    @abc.abstractmethod
    def after(self, own: Any, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """The outputs of the wrapper, from its inputs and the outputs of the inner cell."""

    def step(self, params: Params, state: State, inputs: Array) -> tuple[State, jax.Array]:
        """Advance the inner cell by one time step, with `before` and `after` around it."""
        check_inputs(self, inputs, axes="[..., features]")
        check_params(self, params)
        inner, own = self.split(params, inputs.shape[:-1])
        state, outputs = self.cell.step(inner, state, self.before(own, jnp.asarray(inputs)))
        return state, self.after(own, jnp.asarray(inputs), outputs)


class Entering(Wrapper):
    """A wrapper that transforms the state before each step of the inner cell.

    Subclasses define `enter`.
    """

    @abc.abstractmethod
    def enter(self, params: Params, state: State) -> tuple[Params, State]:
        """Parameters of the inner cell, and the state that its step starts from."""

    def step(self, params: Params, state: State, inputs: Array) -> tuple[State, jax.Array]:
        """Advance the inner cell by one time step from the transformed state."""
        check_inputs(self, inputs, axes="[..., features]")
        check_params(self, params)
        return self.cell.step(*self.enter(params, state), inputs)
