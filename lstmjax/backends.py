"""Which way a cell is run over time. All ways give the same results, which the sequence contract tests.

``"scan"``   scans ``cell.step`` and lets JAX differentiate it. Works for every cell.
``"fused"``  runs a stack layer by layer, and LSTMs with the derivative of `lstmjax.fused`; else as scan.
``"auto"``   is fused where that was measured to be sooner, that is for LSTMs of at least `FUSED_FROM` hidden
             units; the sums of smaller ones stay in the processor's cache within a scan.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from lstmjax.cell import LSTM, Cell
from lstmjax.fused import fused_lstm
from lstmjax.scan import Masks, scan, select
from lstmjax.types import Params, State
from lstmjax.wrappers import Residual, Stack

Backend = Literal["auto", "scan", "fused"]

FUSED_FROM = 160


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
      ValueError: there is no such backend.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be 'auto', 'scan' or 'fused', got {backend!r}.")
    kind = Cell if backend == "scan" else type(cell)  # not isinstance: a subclass may have a step of its own
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
    if kind is LSTM:
        assert isinstance(cell, LSTM)
        if backend == "fused" or cell.hidden >= FUSED_FROM:
            return fused_lstm(cell, params, inputs, state, masks, reverse)
    return scan(cell, params, inputs, state, masks, reverse)
