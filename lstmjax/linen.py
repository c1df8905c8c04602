"""The cells as Flax linen modules: thin wrappers of the functional API, with one parameter per array.

`Recurrent`, `LSTM` and `Bidirectional` run over sequences and keep the sequence contract; `LSTMCell` is a
cell for Flax's own ``nn.RNN``.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Bool, Float, Integer

from lstmjax.backends import Backend
from lstmjax.cells.cell import Cell
from lstmjax.cells.general_lstm import lstm
from lstmjax.convert.formats import state_of_carry
from lstmjax.sequence.bidirectional import bidirectional
from lstmjax.sequence.layers import Layer, apply
from lstmjax.sequence.remat import Remat
from lstmjax.types import Array, Key, Params, State


def held(module: nn.Module, cell: Cell | Layer) -> Params:
    """The parameters of a cell or layer, each stored in the module by name: ``kernel``, ``forward.kernel``...

    All of them are initialized from one key of the stream ``params``.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(jax.eval_shape(cell.init, jax.random.key(0)))
    fresh = [jnp.zeros(shape.shape, shape.dtype) for _, shape in paths]
    if module.is_initializing():
        fresh = jax.tree.leaves(cell.init(module.make_rng("params")))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    leaves = [module.param(name, lambda _, v=v: v) for name, v in zip(names, fresh, strict=True)]
    return jax.tree.unflatten(structure, leaves)


class _Sequence(nn.Module):
    """Base class of the modules over sequences; subclasses define the cell that they run."""

    def _cell(self, features: int) -> Cell | Layer:
        raise NotImplementedError

    @nn.compact
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
        cell = self._cell(inputs.shape[-1])
        arguments = (inputs, state, lengths, resets, reverse)
        return apply(cell, held(self, cell), *arguments, backend=backend, remat=remat)


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
