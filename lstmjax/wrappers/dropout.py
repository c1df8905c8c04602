"""Dropout in and around cells: the noise is drawn in advance and is part of the parameters.

.. code-block:: python

    cell = lstmjax.dropout(lstmjax.lstm(64, 128), inputs=0.3, hidden=0.2, outputs=0.3)
    params = cell.init(key)                                   # those of the inner cell
    noisy = cell.sample(step_key, params, batch_shape=(32,))  # one draw of all masks
    state, outputs = lstmjax.unroll(cell, noisy, inputs)      # training, with any backend
    state, output = cell.step(noisy, state, inputs[:, 0])     # the same masks, step by step
    state, outputs = lstmjax.unroll(cell, params, inputs)     # evaluation: no noise

The units dropped at a step depend only on the noise, the row and the number of steps since the start of the
row's sequence: not on the backend, the other rows, padding, or the number of calls a sequence is split into.
A reset starts a new sequence, so per-step masks start again from those of the first step.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell, check_cell, per_row
from lstmjax.cells.elman import Elman
from lstmjax.checks import resolve_rate
from lstmjax.types import Array, DTypeLike, Key, Params, State
from lstmjax.wrappers.wrapper import Entering, Pointwise


class Noisy(NamedTuple):
    """Parameters with noise, as `Cell.sample` draws it."""

    params: Params
    """Those of the inner cell."""
    noise: Any
    """Masks ``[..., size]`` or random keys ``[...]``, with the batch shape they were drawn for."""


class Masks(NamedTuple):
    """Factors for the inputs and outputs of a cell, 0 where they are dropped; None for no dropout."""

    inputs: Array | None
    outputs: Array | None


def without_noise(params: Params) -> Params:
    """Parameters of the inner cell, with or without noise given."""
    return params.params if isinstance(params, Noisy) else params


def _draw(key: Key, rate: float, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array | None:
    """Factors of inverted dropout: 0 with probability ``rate``, else ``1 / (1 - rate)``; None for rate 0."""
    if rate == 0:
        return None
    keep = jax.random.bernoulli(key, jnp.float32(1 - rate), shape)  # the same with float64 enabled
    return jnp.where(keep, 1 / (1 - rate), 0.0).astype(dtype)


def check_noise(drawn_for: tuple[int, ...], batch_shape: tuple[int, ...]) -> None:
    """Raise ValueError unless noise drawn for one batch shape can be used for another."""
    if drawn_for != batch_shape[len(batch_shape) - len(drawn_for) :]:
        raise ValueError(
            f"the noise was sampled for batch shape {drawn_for}, but the batch has shape {batch_shape}: draw "
            f"it with sample(key, params, batch_shape={batch_shape})."
        )


@dataclasses.dataclass(frozen=True, repr=False)
class Dropout(Pointwise):
    """A cell with dropout on its inputs and outputs; made by `dropout`."""

    inputs: float = 0.0
    outputs: float = 0.0

    def __post_init__(self) -> None:
        check_cell("dropout", self.cell)
        for field in ("inputs", "outputs"):
            resolve_rate("dropout", self, field)

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Noisy:
        """Parameters with masks ``[*batch_shape, size]``."""
        inner_key, inputs_key, outputs_key = jax.random.split(key, 3)
        shape = tuple(batch_shape)
        masks = Masks(
            _draw(inputs_key, self.inputs, (*shape, self.features), self.input_dtype),
            _draw(outputs_key, self.outputs, (*shape, self.output_size), self.input_dtype),
        )
        return Noisy(self.cell.sample(inner_key, params, shape), masks)

    def plain(self, params: Params) -> Params:
        """Parameters of the inner cell without noise."""
        return self.cell.plain(without_noise(params))

    def split(self, params: Params, batch_shape: tuple[int, ...]) -> tuple[Params, Masks]:
        """Parameters of the inner cell, and the masks."""
        if not isinstance(params, Noisy):
            return params, Masks(None, None)
        for mask in jax.tree.leaves(params.noise):
            check_noise(mask.shape[:-1], batch_shape)
        return params

    def before(self, own: Masks, inputs: jax.Array) -> jax.Array:
        """The inputs after dropout."""
        return inputs if own.inputs is None else inputs * per_row(own.inputs, inputs)

    def after(self, own: Masks, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """The outputs after dropout."""
        return outputs if own.outputs is None else outputs * per_row(own.outputs, outputs)


@dataclasses.dataclass(frozen=True, repr=False)
class HiddenDropout(Entering):
    """A cell with dropout on the hidden state that its gates read; made by `dropout`."""

    rate: float

    def __post_init__(self) -> None:
        check_cell("dropout", self.cell)
        resolve_rate("dropout", self, "rate", argument="hidden")
        state = jax.eval_shape(self.cell.initial_state)
        is_one_vector = getattr(_hidden(state), "ndim", 0) == 1
        if not is_one_vector or (not hasattr(state, "hidden") and type(self.cell) is not Elman):
            raise ValueError(
                f"dropout: hidden is for cells whose state has a vector `hidden` that only gates see, and "
                f"for elman; that of {self.cell} is {jax.tree.structure(state)}."
            )

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Noisy:
        """Parameters with a mask ``[*batch_shape, hidden]``."""
        inner_key, own_key = jax.random.split(key)
        hidden = _hidden(jax.eval_shape(self.cell.initial_state))
        mask = _draw(own_key, self.rate, (*batch_shape, hidden.shape[-1]), hidden.dtype)
        return Noisy(self.cell.sample(inner_key, params, batch_shape), mask)

    def plain(self, params: Params) -> Params:
        """Parameters of the inner cell without noise."""
        return self.cell.plain(without_noise(params))

    def enter(self, params: Params, state: State) -> tuple[Params, State]:
        """The state with dropout on its hidden part, for this step only."""
        if not isinstance(params, Noisy) or params.noise is None:
            return without_noise(params), state
        hidden = _hidden(state)
        check_noise(params.noise.shape[:-1], hidden.shape[:-1])
        dropped = hidden * per_row(params.noise, hidden)
        return params.params, state._replace(hidden=dropped) if hasattr(state, "hidden") else dropped


def _hidden(state: State) -> Any:
    return getattr(state, "hidden", state)


def dropout(cell: Cell, inputs: float = 0.0, hidden: float = 0.0, outputs: float = 0.0) -> Dropout:
    r"""A cell with dropout that drops the same units in all steps of a sequence.

    .. math:: y_t, s_t = m_y \odot \mathrm{cell}(m_x \odot x_t, s_{t-1}),
       \quad \text{its gates seeing } m_h \odot h_{t-1}

    Each mask is 0 with probability equal to its rate, else 1 / (1 - rate), and separate for each row of the
    batch. Without ``hidden`` it is the locked dropout of the AWD-LSTM, and the inner cell keeps its fast
    backend; `lstmjax.regularizers.weight_drop` is a recurrent dropout that keeps it too. With ``hidden`` it
    is the variational dropout of Gal and Ghahramani, with masks tied across the gates.

    Args:
      cell: any cell; with ``hidden``, one whose hidden state is read by the gates only: LSTMs, `elman`.
      inputs: fraction of the inputs that is dropped, from 0 to below 1.
      hidden: fraction of the hidden units that is dropped from the input of the gates.
      outputs: fraction of the outputs that is dropped.

    Returns:
      A `Cell` with the parameters and state of the inner cell. It drops nothing unless run with parameters
      from its `Cell.sample`.

    Raises:
      ValueError: a rate is not in ``[0, 1)``, or ``hidden`` is given for another kind of cell; at run time,
        the noise was drawn for another batch shape.

    Source: Gal and Ghahramani 2016 (arXiv:1512.05287); Merity, Keskar and Socher 2018 (arXiv:1708.02182).

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.dropout(lstmjax.lstm(3, 100), outputs=0.5)
      >>> noisy = cell.sample(jax.random.key(1), cell.init(jax.random.key(0)), batch_shape=(2,))
      >>> _, outputs = lstmjax.unroll(cell, noisy, jnp.ones((2, 5, 3)))
      >>> dropped = outputs == 0
      >>> bool((dropped == dropped[:, :1]).all()), bool((dropped[0] == dropped[1]).all())
      (True, False)
    """
    return Dropout(HiddenDropout(cell, hidden) if hidden else cell, inputs, outputs)
