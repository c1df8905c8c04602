"""The cells as Flax NNX modules: thin, over the functional form, with one `nnx.Param` for each array."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Bool, Float, Integer

from lstmjax.backends import Backend
from lstmjax.bidirectional import Bidirectional
from lstmjax.cell import Cell
from lstmjax.remat import Remat
from lstmjax.types import Array, Key, Params, State
from lstmjax.unroll import unroll
from lstmjax.variants import lstm


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
        lengths: Integer[Array, "*batch"] | None = None,
        resets: Bool[Array, "*batch time"] | None = None,
        reverse: bool = False,
        *,
        backend: Backend = "auto",
        remat: Remat = None,
    ) -> tuple[State, Float[jax.Array, "*batch time output"]]:
        """Run over sequences; arguments, results and errors are those of `lstmjax.unroll`."""
        layer = isinstance(self.cell, Bidirectional)
        run = self.cell.apply if layer else functools.partial(unroll, self.cell)
        return run(self.values, inputs, state, lengths, resets, reverse, backend=backend, remat=remat)


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


class Functional(NamedTuple):
    """An NNX model as two pure functions; made by `functional`."""

    init: Callable[[Key], Params]
    """From a random key to fresh parameters, nested dicts of arrays."""
    bind: Callable[[Params], Any]
    """From parameters to the model, a view of them that is to be called and dropped."""


def functional(make: Callable[..., nnx.Module]) -> Functional:
    """Split a model once into its graph and its plain parameters.

    All state of the model must be `nnx.Param`; layers that need randomness when called (`nnx.Dropout`) are
    made without ``rngs`` and given them in the call.

    Args:
      make: builds the model, when called with ``rngs=``, as NNX modules take it.

    Raises:
      ValueError: the model has state that is no parameter.

    Example:
      >>> model = functional(lambda rngs: nnx.Linear(2, 3, rngs=rngs))
      >>> params = model.init(jax.random.key(0))
      >>> sorted(params), model.bind(params)(jax.numpy.ones(2)).shape
      (['bias', 'kernel'], (3,))
    """
    graph, abstract, rest = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))), nnx.Param, ...)
    if jax.tree.leaves(rest):
        raise ValueError(f"functional: the model has state that is no nnx.Param: {nnx.to_pure_dict(rest)}.")

    def init(key: Key) -> Params:
        return nnx.to_pure_dict(nnx.state(make(rngs=nnx.Rngs(params=key)), nnx.Param))

    def bind(params: Params) -> Any:
        state = jax.tree.map(lambda leaf: leaf, abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)

    return Functional(init, bind)
