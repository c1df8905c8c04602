"""Varying types of arrays over the axes of a device mesh."""

from typing import Any

import jax


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
