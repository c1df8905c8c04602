"""The cells as Flax linen modules: thin wrappers of the functional API, with one variable per array.

`Recurrent`, `LSTM` and `Bidirectional` run over sequences and keep the sequence contract; `LSTMCell` is a
cell for Flax's own ``nn.RNN``.

Variables are nested dicts: ``params["forward"]["kernel"]`` of a bidirectional layer,
``params["0"]["kernel"]`` of a stack. What ``nn.with_partitioning`` says of an initializer, such as
``kernel_init``, is metadata of the variables that it makes.
"""

import functools
import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from flax.traverse_util import unflatten_dict
from jaxtyping import Bool, Float, Integer

from lstmjax import initializers
from lstmjax.backends import Backend
from lstmjax.cells.cell import Cell
from lstmjax.cells.general_lstm import lstm
from lstmjax.convert.formats import state_of_carry
from lstmjax.sequence.bidirectional import bidirectional
from lstmjax.sequence.layers import Layer
from lstmjax.sequence.remat import Remat
from lstmjax.sequence.unroll import axes_of, unroll
from lstmjax.types import Array, Key, Params, State


def held(module: nn.Module, cell: Cell | Layer) -> Params:
    """The parameters of a cell or layer, stored in the module by the names of its functional form.

    All of them are initialized from one key of the stream ``params``.
    """
    paths, structure = _parameters(cell)
    first = next(iter(paths))[0]
    is_new = module.is_mutable_collection("params") and not module.has_variable("params", first)
    if module.is_initializing() or is_new:
        with initializers.boxes():
            leaves = jax.tree.leaves(cell.init(module.make_rng("params")), is_leaf=initializers.is_boxed)
        made = unflatten_dict(dict(zip(paths, leaves, strict=True)))
        variables = {name: module.param(name, lambda _, value=value: value) for name, value in made.items()}
    else:
        zeros = {name: functools.partial(_zeros, shapes) for name, shapes in unflatten_dict(paths).items()}
        variables = {name: module.param(name, make) for name, make in zeros.items()}
    found = [functools.reduce(operator.getitem, path, variables) for path in paths]
    return jax.tree.unflatten(structure, found)


def _zeros(shapes: Any, key: Key) -> Any:
    """Variables whose shapes Flax compares with those it has."""
    del key
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)


@functools.cache
def _parameters(cell: Cell | Layer) -> tuple[dict[tuple[str, ...], jax.ShapeDtypeStruct], Any]:
    """The path and the shape of each parameter, and the structure of them all."""
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    names = [tuple(jax.tree_util.keystr((key,), simple=True) for key in path) for path, _ in leaves]
    return {name or ("value",): leaf for name, (_, leaf) in zip(names, leaves, strict=True)}, structure


class _Sequence(nn.Module, kw_only=True):  # type: ignore[call-arg]
    """Base class of the modules over sequences; subclasses define the cell that they run.

    Attributes:
      reverse: whether to run from the last valid step to the first. Options of a call that ``nn.jit`` or
        ``nn.remat`` wraps are traced, so there this and the following must be attributes.
      backend: as for `lstmjax.unroll`.
      remat: as for `lstmjax.unroll`.
      deterministic: whether to draw no noise; by default, noise is drawn if there is a stream ``dropout``.
    """

    reverse: bool = False
    backend: Backend = "auto"
    remat: Remat = None
    deterministic: bool | None = None

    def _cell(self, features: int) -> Cell | Layer:
        raise NotImplementedError

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "*sequence features"],
        state: State | None = None,
        lengths: Integer[Array, "*batch"] | None = None,
        resets: Bool[Array, "*sequence"] | None = None,
        reverse: bool | None = None,
        *,
        key: Key | None = None,
        deterministic: bool | None = None,
        **options: Any,
    ) -> tuple[State, Float[jax.Array, "*sequence output"]]:
        """Run over sequences; arguments, ``options``, results and errors are those of `lstmjax.unroll`.

        Those given here override the attributes. The noise of the cell is drawn (`lstmjax.Cell.sample`) with
        ``key``, or else with the stream ``dropout`` if ``rngs`` has one, as in
        ``unroll(variables, inputs, rngs={"dropout": key})``. There is none without both, and with
        ``deterministic``; ``deterministic=False`` demands a key.
        """
        cell = self._cell(inputs.shape[-1])
        params = held(self, cell)
        options = {"backend": self.backend, "remat": self.remat, **options}
        for name, value in {"reverse": reverse, "deterministic": deterministic}.items():
            if isinstance(value, jax.core.Tracer):
                raise TypeError(
                    f"{name} is traced, as arguments of nn.jit and nn.remat are: make it an attribute of the "
                    f"module, {type(self).__name__}(..., {name}=True), or name it in static_argnums."
                )
        reverse = self.reverse if reverse is None else reverse
        deterministic = self.deterministic if deterministic is None else deterministic
        if not deterministic:
            if key is None and (deterministic is False or self.has_rng("dropout")):
                key = self.make_rng("dropout")
            if key is not None:
                params = cell.sample(key, params, axes_of(inputs, options.get("time_axis", -2))[1])
        return unroll(cell, params, inputs, state, lengths, resets, reverse, **options)


class Recurrent(_Sequence):
    """A cell or a layer over sequences.

    Attributes:
      cell: any `lstmjax.Cell`, or a layer of `lstmjax.bidirectional` or `lstmjax.layers`.

    Example:
      >>> import lstmjax
      >>> module = Recurrent(lstmjax.gru(3, 4))
      >>> variables = module.init(jax.random.key(0), jnp.ones((2, 5, 3)))
      >>> state, outputs = module.apply(variables, jnp.ones((2, 5, 3)), lengths=jnp.array([5, 1]))
      >>> outputs.shape
      (2, 5, 4)
    """

    cell: Cell | Layer

    def _cell(self, features: int) -> Cell | Layer:
        return self.cell


class LSTM(_Sequence):
    """An LSTM over sequences; its input size is that of the inputs of the first call.

    Attributes:
      features: size of the hidden state and of the outputs, as in Flax.
      options: those of `lstmjax.lstm`, as a mapping.

    Example:
      >>> module = LSTM(4, {"forget_bias": 2.0})
      >>> variables = module.init(jax.random.key(0), jnp.ones((2, 5, 3)))
      >>> sorted(variables["params"])
      ['bias', 'kernel', 'recurrent_kernel']
      >>> state, outputs = module.apply(variables, jnp.ones((2, 5, 3)), lengths=jnp.array([5, 1]))
      >>> state.hidden.shape, outputs.shape
      ((2, 4), (2, 5, 4))
    """

    features: int
    options: Mapping[str, Any] = FrozenDict()

    def __post_init__(self) -> None:
        self.options = FrozenDict(self.options)  # which can be hashed
        super().__post_init__()

    def _cell(self, features: int) -> Cell:
        return lstm(features, self.features, **self.options)


class Bidirectional(_Sequence):
    """Two cells over sequences, one in each direction: `lstmjax.bidirectional` as a module.

    Attributes:
      forward: the cell that runs forward.
      backward: the cell that runs backward.

    Example:
      >>> module = Bidirectional(lstm(3, 4), lstm(3, 4))
      >>> (state, outputs), _ = module.init_with_output(jax.random.key(0), jnp.ones((2, 5, 3)))
      >>> outputs.shape
      (2, 5, 8)
    """

    forward: Cell
    backward: Cell

    def _cell(self, features: int) -> Layer:
        return bidirectional(self.forward, self.backward)


class LSTMCell(nn.RNNCellBase):
    """A replacement for ``nn.LSTMCell``: an LSTM for ``nn.RNN``, with Flax's carry ``(c, h)``.

    ``nn.RNN`` treats padding differently (outputs are not zero there); `LSTM` keeps the sequence contract.

    Attributes:
      features: size of the hidden state and of the outputs, as in Flax.
      options: those of `lstmjax.lstm`, as a mapping.

    Example:
      >>> layer = nn.RNN(LSTMCell(4))
      >>> outputs, _ = layer.init_with_output(jax.random.key(0), jnp.ones((2, 5, 3)))
      >>> outputs.shape
      (2, 5, 4)
    """

    features: int
    options: Mapping[str, Any] = FrozenDict()

    def __post_init__(self) -> None:
        self.options = FrozenDict(self.options)  # which can be hashed
        super().__post_init__()

    @nn.compact
    def __call__(
        self, carry: tuple[Array, Array], inputs: Float[Array, "... features"]
    ) -> tuple[tuple[jax.Array, jax.Array], Float[jax.Array, "... hidden"]]:
        """Advance by one time step; errors are those of `lstmjax.Cell.step`.

        Also a ValueError with ``full_gate_recurrence``, whose state does not fit into the carry.
        """
        cell = self._cell(inputs.shape[-1])
        state, outputs = cell.step(held(self, cell), state_of_carry(cell, carry), inputs)
        return (state.cell, state.hidden), outputs

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        """Zeros ``(c, h)``, each ``[*batch, features]``, for inputs of shape ``[*batch, size]``."""
        state = self._cell(input_shape[-1]).initial_state(tuple(input_shape[:-1]))
        return state.cell, state.hidden

    @nn.nowrap
    def _cell(self, features: int) -> Any:
        return lstm(features, self.features, **self.options)

    @property
    def num_feature_axes(self) -> int:
        """Number of feature axes of the inputs: 1."""
        return 1
