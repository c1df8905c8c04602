"""Where a computation first goes wrong: the first tensor with NaN or infinity, and the time step in it."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core, source_info_util

_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


class Place(NamedTuple):
    """Where a value that is not finite appears first."""

    what: str
    """A leaf of the arguments by its path, or an operation with the line of code that it is from."""
    entry: tuple[int, ...]
    """The index of the first such entry of the array."""
    loops: tuple[int, ...]
    """The number of the iteration of each `jax.lax.scan` around it, outermost first."""

    def __str__(self) -> str:
        loops = "".join(f", in step {number} of the scan" for number in self.loops)
        return f"{self.what}, first at index {list(self.entry)}{loops}"


class _Found(Exception):
    def __init__(self, place: Place) -> None:
        super().__init__(str(place))
        self.place = place


def locate(function: Callable[..., Any], *arguments: Any) -> Place | None:
    """Find the first value that is not finite, by computing operation by operation.

    Arguments and constants are searched first. Of operations, one counts that makes NaN from arguments
    without NaN, or, if there is none, one that makes infinity from finite ones; so the minus infinities of
    masks are not mistaken for the cause. Loops other than `jax.lax.scan`, and primitives of this library, are
    taken as one operation.

    Returns:
      The place; None if all values are finite.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(arguments):
        index = _first(leaf, np.isfinite)
        if index is not None:
            return Place(f"argument {jax.tree_util.keystr(path)}", index, ())
    closed = jax.make_jaxpr(function)(*arguments)
    for constant in closed.consts:
        index = _first(constant, _is_number)
        if index is not None:
            return Place(f"a constant {constant.dtype}{list(constant.shape)}", index, ())
    for is_good in (_is_number, np.isfinite):
        try:
            _run(closed, jax.tree.leaves(arguments), is_good, ())
        except _Found as found:
            return found.place
    return None


def _is_number(values: Any) -> Any:
    return ~np.isnan(values)


def _is_nan(atom: Any) -> bool:
    return isinstance(atom, core.Literal) and _first(atom.val, _is_number) is not None


def _first(leaf: Any, is_good: Callable[[Any], Any]) -> tuple[int, ...] | None:
    """The index of the first entry that is not good."""
    if not jax.dtypes.issubdtype(jax.dtypes.result_type(leaf), np.inexact):  # nor are PRNG keys
        return None
    values = np.asarray(leaf)
    bad = ~is_good(values if np.iscomplexobj(values) else values.astype(np.float64))
    return tuple(map(int, np.unravel_index(bad.argmax(), bad.shape))) if bad.any() else None


def _run(
    closed: core.ClosedJaxpr, values: Iterable[Any], is_good: Callable[[Any], Any], loops: tuple[int, ...]
) -> list[Any]:
    known: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    known |= zip(closed.jaxpr.invars, values, strict=True)

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in closed.jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        results = _apply(equation, inputs, is_good, loops)
        for variable, result in zip(equation.outvars, results, strict=True):
            known[variable] = result
        # A literal NaN is a cause; a literal infinity is that of a mask.
        given = [value for atom, value in zip(equation.invars, inputs, strict=True) if not _is_nan(atom)]
        if all(_first(value, is_good) is None for value in given):
            for result in results:
                index = _first(result, is_good)
                if index is not None:
                    line = source_info_util.summarize(equation.source_info)
                    shape = f"{result.dtype}{list(result.shape)}"
                    raise _Found(Place(f"{equation.primitive.name} {shape}, {line}", index, loops))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _apply(
    equation: Any, inputs: list[Any], is_good: Callable[[Any], Any], loops: tuple[int, ...]
) -> list[Any]:
    """The results of one operation; those with a program of their own are entered."""
    if equation.primitive.name == "scan":
        return _scan(equation.params, inputs, is_good, loops)
    for name in _CALLS:
        inner = equation.params.get(name)
        if isinstance(inner, core.Jaxpr):
            inner = core.ClosedJaxpr(inner, ())
        if isinstance(inner, core.ClosedJaxpr) and len(inner.jaxpr.invars) == len(inputs):
            return _run(inner, inputs, is_good, loops)
    primitive = equation.primitive
    results = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return list(results) if primitive.multiple_results else [results]


def _scan(
    parameters: dict[str, Any], inputs: list[Any], is_good: Callable[[Any], Any], loops: tuple[int, ...]
) -> list[Any]:
    constants, carries = parameters["num_consts"], parameters["num_carry"]
    fixed, carry = inputs[:constants], inputs[constants : constants + carries]
    each, length = inputs[constants + carries :], parameters["length"]
    outputs: dict[int, list[Any]] = {}
    for number in reversed(range(length)) if parameters["reverse"] else range(length):
        slices = [array[number] for array in each]
        results = _run(parameters["jaxpr"], [*fixed, *carry, *slices], is_good, (*loops, number))
        carry, outputs[number] = results[:carries], results[carries:]
    avals = parameters["jaxpr"].out_avals[carries:]
    stacked = [
        np.stack([np.asarray(outputs[number][k]) for number in range(length)])
        if length
        else np.zeros((0, *aval.shape), aval.dtype)
        for k, aval in enumerate(avals)
    ]
    return [*carry, *stacked]
