"""Backends: how cells run over time. All backends give the same results; the sequence contract tests this.

``"scan"``    scans ``cell.step`` and lets JAX differentiate it. Works for every cell.
``"fused"``   runs stacks and pointwise wrappers layer by layer, and LSTMs with the derivative of
              `lstmjax.backends.fused`; other cells as scan.
``"native"``  as fused, with the recurrence of float32 and float64 LSTMs in C++ on a CPU.
``"pallas"``  as fused, with the recurrence as Pallas kernels on a GPU, for LSTMs whose recurrent kernel fits
              on chip (`lstmjax.backends.pallas`); without a GPU in interpret mode, which is slow and meant
              for tests.
``"cudnn"``   runs float32 LSTMs without resets with cuDNN, on a GPU (`lstmjax.backends.cudnn`).
``"associative"``  as scan, but a `LinearCell` over all steps in parallel (`lstmjax.backends.associative`).
``"auto"``    selects the backend measured to be fastest on a CPU: native; without native code, fused for
              LSTMs of at least `FUSED_FROM` hidden units and scan below, since the intermediate sums of
              smaller LSTMs stay in the processor's cache within a scan. On a GPU, where nothing has been
              measured yet, cudnn where it applies, else pallas where it applies, else fused: cudnn and
              pallas launch one kernel per sequence instead of several per step. A `LinearCell` runs with
              associative on every platform.
"""

from typing import Any, Literal, NamedTuple, TypeGuard, get_args

import jax
import jax.numpy as jnp

from lstmjax.backends import cudnn, native, pallas
from lstmjax.backends.associative import associative
from lstmjax.backends.fused import fused_lstm
from lstmjax.backends.recurrence import XLA
from lstmjax.backends.scan import Masks, scan, select
from lstmjax.cells.cell import Cell
from lstmjax.cells.lstm import LSTM
from lstmjax.cells.minimal import LinearCell
from lstmjax.types import Params, State
from lstmjax.wrappers.stack import Stack
from lstmjax.wrappers.wrapper import Pointwise

Way = Literal["scan", "fused", "native", "pallas", "cudnn", "associative"]
Backend = Literal["auto", "scan", "fused", "native", "pallas", "cudnn", "associative"]

FUSED_FROM = 160


class Choice(NamedTuple):
    """The backend that runs a cell, and the reason for the choice."""

    way: Way
    reason: str


def choose(backend: Backend, cell: Cell, *, resets: bool = False, platform: str | None = None) -> Choice:
    """Choose the backend for a cell that is not a stack.

    Args:
      backend: as for `unroll`.
      cell: any cell but a stack.
      resets: whether the run has resets.
      platform: as `jax.default_backend` names it; by default, its result.

    Raises:
      ValueError: the backend is unknown, or was requested by name and is not available here.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}.")
    if backend == "scan":
        return Choice("scan", "asked for")
    if type(cell) is not LSTM:  # not isinstance: a subclass may override the step
        return _choose_for_other(backend, cell)
    platform = jax.default_backend() if platform is None else platform
    if backend == "auto":
        return _quickest(cell, resets, platform)
    why_not = _why_not_as_asked(backend, cell, resets, platform)
    if why_not is not None:
        raise ValueError(f"backend={backend!r} cannot be had: {why_not}. Use backend='auto'.")
    return _as_asked(backend, cell, platform)


def _as_asked(backend: Way, cell: LSTM, platform: str) -> Choice:
    if backend == "associative":
        return Choice("scan", "its gates see its state, so that steps cannot be taken together")
    if backend == "native" and _no_native_dtypes(cell) is not None:
        return Choice("fused", f"{_no_native_dtypes(cell)}")
    if backend == "pallas" and platform != "gpu":
        return Choice("pallas", f"asked for; in interpret mode, as the platform is {platform}")
    return Choice(backend, "asked for")


def _choose_for_other(backend: Backend, cell: Cell) -> Choice:
    # A subclass may override the step, which its coefficients then do not describe.
    linear = isinstance(cell, LinearCell) and type(cell).step is LinearCell.step
    if linear and backend == "associative":
        return Choice("associative", "asked for")
    if linear and backend == "auto":
        return Choice("associative", "its steps can be taken together")
    return Choice("scan", f"{backend} is for LSTMs" if linear else f"the only way for {type(cell).__name__}")


def _why_not_as_asked(backend: Backend, cell: LSTM, resets: bool, platform: str) -> str | None:
    if backend == "native":
        return native.load()
    if backend == "pallas":
        return pallas.why_not(cell, platform)
    return cudnn.why_not(cell, resets, platform) if backend == "cudnn" else None


def _quickest(cell: LSTM, resets: bool, platform: str) -> Choice:
    if platform == "gpu":
        no_cudnn, no_pallas = cudnn.why_not(cell, resets, platform), pallas.why_not(cell, platform)
        if no_cudnn is None:
            return Choice("cudnn", "on a GPU, and it has all that is asked for")
        if no_pallas is None:
            return Choice("pallas", f"on a GPU; {no_cudnn}")
        return Choice("fused", f"{no_cudnn}; {no_pallas}")
    why_not = _no_native_dtypes(cell)
    if why_not is None:
        why_not = native.load() if platform == "cpu" else f"the platform is {platform}"
    if why_not is None:
        return Choice("native", "the quickest on CPU")
    if cell.hidden >= FUSED_FROM:
        return Choice("fused", why_not)
    return Choice("scan", f"{why_not}; less than {FUSED_FROM} hidden units")


def _no_native_dtypes(cell: LSTM) -> str | None:
    if cell.dtype != cell.param_dtype or str(cell.dtype) not in native.DTYPES:
        return f"native code is for {' and '.join(native.DTYPES)} throughout"
    return None


def is_pointwise(cell: Any) -> TypeGuard[Pointwise]:
    """Whether a cell is a wrapper that can be applied to a whole sequence at once."""
    return isinstance(cell, Pointwise) and type(cell).step is Pointwise.step


def run(
    backend: Backend,
    cell: Cell,
    params: Params,
    inputs: jax.Array,
    state: State,
    masks: Masks,
    reverse: bool,
    states: bool = False,
) -> tuple[State, jax.Array, State | None]:
    """Run a cell over time-major inputs with a backend; arguments and results are those of `scan`.

    Raises:
      ValueError: as `choose` does.
    """
    kind = Cell if backend == "scan" else type(cell)
    if kind is Stack:
        assert isinstance(cell, Stack)
        done = []
        for part, part_params, part_state in zip(cell.cells, params, state, strict=True):
            after, inputs, each = run(
                backend, part, part_params, inputs, part_state, masks, reverse, states
            )
            done.append((after, each))
        after, each = zip(*done, strict=True)
        return after, inputs, each if states else None
    if backend != "scan" and is_pointwise(cell):
        inner, own = cell.split(params, inputs.shape[1:-1])
        within = cell.before(own, inputs)
        after, outputs, each = run(backend, cell.cell, inner, within, state, masks, reverse, states)
        outputs = cell.after(own, inputs, outputs)
        if masks.valid is not None:
            outputs = select(masks.valid, outputs, jnp.zeros_like(outputs))
        return after, outputs, each
    way = choose(backend, cell, resets=masks.fresh is not None).way
    if way == "scan":
        return scan(cell, params, inputs, state, masks, reverse, states)
    if way == "associative":
        assert isinstance(cell, LinearCell)
        return associative(cell, params, inputs, state, masks, reverse)
    assert isinstance(cell, LSTM)
    if way == "fused":
        after, shown = fused_lstm(XLA, cell, params, inputs, state, masks, reverse, states)
        return after, shown.hidden, shown if states else None
    # The other backends are batch-major; XLA cancels the transposition with the opposite one in `unroll`.
    masks = jax.tree.map(lambda mask: jnp.moveaxis(mask, 0, -1), masks)
    arguments = (cell, params, jnp.moveaxis(inputs, 0, -2), state, masks, reverse)
    if way == "cudnn":
        after, outputs = cudnn.cudnn_lstm(*arguments)
        return after, jnp.moveaxis(outputs, -2, 0), None
    compiled = jax.default_backend() == "gpu"
    recurrence = native.NATIVE if way == "native" else pallas.PALLAS if compiled else pallas.INTERPRETED
    after, shown = fused_lstm(recurrence, *arguments, states)
    shown = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), shown)
    return after, shown.hidden, shown if states else None
