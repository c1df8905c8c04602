"""Which way a cell is run over time. All ways give the same results, which the sequence contract tests.

``"scan"``    scans ``cell.step`` and lets JAX differentiate it. Works for every cell.
``"fused"``   runs a stack layer by layer, and LSTMs with the derivative of `lstmjax.fused`; else as scan.
``"native"``  as fused, with the recurrence of float32 and float64 LSTMs in C++ where they run on a CPU.
``"auto"``    takes what was measured to be soonest: native on a CPU; without native code, fused for LSTMs of
              at least `FUSED_FROM` hidden units, since the sums of smaller ones stay in the processor's cache
              within a scan.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from lstmjax import native
from lstmjax.cell import LSTM, Cell
from lstmjax.fused import fused_lstm
from lstmjax.recurrence import NATIVE, XLA
from lstmjax.scan import Masks, scan, select
from lstmjax.types import Params, State
from lstmjax.wrappers import Residual, Stack

Way = Literal["scan", "fused", "native"]
Backend = Literal["auto", "scan", "fused", "native"]

FUSED_FROM = 160


class Choice(NamedTuple):
    """How a cell is run, and why."""

    way: Way
    reason: str


def choose(backend: Backend, cell: Cell) -> Choice:
    """How a cell that is no stack is run on JAX's default platform.

    Raises:
      ValueError: there is no such backend, or native code is asked for and cannot be had here.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}.")
    if backend == "scan":
        return Choice("scan", "asked for")
    if type(cell) is not LSTM:  # not isinstance: a subclass may have a step of its own
        return Choice("scan", f"the only way for {type(cell).__name__}")
    if backend == "fused":
        return Choice("fused", "asked for")
    if backend == "native" and native.load() is not None:
        raise ValueError(f"backend='native' cannot be had: {native.load()}. Use backend='auto'.")
    why_not = _why_not_native(backend, cell)
    if why_not is None:
        return Choice("native", "asked for" if backend == "native" else "the quickest on CPU")
    if backend == "native" or cell.hidden >= FUSED_FROM:
        return Choice("fused", why_not)
    return Choice("scan", f"{why_not}; less than {FUSED_FROM} hidden units")


def _why_not_native(backend: Backend, cell: LSTM) -> str | None:
    if cell.dtype != cell.param_dtype or str(cell.dtype) not in native.DTYPES:
        return f"native code is for {' and '.join(native.DTYPES)} throughout"
    if backend == "auto" and jax.default_backend() != "cpu":
        return f"the platform is {jax.default_backend()}"
    return native.load()


def run(
    backend: Backend,
    cell: Cell,
    params: Params,
    inputs: jax.Array,
    state: State,
    masks: Masks,
    reverse: bool,
) -> tuple[State, jax.Array]:
    """Run a cell over time-major inputs by a backend; arguments and results are those of `scan`.

    Raises:
      ValueError: as `choose` does.
    """
    kind = Cell if backend == "scan" else type(cell)
    if kind is Stack:
        assert isinstance(cell, Stack)
        after = []
        for part, part_params, part_state in zip(cell.cells, params, state, strict=True):
            new, inputs = run(backend, part, part_params, inputs, part_state, masks, reverse)
            after.append(new)
        return tuple(after), inputs
    if kind is Residual:
        assert isinstance(cell, Residual)
        state, outputs = run(backend, cell.cell, params, inputs, state, masks, reverse)
        total = inputs + outputs
        return state, total if masks.valid is None else select(masks.valid, total, jnp.zeros_like(total))
    way = choose(backend, cell).way
    if way == "scan":
        return scan(cell, params, inputs, state, masks, reverse)
    assert isinstance(cell, LSTM)
    if way == "fused":
        return fused_lstm(XLA, cell, params, inputs, state, masks, reverse)
    inputs = jnp.moveaxis(inputs, 0, -2)  # XLA cancels this with the opposite one in `unroll`
    masks = jax.tree.map(lambda mask: jnp.moveaxis(mask, 0, -1), masks)
    state, outputs = fused_lstm(NATIVE, cell, params, inputs, state, masks, reverse)
    return state, jnp.moveaxis(outputs, -2, 0)
