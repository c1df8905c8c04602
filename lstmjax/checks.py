"""Argument checks shared by cells, attention and other parts.

They run while JAX traces, so they cost no run time.
"""

import dataclasses
import math
import numbers
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.initializers import comparable, unboxing
from lstmjax.types import Array, at_least_float32


def check_sizes(name: str, **sizes: int) -> None:
    """Raise ValueError unless every size is a positive integer."""
    for argument, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}: {argument} must be a positive integer, got {size!r}.")


def resolve_number(
    name: str,
    part: Any,
    field: str,
    what: str = "a finite number",
    fits: Callable[[float], bool] = math.isfinite,
    *,
    argument: str = "",
) -> None:
    """Make a field of a frozen dataclass a Python float; ValueError unless it is a number that fits."""
    value = getattr(part, field)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not fits(float(value)):
        raise ValueError(f"{name}: {argument or field} must be {what}, got {value!r}.")
    object.__setattr__(part, field, float(value))


def resolve_rate(name: str, part: Any, field: str, *, argument: str = "") -> None:
    """`resolve_number` for a rate of dropout."""
    resolve_number(
        name, part, field, "a rate from 0 to below 1", lambda rate: 0 <= rate < 1, argument=argument
    )


def resolve_options(name: str, part: Any) -> None:
    """Make switches of a frozen dataclass booleans, ``forget_bias`` a float, and initializers `comparable`.

    Raises:
      TypeError: a switch, ``forget_bias`` or an initializer is something else.
    """
    for field in dataclasses.fields(part):
        option, value = field.name, getattr(part, field.name)
        if isinstance(field.default, bool):
            if not isinstance(value, bool | int | np.bool_) or value not in (False, True):
                raise TypeError(f"{name}: {option} must be True or False, got {value!r}.")
            object.__setattr__(part, option, bool(value))
        elif option == "forget_bias" and callable(value):
            object.__setattr__(part, option, comparable(value))
        elif option == "forget_bias":
            if np.ndim(value) or isinstance(value, str | bool | jax.core.Tracer) or value is None:
                raise TypeError(
                    f"{name}: forget_bias must be a number, or a GateBias such as initializers.chrono(100), "
                    f"got {describe(value)}; set other biases in the parameters that init returns."
                )
            object.__setattr__(part, option, float(value))
        elif option.endswith("_init"):
            if not callable(value):
                raise TypeError(
                    f"{name}: {option} must be a function (key, shape, dtype) -> array, such as "
                    f"jax.nn.initializers.he_normal(), got {describe(value)}."
                )
            object.__setattr__(part, option, unboxing(comparable(value)))


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


def check_tree(name: str, tree: Any, expected: Any, maker: str, of: Any = None) -> None:
    """Raise unless ``tree`` has the structure (TypeError), shapes (ValueError) and dtypes of ``expected``.

    ``maker``, or ``maker`` of ``of``, is what makes such trees. Texts are made for errors only: a call with
    arrays of a few units takes less time than they do.
    """
    structure: Any
    want_structure: Any
    leaves, structure = jax.tree.flatten(tree)
    want_leaves, want_structure = jax.tree.flatten(expected)
    if structure == want_structure and all(map(_is_like, leaves, want_leaves)):
        return
    maker = maker if of is None else f"{maker} of {of}"
    if structure != want_structure:
        raise TypeError(
            f"{name} must have the structure that {maker} returns,\n  {want_structure}\ngot\n  {structure}"
        )
    for (path, want), leaf in zip(jax.tree_util.tree_leaves_with_path(expected), leaves, strict=True):
        where = name + jax.tree_util.keystr(path)
        if jnp.shape(leaf) != want.shape:
            raise ValueError(
                f"{where} must have shape {want.shape}, as {maker} makes it, got {jnp.shape(leaf)}."
            )
        if jnp.result_type(leaf) != want.dtype:
            raise TypeError(
                f"{where} must have dtype {want.dtype}, as {maker} makes it, got {jnp.result_type(leaf)}."
            )


def _is_like(leaf: Any, want: Any) -> bool:
    dtype = leaf.dtype if isinstance(leaf, jax.Array) else jnp.result_type(leaf)
    return np.shape(leaf) == want.shape and dtype == want.dtype


_OF_A_MASK = (
    " Of a mask [..., time] whose padding is at the end, the lengths are mask.sum(axis=-1); mask= takes any."
)


def check_lengths(lengths: Any, batch_shape: tuple[int, ...], time: int) -> Array:
    """Lengths as an array; raise unless they are integers of the batch's shape in ``0..time``."""
    lengths = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(
            f"lengths must be integers, the number of valid steps of each row, got {describe(lengths)}."
            f"{_OF_A_MASK if lengths.dtype == jnp.bool_ else ''}"
        )
    if lengths.shape != batch_shape:
        raise ValueError(
            f"lengths must have the batch shape of the inputs, {batch_shape}, got {lengths.shape}."
            f"{_OF_A_MASK if lengths.shape == (*batch_shape, time) else ''}"
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


_ran_in: list[int] = []


def check_process() -> None:
    """Raise RuntimeError in a process that was forked from one in which JAX had run.

    JAX's threads do not exist there, and its runs would wait for them forever.
    """
    process = os.getpid()
    if not _ran_in:
        _ran_in.append(process)
    elif _ran_in[0] != process:
        raise RuntimeError(
            "this process was forked from one in which JAX had run, whose threads are not in this one: runs "
            "would never end. Start workers with multiprocessing.get_context('spawn'), or fork them first."
        )


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


def check_frames(
    name: str,
    logits: Array,
    blank: int,
    lengths: Array,
    labels: Array | None = None,
    label_lengths: Array | None = None,
) -> None:
    """Raise unless lengths and labels fit logits ``[..., time, classes]``, and the blank is a class."""
    batch, classes = jnp.shape(logits)[:-2], jnp.shape(logits)[-1]
    shapes = {"lengths": jnp.shape(lengths)}
    if labels is not None:
        shapes["labels[..., 0]"] = jnp.shape(labels)[:-1]
    if label_lengths is not None:
        shapes["label_lengths"] = jnp.shape(label_lengths)
    for what, shape in shapes.items():
        if shape != batch:
            raise ValueError(f"{name}: {what} must have shape {batch} to fit the logits, got {shape}.")
    if not 0 <= blank < classes:
        raise ValueError(f"{name}: blank must be a class in 0..{classes - 1}, got {blank}.")
