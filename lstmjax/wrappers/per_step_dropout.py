"""Recurrent dropout and zoneout: noise that is redrawn at each step; see `lstmjax.wrappers.dropout`.

The masks of a step are a function of the row's random key, which is part of the parameters, and of the
number of the step, which is part of the state. So a step needs no key of its own, and the result does not
depend on the backend or on how a sequence is split.
"""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cells.cell import Cell, check_cell, check_step
from lstmjax.cells.general_lstm import GeneralLSTMState
from lstmjax.cells.gru import GRU
from lstmjax.cells.lstm import LSTM, LSTMState
from lstmjax.checks import resolve_rate
from lstmjax.sharding import vary_alike
from lstmjax.types import Array, Key, Params, State, at_least_float32
from lstmjax.wrappers.dropout import Noisy, check_noise, without_noise
from lstmjax.wrappers.wrapper import Wrapper


class Counted(NamedTuple):
    """The state of a cell whose masks are redrawn at each step."""

    inner: State
    """That of the inner cell."""
    steps: Array
    """``[..., 1]``: steps since the start of the sequence, in floating point (exact up to 2^24 steps), so
    that a state can be differentiated and averaged as a whole."""


class PerStep(Wrapper):
    """A wrapper whose masks are redrawn at each step, from the row's key and the number of the step."""

    @property
    def rates(self) -> tuple[float, ...]:
        """The rate of each mask."""
        raise NotImplementedError

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> Counted:
        """State of the inner cell, and a step count of 0."""
        steps = jnp.zeros((*batch_shape, 1), at_least_float32(self.input_dtype))
        return Counted(self.cell.initial_state(batch_shape), steps)

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Noisy:
        """Parameters with a random key for each row, ``[*batch_shape]``."""
        inner_key, own_key = jax.random.split(key)
        if not jnp.issubdtype(own_key.dtype, jax.dtypes.prng_key):
            own_key = jax.random.wrap_key_data(own_key)
        shape = tuple(batch_shape)
        keys = jax.random.split(own_key, shape) if shape else own_key
        return Noisy(self.cell.sample(inner_key, params, shape), keys)

    def plain(self, params: Params) -> Params:
        """Parameters of the inner cell without noise."""
        return self.cell.plain(without_noise(params))

    def step(self, params: Params, state: Counted, inputs: Array) -> tuple[Counted, jax.Array]:
        """Advance by one time step with the masks of this step."""
        check_step(self, params, state, inputs)
        batch_shape = inputs.shape[:-1]
        keys = None
        if isinstance(params, Noisy):
            check_noise(params.noise.shape, batch_shape)
            keys = vary_alike(jnp.broadcast_to(params.noise, batch_shape), like=state.steps)
        inner, outputs = self.advance(without_noise(params), state.inner, inputs, keys, state.steps)
        return Counted(inner, state.steps + 1), outputs

    @abc.abstractmethod
    def advance(
        self, params: Params, state: State, inputs: Array, keys: jax.Array | None, steps: Array
    ) -> tuple[State, jax.Array]:
        """One step of the inner cell, with masks from ``keys`` and ``steps``; no masks if keys is None."""


def mask_of_step(keys: jax.Array, steps: Array, number: int, rate: float, size: int) -> jax.Array:
    """Booleans ``[..., size]``, true with probability ``rate``: mask ``number`` of a step.

    Args:
      keys: random keys ``[...]``, one for each row.
      steps: ``[..., 1]``, the number of the step in each row.
      number: distinguishes the masks of one step.
      rate: from 0 to 1.
      size: of the mask.
    """

    def one(key: jax.Array, step: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.fold_in(key, step), number)
        return jax.random.bernoulli(key, jnp.float32(rate), (size,))  # the same with float64 enabled

    rows = jax.vmap(one)(keys.reshape(-1), jnp.asarray(steps).astype(jnp.int32).reshape(-1))
    return rows.reshape(*keys.shape, size)


@dataclasses.dataclass(frozen=True, repr=False)
class RecurrentDropout(PerStep):
    """An LSTM or GRU with dropout on its candidates; made by `recurrent_dropout`."""

    rate: float

    def __post_init__(self) -> None:
        check_cell("recurrent_dropout", self.cell)
        resolve_rate("recurrent_dropout", self, "rate")
        if type(self.cell) not in (LSTM, GRU):
            raise ValueError(f"recurrent_dropout: the cell must be an lstm or a gru, got {self.cell}.")

    def advance(
        self, params: Params, state: State, inputs: Array, keys: jax.Array | None, steps: Array
    ) -> tuple[State, jax.Array]:
        """One step with some of the candidates dropped."""
        if keys is None:
            return self.cell.step(params, state, inputs)
        dropped = mask_of_step(keys, steps, 0, self.rate, self.output_size)

        def drop(candidate: jax.Array) -> jax.Array:
            return jnp.where(dropped, 0.0, candidate / (1 - self.rate))

        if isinstance(self.cell, GRU):
            update = self.cell.gates_of(params, state, inputs)
            update = update._replace(candidate=drop(update.candidate))
            hidden = update.memory(jnp.asarray(state, self.cell.wide_dtype)).astype(self.cell.dtype)
            return hidden, hidden
        assert isinstance(self.cell, LSTM)
        gates = self.cell.gates_of(params, state, inputs)
        after = gates._replace(candidate=drop(gates.candidate)).update(state)
        return after, jnp.asarray(after.hidden)


def recurrent_dropout(cell: Cell, rate: float) -> RecurrentDropout:
    r"""An LSTM or GRU with dropout on its candidates, redrawn at each step; the memory itself is kept.

    .. math:: c_t = f_t \odot c_{t-1} + i_t \odot (m_t \odot g_t)

    for an LSTM and :math:`h_t = (1 - z_t) \odot (m_t \odot n_t) + z_t \odot h_{t-1}` for a GRU; the mask is 0
    with probability ``rate``, else 1 / (1 - rate).

    Args:
      cell: made by `lstm` or `gru`.
      rate: fraction of the candidates that is dropped, from 0 to below 1.

    Returns:
      A `Cell` with the parameters of the inner cell, whose state is `Counted`. It drops nothing unless run
      with parameters from its `Cell.sample`.

    Raises:
      ValueError: the rate is not in ``[0, 1)``, or the cell is of another kind; at run time, the noise was
        drawn for another batch shape.

    Source: Semeniuta, Severyn and Barth 2016 (arXiv:1603.05118).

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.recurrent_dropout(lstmjax.lstm(3, 4), 0.25)
      >>> noisy = cell.sample(jax.random.key(1), cell.init(jax.random.key(0)), batch_shape=(2,))
      >>> state, outputs = lstmjax.unroll(cell, noisy, jnp.ones((2, 5, 3)))
      >>> state.inner.cell.shape, float(state.steps[0, 0])
      ((2, 4), 5.0)
    """
    return RecurrentDropout(cell, rate)


@dataclasses.dataclass(frozen=True, repr=False)
class Zoneout(PerStep):
    """A cell with zoneout: some units keep their previous values; made by `zoneout`."""

    hidden: float = 0.0
    memory: float = 0.0

    def __post_init__(self) -> None:
        check_cell("zoneout", self.cell)
        for field in ("hidden", "memory"):
            resolve_rate("zoneout", self, field)
        state = jax.eval_shape(self.cell.initial_state)
        hidden = state.hidden if isinstance(state, LSTMState | GeneralLSTMState) else state
        if getattr(hidden, "shape", None) != (self.cell.output_size,):
            raise ValueError(
                "zoneout: the state of the cell must be that of an LSTM or one array, its hidden part "
                f"what the cell puts out; that of {self.cell} is {state}."
            )
        if self.memory and hidden is state:
            raise ValueError(f"zoneout: {self.cell} has no cell state for `memory`; its state is `hidden`.")

    def advance(
        self, params: Params, state: State, inputs: Array, keys: jax.Array | None, steps: Array
    ) -> tuple[State, jax.Array]:
        """One step after which some units keep their previous values; without noise, the expectation."""

        def mix(number: int, rate: float, old: Array, new: Array) -> Any:
            if rate == 0:
                return new
            if keys is None:
                return rate * old + (1 - rate) * new
            return jnp.where(mask_of_step(keys, steps, number, rate, new.shape[-1]), old, new)

        after, _ = self.cell.step(params, state, inputs)
        if not isinstance(state, LSTMState | GeneralLSTMState):
            hidden = mix(0, self.hidden, state, after)
            return hidden, hidden
        hidden = mix(0, self.hidden, state.hidden, after.hidden)
        return after._replace(hidden=hidden, cell=mix(1, self.memory, state.cell, after.cell)), hidden


def zoneout(cell: Cell, hidden: float = 0.0, memory: float = 0.0) -> Zoneout:
    r"""A cell with zoneout: at each step, a random subset of units keeps its previous values.

    .. math::
        h_t &= d^h_t \odot h_{t-1} + (1 - d^h_t) \odot \tilde h_t \\
        c_t &= d^c_t \odot c_{t-1} + (1 - d^c_t) \odot \tilde c_t

    where the inner cell computes :math:`\tilde h_t` and :math:`\tilde c_t`, and the masks are 1 with
    probability equal to their rates, else 0. Without noise, the masks are replaced by the rates, their
    expectation. Outputs are :math:`h_t`.

    Args:
      cell: made by `lstm` with any options, or a cell whose state is its output, such as `gru` and `elman`.
      hidden: rate for the hidden state, from 0 to below 1.
      memory: rate for the cell state, from 0 to below 1.

    Returns:
      A `Cell` with the parameters of the inner cell, whose state is `Counted`.

    Raises:
      ValueError: a rate is not in ``[0, 1)``, or the cell is of another kind; at run time, the noise was
        drawn for another batch shape.

    Source: Krueger et al. 2017 (arXiv:1606.01305).

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.zoneout(lstmjax.lstm(3, 100), hidden=0.5)
      >>> noisy = cell.sample(jax.random.key(1), cell.init(jax.random.key(0)))
      >>> state, output = cell.step(noisy, cell.initial_state(), jnp.ones(3))
      >>> 30 < int((output == 0).sum()) < 70
      True
    """
    return Zoneout(cell, hidden, memory)
