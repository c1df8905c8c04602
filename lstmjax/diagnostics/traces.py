"""Gates and states of a cell at every step, and how often the gates saturate.

These functions run a cell with a separate recording step and take the arguments of `lstmjax.unroll`; they add
nothing to an ordinary run of the cell. `lstmjax.plots` plots the results.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from lstmjax.backends import is_pointwise
from lstmjax.cells.cell import Cell, check_cell, check_inputs
from lstmjax.cells.elman import Elman
from lstmjax.cells.general_lstm import GeneralLSTM
from lstmjax.cells.gru import GRU
from lstmjax.cells.lstm import LSTM, LSTMState
from lstmjax.sequence.unroll import unroll
from lstmjax.types import Array, DTypeLike, Params, State, at_least_float32
from lstmjax.wrappers.stack import Stack
from lstmjax.wrappers.wrapper import Entering, Wrapper


class LSTMTrace(NamedTuple):
    """Gates and states of an LSTM at every step, each ``[..., time, hidden]``, zero beyond the lengths.

    Gates that a variant lacks are 1; with a projection, the hidden state has its size.
    """

    input_gate: jax.Array
    forget_gate: jax.Array
    output_gate: jax.Array
    candidate: jax.Array
    cell: jax.Array
    hidden: jax.Array


class GRUTrace(NamedTuple):
    """Gates and states of a GRU at every step, each ``[..., time, hidden]``, zero beyond the lengths."""

    reset_gate: jax.Array
    update_gate: jax.Array
    candidate: jax.Array
    hidden: jax.Array


class ElmanTrace(NamedTuple):
    """States of a plain recurrent cell at every step, ``[..., time, hidden]``, zero beyond the lengths."""

    hidden: jax.Array


class Saturation(NamedTuple):
    """For each unit, ``[hidden]``: the fractions of steps in which its gate is nearly closed, nearly open."""

    left: jax.Array
    """Below 0.1."""
    right: jax.Array
    """Above 0.9."""


Recorded = tuple[State, jax.Array, Any]
"""State, outputs, and the trace of a step, a pytree of arrays ``[..., size]``."""


def _record_lstm(cell: Any, params: Any, state: Any, inputs: jax.Array, nudge: Any) -> Recorded:
    gates = cell.gates_of(params, state, inputs)
    memory = gates.memory(state.cell) + nudge.cell
    hidden = (gates.output_gate * jnp.tanh(memory)).astype(cell.dtype) + nudge.hidden
    trace = LSTMTrace(gates.input_gate, gates.forget_gate, gates.output_gate, gates.candidate, memory, hidden)
    return LSTMState(hidden, memory), hidden, trace


def _record_general(cell: Any, params: Any, state: Any, inputs: jax.Array, nudge: Any) -> Recorded:
    after, gates = cell.advance(params, state, inputs, nudge)
    seen = LSTMTrace(
        gates.input_gate, gates.forget_gate, gates.output_gate, gates.candidate, after.cell, after.hidden
    )
    return after, after.hidden, seen


def _record_gru(cell: Any, params: Any, state: Any, inputs: jax.Array, nudge: Any) -> Recorded:
    gates = cell.gates_of(params, state, inputs)
    hidden = gates.memory(state.astype(cell.wide_dtype)).astype(cell.dtype) + nudge
    return hidden, hidden, GRUTrace(gates.reset_gate, gates.update_gate, gates.candidate, hidden)


def _record_elman(cell: Any, params: Any, state: Any, inputs: jax.Array, nudge: Any) -> Recorded:
    _, outputs = cell.step(params, state, inputs)
    hidden = outputs + nudge
    return hidden, hidden, ElmanTrace(hidden)


RECORDERS: dict[type[Cell], Callable[..., Recorded]] = {
    LSTM: _record_lstm,
    GeneralLSTM: _record_general,
    GRU: _record_gru,
    Elman: _record_elman,
}
"""The functions that record a step of each kind of cell; an entry adds support for another kind.

Each maps cell, params, state, inputs, and a nudge to the state, the outputs and the trace. The nudge, a tree
like the state, is a perturbation that is added to each part of the state as soon as the step has computed it.
"""


def _record(cell: Cell, params: Params, state: State, inputs: jax.Array, nudge: State) -> Recorded:
    """One step of a cell, stack or wrapper; the trace of a stack is a tuple of the traces of its cells."""
    if type(cell) in RECORDERS:
        return RECORDERS[type(cell)](cell, params, state, inputs, nudge)
    if type(cell) is Stack:
        states, traces = [], []
        for part in zip(cell.cells, params, state, nudge, strict=True):
            after, inputs, trace = _record(*part[:3], inputs, part[3])
            states.append(after)
            traces.append(trace)
        return tuple(states), inputs, tuple(traces)
    if is_pointwise(cell):
        inner, own = cell.split(params, inputs.shape[:-1])
        state, outputs, trace = _record(cell.cell, inner, state, cell.before(own, inputs), nudge)
        return state, cell.after(own, inputs, outputs), trace
    if isinstance(cell, Entering):
        return _record(cell.cell, *cell.enter(params, state), inputs, nudge)
    known = ", ".join(sorted(kind.__name__ for kind in RECORDERS))
    raise TypeError(
        f"diagnostics: it is not known how to look into {cell}; known are {known}, stacks and pointwise "
        f"wrappers of them. An entry in lstmjax.diagnostics.RECORDERS makes {type(cell).__name__} known."
    )


@dataclasses.dataclass(frozen=True, repr=False)
class _Recorder(Wrapper):
    """A cell with nudges concatenated to its inputs and its trace concatenated to its outputs."""

    @property
    def features(self) -> int:  # type: ignore[override]
        """The cell's inputs, then a nudge for every element of the state."""
        return self.cell.features + sum(leaf.size for leaf in jax.tree.leaves(_state_of(self.cell)))

    @property
    def input_dtype(self) -> DTypeLike:
        """Wide enough for inputs and nudges."""
        return at_least_float32(self.cell.input_dtype)

    @property
    def output_size(self) -> int:
        """The cell's outputs, then all arrays of the trace."""
        params = jax.eval_shape(self.cell.init, jax.random.key(0))
        return sum(leaf.shape[-1] for leaf in jax.tree.leaves(_seen_of(self.cell, params, ())))

    def step(self, params: Params, state: State, inputs: Array) -> tuple[State, jax.Array]:
        """Advance by one time step."""
        own = jnp.asarray(inputs)[..., : self.cell.features].astype(self.cell.input_dtype)
        nudge = _unpack(jnp.asarray(inputs)[..., self.cell.features :], _state_of(self.cell))
        state, outputs, trace = _record(self.cell, params, state, own, nudge)
        return state, _pack((outputs, trace), self.input_dtype)


def _state_of(cell: Cell) -> State:
    return jax.eval_shape(cell.initial_state)


def _seen_of(cell: Cell, params: Params, batch_shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Shapes and dtypes of outputs and trace of one step."""
    state = jax.eval_shape(functools.partial(cell.initial_state, batch_shape))
    inputs = jax.ShapeDtypeStruct((*batch_shape, cell.features), cell.input_dtype)
    return jax.eval_shape(functools.partial(_record, cell), params, state, inputs, state)[1:]


def _pack(tree: Any, dtype: DTypeLike) -> jax.Array:
    return jnp.concatenate([leaf.astype(dtype) for leaf in jax.tree.leaves(tree)], axis=-1)


def _unpack(packed: jax.Array, like: Any) -> Any:
    """The inverse of `_pack`; ``like`` has the structure, dtypes and last axes."""
    leaves, structure = jax.tree.flatten(like)
    ends = [sum(leaf.shape[-1] for leaf in leaves[: number + 1]) for number in range(len(leaves))]
    parts = jnp.split(packed, ends[:-1], axis=-1)
    typed = [part.astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, typed)


def _run(
    cell: Cell, params: Params, inputs: jax.Array, nudges: jax.Array, masks: dict[str, Any]
) -> tuple[jax.Array, Any]:
    """Outputs and trace of a sequence."""
    recorder = _Recorder(cell)
    wide = recorder.input_dtype
    both = jnp.concatenate([inputs.astype(wide), nudges], axis=-1)
    _, packed = unroll(recorder, params, both, **masks, backend="scan")
    return _unpack(packed, _seen_of(cell, params, inputs.shape[:-2]))


def _no_nudges(cell: Cell, inputs: Array) -> jax.Array:
    recorder = _Recorder(cell)
    return jnp.zeros((*inputs.shape[:-1], recorder.features - cell.features), recorder.input_dtype)


def trace(
    cell: Cell,
    params: Params,
    inputs: Float[Array, "*batch time features"],
    state: State | None = None,
    lengths: Integer[Array, "*batch"] | None = None,
    resets: Bool[Array, "*batch time"] | None = None,
    reverse: bool = False,
) -> Any:
    """All gates and states of a cell at every step.

    Args:
      cell: made by `lstm` with any options, `gru` or `elman`; or a stack of these; or one of these wrapped by
        `residual`, `highway`, `dropout` and similar wrappers.
      params: as ``cell.init`` or ``cell.sample`` returns them.
      inputs: ``[..., time, features]``.
      state: as for `unroll`, and so are the other arguments.
      lengths: integers ``[...]``.
      resets: booleans ``[..., time]``.
      reverse: run from the last step to the first.

    Returns:
      `LSTMTrace`, `GRUTrace` or `ElmanTrace` of arrays ``[..., time, hidden]``; for a stack, a tuple with one
      per cell. Gates and cell state are of the cell's dtype or float32, whichever is wider.

    Raises:
      TypeError: the cell is of another kind; else as `unroll`.
      ValueError: as `unroll`.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(features=3, hidden=4)
      >>> seen = trace(cell, cell.init(jax.random.key(0)), jnp.ones((2, 5, 3)))
      >>> seen.forget_gate.shape, bool((seen.forget_gate > 0).all())
      ((2, 5, 4), True)
    """
    masks = {"state": state, "lengths": lengths, "resets": resets, "reverse": reverse}
    check_cell("trace", cell)
    check_inputs(cell, inputs, axes="[..., time, features]")
    return _run(cell, params, jnp.asarray(inputs), _no_nudges(cell, inputs), masks)[1]


def saturation(seen: Any, lengths: Integer[Array, "*batch"] | None = None) -> Any:
    """How often the gates of each unit are saturated, over all valid steps of all rows.

    Args:
      seen: the result of `trace`.
      lengths: integers ``[...]``, as passed to `trace`.

    Returns:
      A dictionary from the name of each gate to `Saturation`; for a stack, a tuple of these. NaN without any
      valid step.

    Raises:
      TypeError: ``seen`` is not a trace.

    Source: Karpathy, Johnson and Fei-Fei 2016 (arXiv:1506.02078, section 4.2).

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(features=3, hidden=4, forget_bias=5.0)
      >>> seen = trace(cell, cell.init(jax.random.key(0)), 0.1 * jnp.ones((2, 5, 3)))
      >>> saturation(seen)["forget_gate"].right.tolist()
      [1.0, 1.0, 1.0, 1.0]
    """
    if not hasattr(seen, "_fields"):
        if not isinstance(seen, tuple):
            raise TypeError(f"saturation: give what `trace` returned, got {type(seen).__name__}.")
        return tuple(saturation(part, lengths) for part in seen)
    gates = {name: gate for name, gate in seen._asdict().items() if name.endswith("_gate")}
    return {name: _saturation(gate, lengths) for name, gate in gates.items()}


def _saturation(gate: jax.Array, lengths: Array | None) -> Saturation:
    time = gate.shape[-2]
    valid = jnp.ones(gate.shape[:-1], bool) if lengths is None else jnp.arange(time) < lengths[..., None]
    axes = tuple(range(gate.ndim - 1))

    def share(extreme: jax.Array) -> jax.Array:
        return jnp.mean(extreme, axis=axes, where=valid[..., None], dtype=gate.dtype)

    return Saturation(share(gate < 0.1), share(gate > 0.9))
