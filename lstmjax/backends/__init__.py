"""Backends: how cells run over time. All backends give the same results; the sequence contract tests this.

``"scan"``
  scans ``cell.step`` and lets JAX differentiate it. Works for every cell.
``"hoisted"``
  as scan, with what does not depend on the state, and the gradients of kernels, taken out of the loop
  (`lstmjax.backends.hoisted`). Works for every cell.
``"fused"``
  runs stacks and pointwise wrappers layer by layer, and each `StagedCell` (LSTMs but for a few options,
  multiplicative LSTMs, GRUs, Elman cells) with the derivative of `lstmjax.backends.fused`; other cells as
  hoisted.
``"native"``
  as fused, with the recurrence in C++ on a CPU, in float32 and float64.
``"pallas"``
  as fused, with the recurrence as Pallas kernels on a GPU, for LSTMs whose recurrent kernel fits on chip
  (`lstmjax.backends.pallas`); without a GPU in interpret mode, which is slow and meant for tests.
``"cudnn"``
  runs float32 LSTMs without resets with cuDNN, on a GPU (`lstmjax.backends.cudnn`).
``"associative"``
  as hoisted, but a `LinearCell` over all steps in parallel (`lstmjax.backends.associative`).
``"chunkwise"``
  as hoisted, but an mLSTM in chunks of steps that are taken together (`lstmjax.backends.chunkwise`).
``"newton"``
  takes all steps of any cell at once, by Newton's method (`lstmjax.backends.newton`); meant for small cells
  and long sequences on a GPU.
``"auto"``
  selects the backend measured to be fastest on a CPU: native; without native code, fused from `FUSED_FROM`
  hidden units and scan below, since the intermediate sums of smaller cells stay in the processor's cache
  within a scan. On a GPU, where nothing has been measured yet, cudnn where it
  applies, else pallas where it applies, else fused: cudnn and pallas launch one kernel per sequence
  instead of several per step. A `LinearCell` runs with associative, but minGRU and minLSTM with native on
  a CPU; an mLSTM with chunkwise, all other cells with hoisted; but on a CPU with scan where the batch has
  more than `HOISTED_TO` rows, since the loop's own products are then as fast, in less memory.
"""

import contextlib
import importlib
import math
import os
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

import jax
import jax.numpy as jnp

from lstmjax.backends import hoisted, native
from lstmjax.backends.associative import associative
from lstmjax.backends.chunkwise import chunkwise
from lstmjax.backends.fused import fused
from lstmjax.backends.newton import newton
from lstmjax.backends.newton import why_not as not_by_newton
from lstmjax.backends.recurrence import XLA
from lstmjax.backends.scan import Masks, scan, select
from lstmjax.cells.cell import Cell
from lstmjax.cells.elementwise import StagedCell
from lstmjax.cells.lstm import LSTM, LSTMState
from lstmjax.cells.minimal import LinearCell
from lstmjax.cells.xlstm import MLSTM
from lstmjax.types import Params, State
from lstmjax.wrappers.stack import Stack
from lstmjax.wrappers.wrapper import Pointwise

Way = Literal["scan", "hoisted", "fused", "native", "pallas", "cudnn", "associative", "chunkwise", "newton"]
Backend = Literal["auto", Way]

FUSED_FROM = 160
HOISTED_TO = 32
VARIABLE = "LSTMJAX_BACKEND"


class Choice(NamedTuple):
    """The backend that runs a cell, and the reason for the choice."""

    way: Way
    reason: str


_requested: ContextVar[Backend] = ContextVar("backend")


@contextlib.contextmanager
def use(backend: Backend) -> Iterator[None]:
    """Within the context, run cells with this backend wherever none is named.

    It is read when a run is traced: a function compiled before keeps the backend that it was compiled with.
    For a whole process, set the environment variable ``LSTMJAX_BACKEND``.

    Raises:
      ValueError: the backend is unknown.

    Example:
      >>> import jax, lstmjax
      >>> with lstmjax.backends.use("scan"):
      ...     print(lstmjax.explain(lstmjax.lstm(2, 3), (4, 5, 2)).parts[0][1].way)
      scan
    """
    _check(backend, "backend")
    token = _requested.set(backend)
    try:
        yield
    finally:
        _requested.reset(token)


def requested(backend: Backend) -> Backend:
    """The backend that is named, by the call, by `use` or by the environment; else ``"auto"``.

    Raises:
      ValueError: the backend is unknown.
    """
    if backend != "auto":
        return _check(backend, "backend")
    return _requested.get(None) or _check(os.environ.get(VARIABLE) or "auto", f"the environment's {VARIABLE}")


def _check(backend: Any, name: str) -> Backend:
    if backend not in get_args(Backend):
        raise ValueError(f"{name} must be one of {', '.join(get_args(Backend))}, got {backend!r}.")
    return backend


def choose(
    backend: Backend,
    cell: Cell,
    *,
    needs: Collection[str] = (),
    rows: int = 1,
    platform: str | None = None,
) -> Choice:
    """Choose the backend for a cell that is not a stack.

    Args:
      backend: as for `unroll`.
      cell: any cell but a stack.
      needs: what the run has besides lengths, such as ``"resets"``, in the words of a reason.
      rows: number of sequences of the batch.
      platform: as `jax.default_backend` names it; by default, its result.

    Raises:
      ValueError: the backend is unknown, or was requested by name and is not available here.
    """
    backend = requested(backend)
    if backend in ("scan", "hoisted"):
        return Choice(backend, "asked for")
    if backend == "newton":
        reason = not_by_newton(cell)
        return Choice("scan", reason) if reason else Choice("newton", "asked for")
    platform = jax.default_backend() if platform is None else platform
    staged = isinstance(cell, StagedCell) and is_staged(cell)
    if not staged or (_together(cell) and not _is_for_steps(backend, cell, platform)):
        way: Way = "scan" if platform == "cpu" and rows > HOISTED_TO else "hoisted"
        return _choose_for_other(backend, cell, needs, way)
    assert isinstance(cell, StagedCell)
    if backend == "auto":
        return _fastest(cell, needs, platform)
    if type(cell) is not LSTM and backend in ("pallas", "cudnn"):
        return Choice("scan", f"{backend} is for the usual LSTM")
    why_not = _why_not_as_asked(backend, cell, needs, platform)
    if why_not is not None:
        raise ValueError(f"backend={backend!r} cannot be had: {why_not}. Use backend='auto'.")
    return _as_asked(backend, cell, platform)


def is_staged(cell: StagedCell) -> bool:
    """Whether the step of a cell is what its stages say.

    A subclass may override the step alone, or the coefficients of a `LinearCell`.
    """
    names = {"step", "elementwise", "stages", "coefficients"}
    definer = next(kind for kind in type(cell).__mro__ if names & vars(kind).keys())
    return bool({"elementwise", "stages"} & vars(definer).keys() and cell.stages)


TOGETHER: dict[Way, tuple[type[Cell], Any]] = {
    "associative": (LinearCell, associative),
    "chunkwise": (MLSTM, chunkwise),
}
"""The backends that take steps together, of cells whose gates do not see their state."""


def _together(cell: Cell) -> list[Way]:
    """The backends that take steps of this cell together, of which there is one at most."""
    # A subclass may override the step, which the other backend then does not describe.
    return [
        way for way, (kind, _) in TOGETHER.items() if isinstance(cell, kind) and type(cell).step is kind.step
    ]


def _is_for_steps(backend: Backend, cell: Any, platform: str) -> bool:
    """Whether steps that could be taken together are taken one after the other, by what `fused` has."""
    if backend == "auto":
        return platform == "cpu" and native.load_cell(cell) is None
    return backend in ("native", "fused")


def _choose_for_other(backend: Backend, cell: Cell, needs: Collection[str], otherwise: Way) -> Choice:
    ways = _together(cell)
    if not ways:
        return Choice(otherwise, f"nothing is made for {type(cell).__name__}")
    (way,) = ways
    if way == "chunkwise" and "states of all steps" in needs:
        return Choice(otherwise, "chunkwise does not have the states of all steps")
    if backend == "auto":
        return Choice(way, "its steps can be taken together")
    return Choice(way, "asked for") if backend == way else Choice(otherwise, f"{backend} is for other cells")


def _as_asked(backend: Way, cell: StagedCell, platform: str) -> Choice:
    if backend in TOGETHER:
        return Choice("scan", "its gates see its state, so that steps cannot be taken together")
    if backend == "native" and native.load_cell(cell) is not None:
        return Choice("fused", f"{native.load_cell(cell)}")
    if backend == "pallas" and platform != "gpu":
        return Choice("pallas", f"asked for; in interpret mode, as the platform is {platform}")
    return Choice(backend, "asked for")


def _why_not_as_asked(
    backend: Backend, cell: StagedCell, needs: Collection[str], platform: str
) -> str | None:
    if backend == "native":
        return native.load()
    if backend in ("pallas", "cudnn"):
        assert isinstance(cell, LSTM)
        pallas, cudnn = _for_gpus()
        return pallas.why_not(cell, platform) if backend == "pallas" else cudnn.why_not(cell, needs, platform)
    return None


def _for_gpus() -> tuple[Any, Any]:
    """The backends for GPUs, imported when they are needed: what they need of JAX takes long to import."""
    pallas, cudnn = (importlib.import_module(f"lstmjax.backends.{name}") for name in ("pallas", "cudnn"))
    return pallas, cudnn


def _fastest_on_gpu(cell: StagedCell, needs: Collection[str], platform: str) -> Choice:
    if type(cell) is not LSTM:
        return Choice("fused", "on a GPU")
    pallas, cudnn = _for_gpus()
    no_cudnn, no_pallas = cudnn.why_not(cell, needs, platform), pallas.why_not(cell, platform)
    if no_cudnn is None:
        return Choice("cudnn", "on a GPU, and it has all that is asked for")
    if no_pallas is None:
        return Choice("pallas", f"on a GPU; {no_cudnn}")
    return Choice("fused", f"{no_cudnn}; {no_pallas}")


def _fastest(cell: StagedCell, needs: Collection[str], platform: str) -> Choice:
    if platform == "gpu":
        return _fastest_on_gpu(cell, needs, platform)
    why_not = native.load_cell(cell) if platform == "cpu" else f"the platform is {platform}"
    if why_not is None:
        return Choice("native", "the quickest on CPU")
    if cell.hidden >= FUSED_FROM:
        return Choice("fused", why_not)
    return Choice("scan", f"{why_not}; less than {FUSED_FROM} hidden units")


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
    *,
    prefix: bool = True,
    states: bool = False,
    initial: State | None = None,
) -> tuple[State, jax.Array, State | None]:
    """Run a cell over time-major inputs with a backend; arguments and results are those of `scan`.

    ``prefix`` says that the valid steps of each row are its first ones.

    Raises:
      ValueError: as `choose` does.
    """
    if backend == "scan" or initial is not None:
        return scan(cell, params, inputs, state, masks, reverse, states, initial)
    more: Any = {"prefix": prefix, "states": states}
    if type(cell) is Stack:
        done = []
        for part, part_params, part_state in zip(cell.cells, params, state, strict=True):
            after, inputs, each = run(backend, part, part_params, inputs, part_state, masks, reverse, **more)
            done.append((after, each))
        after, each = zip(*done, strict=True)
        return after, inputs, each if states else None
    if is_pointwise(cell):
        inner, own = cell.split(params, inputs.shape[1:-1])
        within = cell.before(own, inputs)
        after, outputs, each = run(backend, cell.cell, inner, within, state, masks, reverse, **more)
        outputs = cell.after(own, inputs, outputs)
        if masks.valid is not None:
            outputs = select(masks.valid, outputs, jnp.zeros_like(outputs))
        return after, outputs, each
    asked = {
        "resets": masks.fresh is not None,
        "masks but lengths": not prefix,
        "states of all steps": states,
    }
    needs = [what for what, is_asked in asked.items() if is_asked]
    way = choose(backend, cell, needs=needs, rows=math.prod(inputs.shape[1:-1])).way
    if way in ("scan", "hoisted"):
        loop = hoisted.loop if way == "hoisted" else jax.lax.scan
        return scan(cell, params, inputs, state, masks, reverse, states, loop=loop)
    if way == "newton" or way in TOGETHER:
        whole = newton if way == "newton" else TOGETHER[way][1]
        return whole(cell, params, inputs, state, masks, reverse)
    assert isinstance(cell, StagedCell)
    after, shown = _run_staged(way, cell, params, inputs, state, masks, reverse, states)
    return after, jnp.asarray(jax.tree.leaves(shown)[0]), shown if states else None


def _run_staged(
    way: Way,
    cell: StagedCell,
    params: Params,
    inputs: jax.Array,
    state: State,
    masks: Masks,
    reverse: bool,
    states: bool,
) -> tuple[State, State]:
    """The last state, and the states after each step, of which there may be only the hidden ones."""
    if way == "fused":
        return fused(XLA, cell, params, inputs, state, masks, reverse, states)
    # The other backends are batch-major; XLA cancels the transposition with the opposite one in `unroll`.
    masks = jax.tree.map(lambda mask: jnp.moveaxis(mask, 0, -1), masks)
    inputs = jnp.moveaxis(inputs, 0, -2)
    recurrence = native.NATIVE
    if way != "native":
        pallas, cudnn = _for_gpus()
        if way == "cudnn":
            after, outputs = cudnn.cudnn_lstm(cell, params, inputs, state, masks, reverse)
            return after, LSTMState(jnp.moveaxis(outputs, -2, 0), after.cell)
        recurrence = pallas.PALLAS if jax.default_backend() == "gpu" else pallas.INTERPRETED
    after, shown = fused(recurrence, cell, params, inputs, state, masks, reverse, states)
    return after, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), shown)
