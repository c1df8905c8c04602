"""Argument checks shared by cells, attention and other parts.

They run while JAX traces, so they cost no run time.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.types import Array, at_least_float32


def check_sizes(name: str, **sizes: int) -> None:
    """Raise ValueError unless every size is a positive integer."""
    for argument, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}: {argument} must be a positive integer, got {size!r}.")


def resolve_dtypes(name: str, part: Any) -> None:
    """Make ``dtype`` and ``param_dtype`` of a frozen dataclass canonical; TypeError if not floating."""
    for argument in ("dtype", "param_dtype"):
        value = getattr(part, argument)
        if argument == "param_dtype" and value is None:
            value = at_least_float32(part.dtype)
        if not jnp.issubdtype(value, jnp.floating):
            raise TypeError(f"{name}: {argument} must be a floating point dtype, got {value!r}.")
        if jax.dtypes.canonicalize_dtype(value) != value:
            raise TypeError(
                f"{name}: {argument} {jnp.dtype(value)} needs jax.config.update('jax_enable_x64', True)."
            )
        object.__setattr__(part, argument, jnp.dtype(value))


def check_tree(name: str, tree: Any, expected: Any, maker: str) -> None:
    """Raise unless ``tree`` has the structure (TypeError), shapes (ValueError) and dtypes of ``expected``."""
    want_structure: Any = jax.tree.structure(expected)
    structure: Any = jax.tree.structure(tree)
    if structure != want_structure:
        raise TypeError(
            f"{name} must have the structure that {maker} returns,\n  {want_structure}\ngot\n  {structure}"
        )
    for (path, want), leaf in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(tree), strict=True
    ):
        where = name + jax.tree_util.keystr(path)
        if jnp.shape(leaf) != want.shape:
            raise ValueError(
                f"{where} must have shape {want.shape}, as {maker} makes it, got {jnp.shape(leaf)}."
            )
        if jnp.result_type(leaf) != want.dtype:
            raise TypeError(
                f"{where} must have dtype {want.dtype}, as {maker} makes it, got {jnp.result_type(leaf)}."
            )


def check_lengths(lengths: Any, batch_shape: tuple[int, ...], time: int) -> Array:
    """Lengths as an array; raise unless they are integers of the batch's shape in ``0..time``."""
    lengths = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got {describe(lengths)}.")
    if lengths.shape != batch_shape:
        raise ValueError(
            f"lengths must have the batch shape of the inputs, {batch_shape}, got {lengths.shape}."
        )
    known = not isinstance(lengths, jax.core.Tracer) and getattr(lengths, "is_fully_addressable", True)
    if lengths.size and known:
        values = np.asarray(lengths)
        if values.min() < 0 or values.max() > time:
            row = np.unravel_index(np.argmax((values < 0) | (values > time)), values.shape)
            where = "".join(f"[{index}]" for index in row)
            raise ValueError(
                f"lengths must lie in 0..{time}, the time axis of the inputs; lengths{where} is "
                f"{values[row]}."
            )
    return lengths


def describe(value: Any) -> str:
    """A short text for error messages: dtype and shape of an array, the type of anything else."""
    if hasattr(value, "shape"):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__


def arguments(part: Any) -> list[str]:
    """Arguments of the call that makes an equal dataclass; options with default values are left out."""
    fields = dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()
    default = {field.name: field.default for field in fields if field.repr}
    if "param_dtype" in default:
        default["param_dtype"] = at_least_float32(part.dtype)
    changed = {name: getattr(part, name) for name in default if getattr(part, name) != default[name]}
    return [
        f"{name}={repr(str(value)) if isinstance(value, np.dtype) else repr(value)}"
        for name, value in changed.items()
    ]
