"""The cells as Flax NNX modules: thin, over the functional form, with one `nnx.Param` for each array."""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Bool, Float, Int

from lstmjax.bidirectional import Bidirectional
from lstmjax.cell import Cell, lstm
from lstmjax.types import Array, Params, State
from lstmjax.unroll import unroll


class Recurrent(nnx.Module):
    """A cell or a bidirectional layer over sequences, as a module that holds its parameters.

    Args:
      cell: any `lstmjax.Cell`, or a layer of `lstmjax.bidirectional`.
      rngs: the stream ``params`` starts the parameters.

    Example:
      >>> import lstmjax
      >>> module = Recurrent(lstmjax.lstm(3, 4), rngs=nnx.Rngs(0))
      >>> state, outputs = module(jax.numpy.ones((2, 5, 3)))
      >>> outputs.shape
      (2, 5, 4)
    """

    def __init__(self, cell: Cell | Bidirectional, *, rngs: nnx.Rngs) -> None:
        self.cell = nnx.static(cell)
        self.params = nnx.data(jax.tree.map(nnx.Param, cell.init(rngs.params())))

    @property
    def values(self) -> Params:
        """The parameters as the functional form takes them."""
        return jax.tree.map(
            lambda param: param[...], self.params, is_leaf=lambda leaf: isinstance(leaf, nnx.Param)
        )

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first step."""
        return self.cell.initial_state(batch_shape)

    def step(self, state: State, inputs: Float[Array, "... features"]) -> tuple[State, jax.Array]:
        """Advance by one time step, as `Cell.step`; a bidirectional layer cannot."""
        if isinstance(self.cell, Bidirectional):
            raise TypeError("a bidirectional layer needs the whole sequence and cannot be stepped.")
        return self.cell.step(self.values, state, inputs)

    def __call__(
        self,
        inputs: Float[Array, "*batch time features"],
        state: State | None = None,
        lengths: Int[Array, "*batch"] | None = None,
        resets: Bool[Array, "*batch time"] | None = None,
        reverse: bool = False,
    ) -> tuple[State, Float[jax.Array, "*batch time output"]]:
        """Run over sequences; arguments, results and errors are those of `lstmjax.unroll`."""
        if isinstance(self.cell, Bidirectional):
            return self.cell.apply(self.values, inputs, state, lengths, resets, reverse)
        return unroll(self.cell, self.values, inputs, state, lengths, resets, reverse)


class LSTM(Recurrent):
    """An LSTM over sequences; ``options`` are those of `lstmjax.lstm`.

    Example:
      >>> module = LSTM(3, 4, rngs=nnx.Rngs(0))
      >>> state, outputs = module(jax.numpy.ones((2, 5, 3)), lengths=jax.numpy.array([5, 1]))
      >>> state.hidden.shape, outputs.shape
      ((2, 4), (2, 5, 4))
    """

    def __init__(self, features: int, hidden: int, *, rngs: nnx.Rngs, **options: Any) -> None:
        super().__init__(lstm(features, hidden, **options), rngs=rngs)
