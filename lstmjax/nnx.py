"""The cells as Flax NNX modules: thin wrappers of the functional API, with one `nnx.Param` per array.

`Recurrent`, `LSTM` and `Bidirectional` run over sequences and keep the sequence contract; `LSTMCell` is a
cell for Flax's own ``nnx.RNN``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Bool, Float, Integer

from lstmjax import initializers
from lstmjax.cells.cell import Cell
from lstmjax.cells.general_lstm import lstm
from lstmjax.convert.formats import state_of_carry
from lstmjax.sequence.bidirectional import bidirectional
from lstmjax.sequence.layers import Layer
from lstmjax.sequence.unroll import axes_of, unroll
from lstmjax.types import Array, Key, Params, State


class Holder(nnx.Module):
    """A cell, a layer or an attention, and its parameters, initialized from the stream ``params``.

    The parameters are ``weights``: the tree of the functional API, with an `nnx.Param` for each array. What
    Flax's ``with_partitioning`` says of an initializer, such as ``kernel_init``, is metadata of those that it
    makes.
    """

    def __init__(self, cell: Any, *, rngs: nnx.Rngs) -> None:
        self.cell = nnx.static(cell)
        with initializers.boxes():
            made = cell.init(rngs.params())
        self.weights = nnx.data(jax.tree.map(_param, made, is_leaf=initializers.is_boxed))

    @property
    def values(self) -> Params:
        """The parameters as the functional API takes them."""
        return jax.tree.map(
            lambda param: param[...], self.weights, is_leaf=lambda leaf: isinstance(leaf, nnx.Param)
        )


def _param(value: Any) -> nnx.Param[Any]:
    """A parameter, with the metadata of the initializer that made it."""
    if hasattr(value, "names"):  # of linen's with_partitioning
        return nnx.Param(value.value, out_sharding=value.names, mesh=value.mesh)
    return nnx.Param(value)


class Recurrent(Holder):
    """A cell or a layer over sequences, as a module that holds its parameters.

    Args:
      cell: any `lstmjax.Cell`, or a layer of `lstmjax.bidirectional` or `lstmjax.layers`.
      rngs: the stream ``params`` initializes the parameters.

    Example:
      >>> import lstmjax
      >>> module = Recurrent(lstmjax.lstm(3, 4), rngs=nnx.Rngs(0))
      >>> state, outputs = module(jax.numpy.ones((2, 5, 3)))
      >>> outputs.shape
      (2, 5, 4)
    """

    def __init__(self, cell: Cell | Layer, *, rngs: nnx.Rngs) -> None:
        super().__init__(cell, rngs=rngs)
        self.deterministic = False

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first step."""
        return self.cell.initial_state(batch_shape)

    def step(self, state: State, inputs: Float[Array, "... features"]) -> tuple[State, jax.Array]:
        """Advance by one time step, as `Cell.step`; a layer cannot be stepped and raises a TypeError."""
        if isinstance(self.cell, Layer):
            raise TypeError("a layer needs the whole sequence and cannot be stepped.")
        return self.cell.step(self.values, state, inputs)

    def __call__(
        self,
        inputs: Float[Array, "*sequence features"],
        state: State | None = None,
        lengths: Integer[Array, "*batch"] | None = None,
        resets: Bool[Array, "*sequence"] | None = None,
        reverse: bool = False,
        *,
        key: Key | None = None,
        rngs: nnx.Rngs | None = None,
        deterministic: bool | None = None,
        **options: Any,
    ) -> tuple[State, Float[jax.Array, "*sequence output"]]:
        """Run over sequences; arguments, ``options``, results and errors are those of `lstmjax.unroll`.

        In training, the noise of the cell is drawn (`Cell.sample`) with ``key``, or else with the stream
        ``dropout`` of ``rngs``. There is none without both, with ``deterministic``, and after ``eval()`` of
        the model.
        """
        values = self.values
        if deterministic if deterministic is not None else self.deterministic:
            key = rngs = None
        if key is None and rngs is not None:
            key = rngs.dropout()
        if key is not None:
            values = self.cell.sample(key, values, axes_of(inputs, options.get("time_axis", -2))[1])
        return unroll(self.cell, values, inputs, state, lengths, resets, reverse, **options)


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


class Bidirectional(Recurrent):
    """Two cells over sequences, one in each direction: `lstmjax.bidirectional` as a module.

    Raises:
      ValueError: the cells take inputs of different sizes.

    Example:
      >>> module = Bidirectional(lstm(3, 4), lstm(3, 4), rngs=nnx.Rngs(0))
      >>> state, outputs = module(jax.numpy.ones((2, 5, 3)), lengths=jax.numpy.array([5, 1]))
      >>> outputs.shape
      (2, 5, 8)
    """

    def __init__(self, forward: Cell, backward: Cell, *, rngs: nnx.Rngs) -> None:
        super().__init__(bidirectional(forward, backward), rngs=rngs)


class LSTMCell(Holder, nnx.RNNCellBase):
    """A replacement for ``nnx.LSTMCell``: an LSTM for ``nnx.RNN``, with Flax's carry ``(c, h)``.

    ``nnx.RNN`` treats padding differently (outputs are not zero there); `LSTM` keeps the sequence contract.

    Args:
      features: size of an input vector, Flax's ``in_features``.
      hidden: size of the hidden state, Flax's ``hidden_features``.
      rngs: the stream ``params`` initializes the parameters.
      options: those of `lstmjax.lstm`.

    Raises:
      ValueError: a size is not a positive integer.
      TypeError: a dtype is not floating point, or an option is unknown.

    Example:
      >>> layer = nnx.RNN(LSTMCell(3, 4, rngs=nnx.Rngs(0)))
      >>> layer(jax.numpy.ones((2, 5, 3))).shape
      (2, 5, 4)
    """

    def __init__(self, features: int, hidden: int, *, rngs: nnx.Rngs, **options: Any) -> None:
        super().__init__(lstm(features, hidden, **options), rngs=rngs)

    def __call__(
        self, carry: tuple[Array, Array], inputs: Float[Array, "... features"]
    ) -> tuple[tuple[jax.Array, jax.Array], Float[jax.Array, "... hidden"]]:
        """Advance by one time step; errors are those of `lstmjax.Cell.step`.

        Also a ValueError with ``full_gate_recurrence``, whose state does not fit into the carry.
        """
        state, outputs = self.cell.step(self.values, state_of_carry(self.cell, carry), inputs)
        return (state.cell, state.hidden), outputs

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> tuple[jax.Array, jax.Array]:
        """Zeros ``(c, h)``, each ``[*batch, hidden]``, for inputs ``[*batch, features]``.

        With ``carry_init``, the results of ``carry_init(key, shape, dtype)`` for two keys of ``rngs``, an
        ``nnx.Rngs`` with a stream ``carry``, or that stream.
        """
        state = self.cell.initial_state(tuple(input_shape[:-1]))
        if carry_init is None:
            return state.cell, state.hidden
        stream = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        memory, hidden = (carry_init(stream(), leaf.shape, leaf.dtype) for leaf in (state.cell, state.hidden))
        return memory, hidden

    @property
    def num_feature_axes(self) -> int:
        """Number of feature axes of the inputs: 1."""
        return 1


class Functional(NamedTuple):
    """An NNX model as pure functions; made by `functional`."""

    init: Callable[[Key], Params]
    """Maps a random key to fresh parameters, nested dicts of arrays."""
    bind: Callable[..., Any]
    """Maps parameters, and the state if there is any, to the model, a view of them to call and discard."""
    init_state: Callable[[Key], State]
    """Maps a random key to the fresh state of the model that is no parameter, such as the averages of
    ``nnx.BatchNorm`` and the streams of ``nnx.Dropout``: nested dicts, empty for most models."""
    state: Callable[[Any], State]
    """Maps a model that was called to its state, for the next `bind`."""


def functional(make: Callable[..., nnx.Module]) -> Functional:
    """Split a model once into its graph, its parameters and its other state, the latter as plain dicts.

    Layers that need randomness when called (`nnx.Dropout`) are best made without ``rngs``, and receive them
    in the call: a model with parameters only needs no state.

    Args:
      make: builds the model when called with ``rngs=``, as NNX modules take it.

    Raises:
      ValueError: in ``bind``, the model has other state, and none is given.

    Example:
      >>> model = functional(lambda rngs: nnx.Linear(2, 3, rngs=rngs))
      >>> params = model.init(jax.random.key(0))
      >>> sorted(params), model.bind(params)(jax.numpy.ones(2)).shape
      (['bias', 'kernel'], (3,))

      A model with other state goes on with that of the call before:

      >>> model = functional(lambda rngs: nnx.BatchNorm(2, rngs=rngs))
      >>> params, state = model.init(jax.random.key(0)), model.init_state(jax.random.key(0))
      >>> module = model.bind(params, state)
      >>> outputs = module(jax.numpy.ones((8, 2)))
      >>> {name: average.tolist() for name, average in model.state(module).items()}
      {'mean': [0.009999999776482582, 0.009999999776482582], 'var': [0.9900000095367432, 0.9900000095367432]}
    """

    def made(key: Key) -> nnx.Module:
        return make(rngs=nnx.Rngs(jax.random.fold_in(key, 1), params=key))

    graph, *abstract = nnx.split(nnx.eval_shape(lambda: made(jax.random.key(0))), nnx.Param, ...)

    def init(key: Key) -> Params:
        return nnx.to_pure_dict(nnx.state(made(key), nnx.Param))

    def init_state(key: Key) -> State:
        return state(made(key))

    def state(module: Any) -> State:
        return nnx.to_pure_dict(nnx.split(module, nnx.Param, ...)[2])

    def bind(params: Params, state: State | None = None) -> Any:
        if state is None and jax.tree.leaves(abstract[1]):
            raise ValueError(
                "functional: the model has state that is no nnx.Param, "
                f"{nnx.to_pure_dict(abstract[1])}: bind(params, state), with that of init_state."
            )
        parts = [jax.tree.map(lambda leaf: leaf, part) for part in abstract]
        for part, values in zip(parts, (params, state or {}), strict=True):
            nnx.replace_by_pure_dict(part, values)
        return nnx.merge(graph, *parts)

    return Functional(init, bind, init_state, state)
