"""The recurrence as JAX primitives, for platforms with dedicated kernels.

The computation of a primitive is defined once, by the scans of `lstmjax.backends.recurrence`: these run where
there is no kernel, and these are differentiated and transposed. `primitives` makes a `Recurrence` over
batch-major arrays from `Kernels`; `lstmjax.backends.native` has kernels for CPUs, `lstmjax.backends.pallas`
for GPUs.

Operands are flat: the weights, arrays of floats, and the masks that are present; the keyword ``masked``
specifies whether ``valid`` and ``fresh`` are present, ``states`` whether the cell states of all steps are
results. Weights may have leading axes, those of several models: these are the first batch axes of all other
arrays.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from lstmjax.backends import recurrence
from lstmjax.backends.recurrence import Kept, Recurrence
from lstmjax.backends.scan import Masks
from lstmjax.cells.lstm import LSTMState
from lstmjax.sharding import divided_by_rows, is_partly_manual, needs_devices, vary_alike
from lstmjax.types import Array


class Kernels(NamedTuple):
    """Kernels for one platform, with keywords ``masks``, ``reverse`` and ``states``.

    Weights are ``[models, ...]``, other arrays ``[models, rows, ...]``. A function may return NotImplemented,
    while JAX traces, to fall back to the scans.
    """

    run: Callable[..., Any]
    """``(kernel, bias, projected, hidden, cell)`` to last hidden and cell state, outputs, and cell states."""
    run_keeping: Callable[..., Any]
    """The same, then the gates, and the cell and hidden state before, of each step."""
    transposed: Callable[..., Any]
    """``(kernel, gates, cell, hidden_bar, cell_bar, outputs_bar, cells_bar)`` to cotangents of the gates'
    pre-activations, and of hidden and cell state before the first step."""


def primitives(name: str, kernels: Kernels, platform: str | None) -> Recurrence:
    """The recurrence as primitives ``lstmjax_<name>_...`` with the given kernels.

    Args:
      name: of these kernels.
      kernels: for all primitives but the linearization, which only forward mode needs.
      platform: where the kernels are used, as JAX's lowering names it; None for everywhere.
    """
    make = functools.partial(primitive, name, platform)
    run_p = make("run", _run_plain, kernels.run, run_avals, 2)
    run_keeping_p = make("run_keeping", _run_keeping_plain, kernels.run_keeping, run_keeping_avals, 2)
    linear_p = make("linear", _linear_plain, None, linear_avals, 1)
    transposed_p = make("transposed", _transposed_plain, kernels.transposed, transposed_avals, 1)
    transpose_each_other(linear_p, transposed_p, lambda keywords: 3)

    def run(
        kernel: Array, bias: Array, projected: jax.Array, state: LSTMState, masks: Masks, *flags: bool
    ) -> tuple[LSTMState, LSTMState]:
        operands, keywords = _operands(masks, flags, kernel, bias, projected, *state)
        hidden, cell, outputs, cells = run_p.bind(*operands, **keywords)
        return LSTMState(hidden, cell), LSTMState(outputs, cells)

    def run_keeping(
        kernel: Array, bias: Array, projected: jax.Array, state: LSTMState, masks: Masks, *flags: bool
    ) -> tuple[LSTMState, LSTMState, Kept]:
        operands, keywords = _operands(masks, flags, kernel, bias, projected, *state)
        hidden, cell, outputs, cells, *kept = run_keeping_p.bind(*operands, **keywords)
        return LSTMState(hidden, cell), LSTMState(outputs, cells), Kept(*kept)

    def linear(
        kernel: jax.Array, kept: Kept, masks: Masks, gates_dot: jax.Array, state_dot: LSTMState, *flags: bool
    ) -> tuple[LSTMState, LSTMState]:
        operands, keywords = _operands(masks, flags, kernel, kept.gates, kept.cell, gates_dot, *state_dot)
        hidden_dot, cell_dot, outputs_dot, cells_dot = linear_p.bind(*operands, **keywords)
        return LSTMState(hidden_dot, cell_dot), LSTMState(outputs_dot, cells_dot)

    return Recurrence(run=run, run_keeping=run_keeping, linear=linear)


def primitive(
    kernels: str,
    platform: str | None,
    name: str,
    plain: Callable[..., Any],
    native: Callable[..., Any] | None,
    avals: Callable[..., Any],
    shared: int,
) -> Primitive:
    """A primitive with all rules except transposition.

    Args:
      kernels: the name of the kernels.
      platform: where ``native`` is used; None for everywhere.
      name: of the primitive.
      plain: a JAX function of the operands and keywords; it defines the derivative.
      native: the same over rows, as a kernel, one of `Kernels`.
      avals: maps the abstract operands and keywords to the abstract results.
      shared: number of leading operands without batch axes.
    """
    plain = _for_each_model(plain)
    made = Primitive(f"lstmjax_{kernels}_{name}")
    made.multiple_results = True
    made.def_impl(compiled(made, static=("masked", "reverse", "states", "cell")))
    made.def_abstract_eval(avals)
    mlir.register_lowering(made, mlir.lower_fun(plain, multiple_results=True))
    if native is not None:
        needs_devices(made)
        over_rows = functools.partial(_over_rows, native, plain, shared)
        mlir.register_lowering(made, lowering(over_rows, portable=plain), platform=platform)

    def batch(operands: Sequence[Any], axes: Sequence[int | None], **keywords: Any) -> Any:
        """One more axis of models if the weights have it, else of the batch, after those of models."""
        (size,) = {x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None}
        several = any(axis is not None for axis in axes[:shared])
        place = 0 if several else operands[0].ndim - 2
        moved = [
            _to_axis(x, axis, size, place) if several or number >= shared else x
            for number, (x, axis) in enumerate(zip(operands, axes, strict=True))
        ]
        results = made.bind(*moved, **keywords)
        return results, [place] * len(results)

    ad.primitive_jvps[made] = functools.partial(jvp_of_plain, plain)
    batching.primitive_batchers[made] = batch
    return made


def transpose_each_other(one: Primitive, other: Primitive, fixed: Callable[..., int]) -> None:
    """Make each of two primitives the transpose of the other.

    Args:
      one: linear in its operands after the first ``fixed(keywords)``, up to the masks.
      other: likewise, with the same first operands and masks.
      fixed: maps the keywords to the number of operands that are not linear.
    """
    ad.primitive_transposes[one] = functools.partial(_transpose, other, fixed)
    ad.primitive_transposes[other] = functools.partial(_transpose, one, fixed)


def compiled(primitive: Primitive, static: Sequence[str]) -> Callable[..., Any]:
    """The implementation of a primitive outside of ``jit``, compiled also under `jax.disable_jit`."""
    bind = jax.jit(primitive.bind, static_argnames=static)

    def impl(*operands: Any, **keywords: Any) -> Any:
        with jax.disable_jit(disable=False):
            return bind(*operands, **keywords)

    return impl


def lowering(kernel: Callable[..., Any], portable: Callable[..., Any]) -> Callable[..., Any]:
    """The lowering of a primitive to a kernel; to ``portable`` in a program that is exported.

    Kernels have no place in an exported program (`jax.export`): where it is loaded there may be none.
    """
    rules = [mlir.lower_fun(function, multiple_results=True) for function in (kernel, portable)]

    def rule(context: Any, *operands: Any, **keywords: Any) -> Any:
        parameters = getattr(context.module_context, "lowering_parameters", None)
        return rules[bool(getattr(parameters, "for_export", False))](context, *operands, **keywords)

    return rule


def jvp_of_plain(
    plain: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], **keywords: Any
) -> Any:
    """The JVP rule of a primitive: that of an equivalent JAX function."""
    tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
    return jax.jvp(functools.partial(plain, **keywords), tuple(primals), tuple(tangents))


def one_after_the_other(bind: Callable[..., Any], operands: Sequence[Any], axes: Sequence[Any]) -> Any:
    """The batching rule of a primitive that cannot be vectorized: a loop."""
    (size,) = {x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None}
    operands = [_to_axis(x, axis, size, 0) for x, axis in zip(operands, axes, strict=True)]
    results = jax.lax.map(lambda each: bind(*each), operands)
    return results, [0] * len(results)


def _to_axis(x: jax.Array, axis: int | None, size: int, place: int) -> jax.Array:
    if axis is not None:
        return jnp.moveaxis(x, axis, place)
    return jnp.broadcast_to(jnp.expand_dims(x, place), (*x.shape[:place], size, *x.shape[place:]))


def _for_each_model(plain: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the weights of one model, for weights with any number of axes of models."""

    def function(*operands: jax.Array, **keywords: Any) -> Any:
        mapped = functools.partial(plain, **keywords)
        for _ in range(operands[0].ndim - 2):
            mapped = jax.vmap(mapped)
        return mapped(*operands)

    return function


def _over_rows(
    native: Callable[..., Any],
    plain: Callable[..., Any],
    shared: int,
    *operands: jax.Array,
    masked: tuple[bool, bool],
    **flags: bool,
) -> Sequence[jax.Array]:
    """Apply a kernel over one axis of models and one of rows to any number of either."""
    models, rank = operands[0].ndim - 2, operands[shared].ndim - 2

    def function(_: tuple[str, ...], *operands: jax.Array) -> Sequence[jax.Array]:
        batch = operands[shared].shape[:rank]
        count = math.prod(batch[:models])
        weights = [x.reshape(count, *x.shape[models:]) for x in operands[:shared]]
        size = count, math.prod(batch[models:])
        rows = [x.reshape(*size, *x.shape[rank:]) for x in operands[shared:]]
        count = len(rows) - sum(masked)
        inputs, masks = [*weights, *rows[:count]], rows[count:]
        results = native(*inputs, masks=unpack(masked, masks), **flags)
        if results is NotImplemented:
            return plain(*operands, masked=masked, **flags)
        return [x.reshape(*batch, *x.shape[2:]) for x in results]

    if is_partly_manual():
        return plain(*operands, masked=masked, **flags)
    axes = [models if place < shared else rank for place in range(len(operands))]
    return divided_by_rows(function, axes)(*operands)


def operands_of(masks: Masks, *arrays: Array) -> tuple[list[jax.Array], tuple[bool, bool]]:
    """The operands of a primitive, and which masks are among them, for its keyword ``masked``."""
    present = [mask for mask in masks if mask is not None]
    return vary_alike([*arrays, *present], like=()), (masks.valid is not None, masks.fresh is not None)


def _operands(masks: Masks, flags: Sequence[bool], *arrays: Array) -> tuple[list[jax.Array], dict[str, Any]]:
    operands, masked = operands_of(masks, *arrays)
    reverse, states = flags
    return operands, {"masked": masked, "reverse": reverse, "states": states}


def unpack(masked: tuple[bool, bool], masks: Sequence[jax.Array]) -> Masks:
    """The masks from those that are present."""
    masks = list(masks)
    return Masks(*(masks.pop(0) if present else None for present in masked))


def _transpose(
    other: Primitive, fixed: Callable[..., int], cotangents: Sequence[Any], *operands: Any, **keywords: Any
) -> Any:
    """The transpose rule of the linearization and of its transpose."""
    first, last = fixed(keywords), len(operands) - sum(keywords["masked"])
    wanted = [ad.is_undefined_primal(x) for x in operands[first:last]]
    results = other.bind(
        *operands[:first], *map(ad.instantiate_zeros, cotangents), *operands[last:], **keywords
    )
    kept = [result if want else None for result, want in zip(results, wanted, strict=True)]
    return [None] * first + kept + [None] * len(operands[last:])


# The computations of the primitives, and the shapes and dtypes of their results.


def _time_major(tree: Any, axis: int = -2) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), tree)


def _batch_major(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2), tree)


def _run_keeping_plain(
    kernel: jax.Array,
    bias: jax.Array,
    projected: jax.Array,
    hidden: jax.Array,
    cell: jax.Array,
    *masks: jax.Array,
    masked: tuple[bool, bool],
    **flags: bool,
) -> tuple[jax.Array, ...]:
    state, time_masks = LSTMState(hidden, cell), _time_major(unpack(masked, masks), -1)
    after, shown, kept = recurrence.run_keeping(
        kernel, bias, _time_major(projected), state, time_masks, **flags
    )
    return (*after, *_batch_major((*shown, *kept)))


def _run_plain(*operands: jax.Array, **keywords: Any) -> tuple[jax.Array, ...]:
    return _run_keeping_plain(*operands, **keywords)[:4]


def run_keeping_avals(*operands: Any, states: bool, **_: Any) -> Any:
    """Shapes and dtypes of the results of ``run_keeping``."""
    _, _, projected, hidden, cell = operands[:5]
    *batch, time, _ = projected.shape
    size = hidden.shape[-1]
    outputs, cells = hidden.update(shape=(*batch, time, size)), cell.update(shape=(*batch, time, size))
    shown = cell.update(shape=(*batch, time * states, size))
    return [hidden, cell, outputs, shown, projected, cells, outputs]


def run_avals(*operands: Any, **keywords: Any) -> Any:
    """Shapes and dtypes of the results of ``run``."""
    return run_keeping_avals(*operands, **keywords)[:4]


def _linear_plain(
    kernel: jax.Array,
    gates: jax.Array,
    cell: jax.Array,
    gates_dot: jax.Array,
    hidden_dot: jax.Array,
    cell_dot: jax.Array,
    *masks: jax.Array,
    masked: tuple[bool, bool],
    **flags: bool,
) -> tuple[jax.Array, ...]:
    # Of the hidden states, only the dtype is used.
    kept = Kept(*_time_major((gates, cell, cell.astype(hidden_dot.dtype))))
    state_dot, time_masks = LSTMState(hidden_dot, cell_dot), _time_major(unpack(masked, masks), -1)
    after, shown = recurrence.linear(kernel, kept, time_masks, _time_major(gates_dot), state_dot, **flags)
    return *after, *_batch_major(tuple(shown))


def linear_avals(*operands: Any, states: bool, **_: Any) -> Any:
    """Shapes and dtypes of the results of ``linear``."""
    _, _, cell, _, hidden_dot, cell_dot = operands[:6]
    *batch, time, size = cell.shape
    shown = cell_dot.update(shape=(*batch, time * states, size))
    return [hidden_dot, cell_dot, hidden_dot.update(shape=cell.shape), shown]


def _transposed_plain(
    kernel: jax.Array,
    gates: jax.Array,
    cell: jax.Array,
    hidden_bar: jax.Array,
    cell_bar: jax.Array,
    outputs_bar: jax.Array,
    cells_bar: jax.Array,
    *masks: jax.Array,
    **keywords: Any,
) -> tuple[jax.Array, ...]:
    def function(*tangents: jax.Array) -> tuple[jax.Array, ...]:
        return _linear_plain(kernel, gates, cell, *tangents, *masks, **keywords)

    cotangents = (hidden_bar, cell_bar, outputs_bar, cells_bar)
    return jax.linear_transpose(function, gates, hidden_bar, cell_bar)(cotangents)


def transposed_avals(*operands: Any, **_: Any) -> Any:
    """Shapes and dtypes of the results of ``transposed``."""
    _, gates, _, hidden_bar, cell_bar = operands[:5]
    return [gates, hidden_bar, cell_bar]
