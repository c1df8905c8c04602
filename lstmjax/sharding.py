"""Arrays over the axes of a device mesh: their types, and programs that are divided along the batch.

A mesh has axes of three kinds. XLA divides a program over automatic axes by itself, but a call of a kernel
only by a rule (`divided_by_rows`). Explicit axes are in the types of arrays; `over_automatic_axes` runs a
function as if they were automatic. Over manual axes, those of `jax.shard_map`, a program is one shard
(`vary_alike`).
"""

import functools
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def vary_alike(tree: Any, like: Any) -> Any:
    """Mark ``tree`` as varying over all mesh axes (of `jax.shard_map`) over which either argument varies.

    A scan requires equal types of the state before and after a step, and the state after it varies over all
    axes of the parameters and inputs. Outside of ``shard_map`` this does nothing.
    """
    axes = frozenset[str]().union(*(varying_axes(leaf) for leaf in jax.tree.leaves((tree, like))))

    def one(leaf: Any) -> Any:
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(one, tree)


def varying_axes(leaf: Any) -> frozenset[str]:
    """The mesh axes (of `jax.shard_map`) over which an array varies."""
    axis_type = getattr(jax.typeof(leaf), "manual_axis_type", None)
    return frozenset() if axis_type is None else axis_type.varying


def divide_alike(tree: Any, like: Any) -> Any:
    """Divide the first axis of every array over explicit mesh axes as the first axis of ``like`` is.

    Of a tree as ``like``, the first array decides. Without explicit axes this does nothing.
    """
    leaves = jax.tree.leaves(like)
    sharding: Any = _sharding(leaves[0]) if leaves else None
    if not _is_explicit(sharding):
        return tree
    return jax.tree.map(lambda leaf: jax.sharding.reshard(leaf, PartitionSpec(*sharding.spec[:1])), tree)


def _sharding(leaf: Any) -> Any:
    """The sharding in the type of an array; of one that is no tracer, its own, which is at hand."""
    return jax.typeof(leaf).sharding if isinstance(leaf, jax.core.Tracer) else getattr(leaf, "sharding", None)


def _is_explicit(sharding: Any) -> bool:
    return AxisType.Explicit in getattr(getattr(sharding, "mesh", None), "axis_types", ())


def over_automatic_axes(
    function: Callable[..., tuple[Any, ...]], *arguments: Any, rows: Any, time_axis: int
) -> tuple[Any, ...]:
    """Call a function whose results are divided over the explicit axes of a mesh as the batch is.

    Within the call these axes are automatic, so that the function needs no rule for explicit types. Where no
    array has an explicit axis this is ``function(*arguments)``.

    Args:
      function: of ``arguments``, to a tuple: first a tree of arrays ``[..., ...]``, then trees of arrays with
        the axis of time among those of the batch.
      arguments: pytrees of arrays.
      rows: an array with the axes of the batch, that of time among them, and one more.
      time_axis: which one it is; it is not divided.
    """
    explicit = list(filter(_is_explicit, map(_sharding, jax.tree.leaves(arguments))))
    if not explicit:
        return function(*arguments)
    axes = [*jax.typeof(rows).sharding.spec, *[None] * rows.ndim][: rows.ndim - 1]
    del axes[time_axis]
    mesh: Any = explicit[0].mesh
    of_state, of_rows = (
        NamedSharding(mesh, PartitionSpec(*spec))
        for spec in (axes, [*axes[:time_axis], None, *axes[time_axis:]])
    )
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    names = tuple(name for name, kind in kinds if kind == AxisType.Explicit)
    pair = jax.sharding.auto_axes(_first_and_rest(function), axes=names, out_sharding=(of_state, of_rows))
    state, rest = pair(*arguments)
    return state, *rest


def _first_and_rest(function: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, Any]]:
    def pair(*arguments: Any) -> tuple[Any, Any]:
        first, *rest = function(*arguments)
        return first, rest

    return pair


def is_partly_manual() -> bool:
    """Whether some axes of the mesh are manual here and others are not: a kernel then has no rule."""
    kinds = set(getattr(jax.sharding.get_abstract_mesh(), "axis_types", None) or ())
    return AxisType.Manual in kinds and len(kinds) > 1


def divided_by_rows(
    function: Callable[..., Sequence[jax.Array]],
    operand_axes: Sequence[int],
    whole: Collection[int] = (),
) -> Callable[..., Sequence[jax.Array]]:
    """A function of arrays that XLA divides over automatic mesh axes along the batch, and only along it.

    Without a rule, XLA computes all rows on every device, since it cannot see into the call of a kernel.

    Args:
      function: of the names of the mesh axes that divide the batch, none if it is not divided, and of arrays,
        to a sequence of arrays; rows do not depend on each other.
      operand_axes: how many of the batch axes each operand begins with; results begin with all of them.
      whole: places of results without batch axes, which are the same on every device.
    """
    if is_partly_manual():
        return functools.partial(function, ())
    rank = max(operand_axes)

    def axes_of(arrays: Sequence[Any], results: bool) -> Sequence[int]:
        return [rank * (place not in whole) for place in range(len(arrays))] if results else operand_axes

    def rule(_: Any, *sides: Sequence[Any]) -> str:
        """The axes of all arrays by name, as in an einsum: only those of the batch occur twice."""
        number = itertools.count()

        def names(array: Any, axes: int) -> str:
            own = (f"x{next(number)}" for _ in array.shape[axes:])
            return " ".join([*(f"b{axis}" for axis in range(axes)), *own])

        operands, results = (
            ",".join(map(names, side, axes_of(side, results)))
            for side, results in zip(sides, (False, True), strict=True)
        )
        return f"{operands}->{results}"

    def partition(mesh: Any, *sides: Sequence[Any]) -> Any:
        batch = sides[0][operand_axes.index(rank)].sharding.spec[:rank]
        operands, results = (
            [NamedSharding(mesh, PartitionSpec(*batch[:axes])) for axes in axes_of(side, results)]
            for side, results in zip(sides, (False, True), strict=True)
        )
        return mesh, functools.partial(function, tuple(jax.tree.leaves(batch))), results, tuple(operands)

    divided = custom_partitioning(lambda *operands: list(function((), *operands)))
    divided.def_partition(partition, sharding_rule=rule)
    return divided


def needs_devices(primitive: Primitive) -> None:
    """Declare that the lowering of a primitive uses `divided_by_rows`, which must know the devices."""
    try:
        from jax._src import dispatch  # noqa: PLC0415 (there is no public name)
    except ImportError:
        return
    getattr(dispatch, "prim_requires_devices_during_lowering", set[Primitive]()).add(primitive)
