"""The recurrence as JAX primitives, for platforms with dedicated kernels.

The computation of a primitive is defined once, by the scans of `lstmjax.backends.recurrence`: these run where
there is no kernel, and these are differentiated and transposed. `primitives` makes a `Recurrence` over
batch-major arrays from `Kernels`; `lstmjax.backends.native` has kernels for CPUs, `lstmjax.backends.pallas`
for GPUs.

Operands are flat: the weights, arrays of floats, and the masks that are present; the keyword ``masked``
specifies whether ``valid`` and ``fresh`` are present; the others are those of `Recurrence`. Weights may have
leading axes, those of several models: these are the first batch axes of all other arrays.
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
from lstmjax.backends.recurrence import Leaves, Recurrence, counts, leaves_before, parts
from lstmjax.backends.scan import Masks
from lstmjax.cells.elementwise import StagedCell
from lstmjax.sharding import divided_by_rows, is_partly_manual, needs_devices, vary_alike
from lstmjax.types import Array


class Kernels(NamedTuple):
    """Kernels for one platform, with keywords ``masks``, ``cell``, ``reverse`` and ``states``.

    Weights are ``[models, ...]``, other arrays ``[models, rows, ...]``. A function may return NotImplemented,
    while JAX traces, to fall back to the scans.
    """

    run: Callable[..., Any]
    """Operands and results are those of `Recurrence.run`."""
    run_keeping: Callable[..., Any]
    """Those of `Recurrence.run_keeping`."""
    transposed: Callable[..., Any]
    """Recurrent kernel and vectors of each stage, what ``run_keeping`` keeps, cotangents of the results of
    ``run``; to cotangents of what `Recurrence.linear` is linear in."""


def primitives(name: str, kernels: Kernels, platform: str | None) -> Recurrence:
    """The recurrence as primitives ``lstmjax_<name>_...`` with the given kernels.

    Args:
      name: of these kernels.
      kernels: for all primitives but the linearization, which only forward mode needs.
      platform: where the kernels are used, as JAX's lowering names it; None for everywhere.
    """
    make = functools.partial(_primitive, name, platform)
    run_p = make("run", _run_plain, kernels.run, run_avals, 3)
    run_keeping_p = make("run_keeping", _run_keeping_plain, kernels.run_keeping, run_keeping_avals, 3)
    linear_p = make("linear", _linear_plain, None, linear_avals, 2)
    transposed_p = make("transposed", _transposed_plain, kernels.transposed, transposed_avals, 2)
    ad.primitive_transposes[linear_p] = functools.partial(_transpose, transposed_p)
    ad.primitive_transposes[transposed_p] = functools.partial(_transpose, linear_p)

    def bind(primitive: Primitive, *arrays: Array, masks: Masks, **keywords: Any) -> Leaves:
        masked = masks.valid is not None, masks.fresh is not None
        present = [mask for mask in masks if mask is not None]
        return tuple(primitive.bind(*vary_alike([*arrays, *present], like=()), masked=masked, **keywords))

    return Recurrence(
        run=functools.partial(bind, run_p),
        run_keeping=functools.partial(bind, run_keeping_p),
        linear=functools.partial(bind, linear_p),
        batch_major=True,
        platform=platform,
    )


def _primitive(
    kernels: str,
    platform: str | None,
    name: str,
    plain: Callable[..., Any],
    native: Callable[..., Any] | None,
    avals: Callable[..., Any],
    weights: int,
) -> Primitive:
    """A primitive with all rules except transposition.

    Args:
      kernels: the name of the kernels.
      platform: where ``native`` is used; None for everywhere.
      name: of the primitive.
      plain: a JAX function of the operands and keywords; it defines the derivative.
      native: the same over rows, as a kernel, one of `Kernels`.
      avals: maps the abstract operands and keywords to the abstract results.
      weights: number of operands of each stage at the beginning that have no batch axes.
    """
    plain = _for_each_model(plain)
    made = Primitive(f"lstmjax_{kernels}_{name}")
    made.multiple_results = True
    made.def_impl(compiled(made, static=("masked", "reverse", "states", "cell")))
    made.def_abstract_eval(avals)
    mlir.register_lowering(made, mlir.lower_fun(plain, multiple_results=True))
    if native is not None:
        needs_devices(made)
        over_rows = functools.partial(_over_rows, native, plain, weights)
        mlir.register_lowering(made, lowering(over_rows, portable=plain), platform=platform)

    def batch(operands: Sequence[Any], axes: Sequence[int | None], **keywords: Any) -> Any:
        """One more axis of models if the weights have it, else of the batch, after those of models."""
        (size,) = {x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None}
        shared = weights * len(keywords["cell"].stages)
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
    weights: int,
    *operands: jax.Array,
    masked: tuple[bool, bool],
    **flags: Any,
) -> Sequence[jax.Array]:
    """Apply a kernel over one axis of models and one of rows to any number of either."""
    shared = weights * len(flags["cell"].stages)
    models, rank = operands[0].ndim - 2, operands[shared].ndim - 2

    def function(_: tuple[str, ...], *operands: jax.Array) -> Sequence[jax.Array]:
        batch = operands[shared].shape[:rank]
        count = math.prod(batch[:models])
        of_models = [x.reshape(count, *x.shape[models:]) for x in operands[:shared]]
        size = count, math.prod(batch[models:])
        rows = [x.reshape(*size, *x.shape[rank:]) for x in operands[shared:]]
        count = len(rows) - sum(masked)
        inputs, masks = [*of_models, *rows[:count]], rows[count:]
        results = native(*inputs, masks=_unpack(masked, masks), **flags)
        if results is NotImplemented:
            return plain(*operands, masked=masked, **flags)
        return [x.reshape(*batch, *x.shape[2:]) for x in results]

    if is_partly_manual():
        return plain(*operands, masked=masked, **flags)
    axes = [models if place < shared else rank for place in range(len(operands))]
    return divided_by_rows(function, axes)(*operands)


def _unpack(masked: tuple[bool, bool], masks: Sequence[jax.Array]) -> Masks:
    masks = list(masks)
    return Masks(*(masks.pop(0) if present else None for present in masked))


def _transpose(other: Primitive, cotangents: Sequence[Any], *operands: Any, **keywords: Any) -> Any:
    """The transpose rule of the linearization and of its transpose, each linear in its last floats."""
    first, last = _constants(keywords["cell"]), len(operands) - sum(keywords["masked"])
    wanted = [ad.is_undefined_primal(x) for x in operands[first:last]]
    results = other.bind(
        *operands[:first], *map(ad.instantiate_zeros, cotangents), *operands[last:], **keywords
    )
    kept = [result if want else None for result, want in zip(results, wanted, strict=True)]
    return [None] * first + kept + [None] * len(operands[last:])


# The computations of the primitives, and the shapes and dtypes of their results.


def _time_major(arrays: Sequence[jax.Array]) -> Leaves:
    return tuple(jnp.moveaxis(x, -2, 0) for x in arrays)


def _batch_major(arrays: Sequence[jax.Array]) -> Leaves:
    return tuple(jnp.moveaxis(x, 0, -2) for x in arrays)


def _without_masks(masked: tuple[bool, bool], operands: Sequence[jax.Array]) -> tuple[Leaves, Masks]:
    """The operands without the masks, and these, time-major."""
    count = len(operands) - sum(masked)
    masks = _unpack(masked, operands[count:])
    return tuple(operands[:count]), jax.tree.map(lambda mask: jnp.moveaxis(mask, -1, 0), masks)


def _run_keeping_plain(*operands: jax.Array, masked: tuple[bool, bool], **keywords: Any) -> Leaves:
    given, masks = _without_masks(masked, operands)
    count = len(keywords["cell"].stages)
    weights, projected, state = parts(given, 3 * count, count)
    results = recurrence.run_keeping(*weights, *_time_major(projected), *state, masks=masks, **keywords)
    return *results[: len(state)], *_batch_major(results[len(state) :])


def _run_plain(*operands: jax.Array, cell: StagedCell, **keywords: Any) -> Leaves:
    return _run_keeping_plain(*operands, cell=cell, **keywords)[: 2 * counts(cell).state]


def _linear_plain(
    *operands: jax.Array, masked: tuple[bool, bool], cell: StagedCell, **keywords: Any
) -> Leaves:
    stages, count, kept, terms = counts(cell)
    given, masks = _without_masks(masked, operands)
    weights, of_steps, others = parts(given, 2 * stages, sum(kept) + sum(terms))
    results = recurrence.linear(*weights, *_time_major(of_steps), *others, masks=masks, cell=cell, **keywords)
    return *results[:count], *_batch_major(results[count:])


def _transposed_plain(*operands: jax.Array, masked: tuple[bool, bool], **keywords: Any) -> Leaves:
    first, last = _constants(keywords["cell"]), len(operands) - sum(masked)
    constants, cotangents, masks = operands[:first], operands[first:last], operands[last:]

    def function(*tangents: jax.Array) -> Leaves:
        return _linear_plain(*constants, *tangents, *masks, masked=masked, **keywords)

    linear = transposed_avals(*map(jax.typeof, operands), **keywords)
    return jax.linear_transpose(function, *linear)(tuple(cotangents))


def _constants(cell: StagedCell) -> int:
    """Number of the first operands of the linearization, in which it is not linear."""
    return 2 * len(cell.stages) + sum(counts(cell).kept)


def run_keeping_avals(*operands: Any, cell: StagedCell, states: bool, **_: Any) -> list[Any]:
    """Shapes and dtypes of the results of ``run_keeping``."""
    count = len(cell.stages)
    _weights, projected, leaves, _masks = parts(operands, 3 * count, count, counts(cell).state)
    *batch, time, _inputs = projected[0].shape
    steps = (*batch, time, cell.hidden)
    asked = [leaf.update(shape=(*batch, time * states, cell.hidden)) for leaf in leaves[1:]]
    kept = []
    for stage, inputs, before in zip(cell.stages, projected, leaves_before(cell), strict=True):
        kept.append(inputs.update(shape=(*batch, time, stage.structure.columns * cell.hidden)))
        kept += [leaves[0].update(shape=steps, dtype=dtype) for dtype in before]
    return [*leaves, leaves[0].update(shape=steps), *asked, *kept]


def run_avals(*operands: Any, cell: StagedCell, **keywords: Any) -> list[Any]:
    """Shapes and dtypes of the results of ``run``."""
    return run_keeping_avals(*operands, cell=cell, **keywords)[: 2 * counts(cell).state]


def linear_avals(*operands: Any, masked: Any, cell: StagedCell, states: bool, **_: Any) -> list[Any]:
    """Shapes and dtypes of the results of ``linear``."""
    count, end_ = counts(cell).state, len(operands) - sum(masked)
    totals, leaves = operands[2 * len(cell.stages)], operands[end_ - count : end_]
    *batch, time, _columns = totals.shape
    shown = [
        leaf.update(shape=(*batch, time * (states or number == 0), cell.hidden))
        for number, leaf in enumerate(leaves)
    ]
    return [*leaves, *shown]


def transposed_avals(*operands: Any, cell: StagedCell, **_: Any) -> list[Any]:
    """Shapes and dtypes of the results of ``transposed``."""
    stages, count, kept, _terms = counts(cell)
    weights, residuals, last = parts(operands, 2 * stages, sum(kept))
    terms, vectors_bar = [], []
    for stage, vectors, (totals, *_before) in zip(
        cell.stages, weights[1::2], parts(residuals, *kept[:-1]), strict=True
    ):
        *batch, time, _columns = totals.shape
        structure = stage.structure
        columns = (structure.inputs,) if structure.summed else (structure.inputs, structure.products)
        terms += [totals.update(shape=(*batch, time, number * cell.hidden)) for number in columns]
        vectors_bar.append(totals.update(shape=(*batch, *vectors.shape[-2:])))
    return [*terms, *vectors_bar, *last[:count]]
