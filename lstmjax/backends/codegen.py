"""The functions of a `StagedCell` in C++, written from what JAX traces of them, with their derivatives.

``native.cc`` runs the products and the loop over time, and calls these functions for the units of a row.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from lstmjax.backends.recurrence import leaves_before
from lstmjax.cells.elementwise import Stage, StagedCell


class UnsupportedError(ValueError):
    """A cell's function has an operation without a form in C++; the message names it."""


class Source(NamedTuple):
    """A program in C++ with three functions of each stage: see ``Elementwise`` in ``native.cc``."""

    name: str
    """The same for equal programs."""
    text: str


@functools.cache
def source_of(cell: StagedCell) -> Source:
    """The program of a cell; sizes do not matter.

    Raises:
      UnsupportedError: its function has an operation without a form in C++.
    """
    with jax.enable_x64(True):  # the same program whatever the setting
        return _source_of(cell)


def _source_of(cell: StagedCell) -> Source:
    body = "\n".join(
        _stage(number, stage, [jax.ShapeDtypeStruct((), dtype) for dtype in dtypes], cell)
        for number, (stage, dtypes) in enumerate(zip(cell.stages, leaves_before(cell), strict=True))
    )
    kind = {"float32": "float", "float64": "double"}[str(jnp.dtype(cell.dtype))]
    text = f'#include "vectors.h"\n\nusing T = {kind};\n\n{body}'
    return Source(f"cell-{hashlib.sha256(text.encode()).hexdigest()[:16]}", text)


def _stage(place: int, stage: Stage, leaves: Sequence[jax.ShapeDtypeStruct], cell: StagedCell) -> str:
    structure, before = stage.structure, tuple(leaves)
    number = jax.ShapeDtypeStruct((), cell.wide_dtype)
    columns, inputs, products, vectors = ((number,) * count for count in structure)
    shared, is_last = structure.shared, place == len(cell.stages) - 1

    def keeping(inputs: Any, products: Any, biases: Any, vectors: Any, state: Any) -> Any:
        both = [x + y for x, y in zip(inputs[:shared], products[:shared], strict=True)]
        terms = (*both, *inputs[shared:], *products[shared:])
        totals = tuple(term + bias for term, bias in zip(terms, biases, strict=True))
        after = stage.after(totals, vectors, state)
        return after, after[:is_last], totals, state

    def forward(*arguments: Any) -> Any:
        return keeping(*arguments)[:2]

    def backward(totals: Any, vectors: Any, state: Any, sums: Any, later: Any, shown: Any) -> Any:
        _, pull_back = jax.vjp(stage.after, totals, vectors, state)
        after_bar = tuple(jax.tree.map(jnp.add, later, shown)) if is_last else later
        bars, vectors_bar, state_bar = pull_back(after_bar)
        sums = tuple(jax.tree.map(jnp.add, sums, vectors_bar))
        return bars[: structure.inputs], (*bars[:shared], *bars[structure.inputs :]), sums, state_bar

    after = jax.eval_shape(stage.after, columns, vectors, before)
    step = (inputs, products, columns, vectors, before)
    return "\n".join(
        _function(f"{function.__name__}{place}", function, given)
        for function, given in (
            (forward, step),
            (keeping, step),
            (backward, (columns, vectors, before, vectors, after, after if is_last else ())),
        )
    )


def _function(name: str, function: Callable[..., Any], arguments: Any) -> str:
    """A function in C++, with all arrays of arguments and results in order."""
    jaxpr = jax.make_jaxpr(function)(*arguments)
    lines: list[str] = []
    count = len(jaxpr.jaxpr.invars)
    names = _write(jaxpr, [f"in{i}" for i in range(count)], lines)
    load = "const Vector<T> in{0} = Load(static_cast<const T*>(in[{0}]) + u, lanes);"
    loads = [load.format(i) for i in range(count)]
    stores = [f"Store(static_cast<T*>(out[{i}]) + u, {value}, lanes);" for i, value in enumerate(names)]
    inner = "".join(f"    {line}\n" for line in [*loads, *lines, *stores])
    return (
        f'extern "C" void {name}(const void* const* in, void* const* out, int64_t units) {{\n'
        f"  const auto step = [&](int64_t u, auto lanes) {{\n{inner}  }};\n"
        "  int64_t u = 0;\n"
        "  for (; u + kLanes<T> <= units; u += kLanes<T>)\n"
        "    step(u, std::integral_constant<int, kLanes<T>>{});\n"
        "  if (u < units) step(u, int(units - u));\n"
        "}\n"
    )


def _write(jaxpr: ClosedJaxpr | Jaxpr, arguments: Sequence[str], lines: list[str]) -> list[str]:
    """Append the lines of a jaxpr and return the names of its results."""
    names: dict[Any, str] = {}
    if isinstance(jaxpr, ClosedJaxpr):
        names.update(zip(jaxpr.jaxpr.constvars, map(_constant, jaxpr.consts), strict=True))
        jaxpr = jaxpr.jaxpr
    names.update(zip(jaxpr.invars, arguments, strict=True))

    def name_of(atom: Any) -> str:
        return _constant(atom.val) if isinstance(atom, Literal) else names[atom]

    equations: Any = jaxpr.eqns
    for equation in equations:
        operands = [name_of(atom) for atom in equation.invars]
        name = equation.primitive.name
        if name in _CALLS:
            (inner,) = {"jaxpr", "call_jaxpr"} & equation.params.keys()
            results = _write(equation.params[inner], operands, lines)
        elif any(var.aval.shape for var in equation.outvars):
            raise UnsupportedError(f"its function of the units uses {name} for more than a number")
        elif name in _IDENTITIES:
            results = operands[:1]
        else:
            results = [f"x{len(lines)}"]
            lines.append(f"const auto {results[0]} = {_expression(equation, operands)};")
        names.update(zip(equation.outvars, results, strict=True))
    return [name_of(atom) for atom in jaxpr.outvars]


def _constant(value: Any) -> str:
    number = float(value)
    if math.isfinite(number):
        return f"(Vector<T>{{}} + T({number!r}))"
    text = "quiet_NaN()" if math.isnan(number) else "infinity()"
    return f"(Vector<T>{{}} {'-' if number < 0 else '+'} std::numeric_limits<T>::{text})"


def _expression(equation: Any, operands: Sequence[str]) -> str:
    name = equation.primitive.name
    if name not in _EXPRESSIONS:
        raise UnsupportedError(f"its function of the units uses {name}, which has no form in C++ here")
    return _EXPRESSIONS[name](equation, *operands)


def _form(text: str) -> Callable[..., str]:
    return lambda _, *operands: text.format(*operands)


def _convert(equation: Any, operand: str) -> str:
    if equation.invars[0].aval.dtype == bool:
        return f"{operand} ? {_constant(1)} : {_constant(0)}"
    return operand


def _integer_power(equation: Any, operand: str) -> str:
    power = equation.params["y"]
    product = " * ".join([operand] * abs(power)) or _constant(1)
    return product if power >= 0 else f"T(1) / ({product})"


_CALLS = ("jit", "pjit", "closed_call", "checkpoint", "custom_jvp_call", "custom_vjp_call")
"""Operations that do what is in their jaxpr once, unlike a scan."""

_IDENTITIES = ("copy", "copy_p", "reshape", "broadcast_in_dim", "squeeze", "pvary", "reshard", "reduce_sum")
"""Operations that do nothing to a single number; within a mesh, derivatives have sums over no axes."""

_EXPRESSIONS: dict[str, Callable[..., str]] = {
    "convert_element_type": _convert,
    "integer_pow": _integer_power,
    **{
        name: _form(f"{{0}} {sign} {{1}}")
        for name, sign in {
            "add": "+", "add_any": "+", "sub": "-", "mul": "*", "div": "/",
            "gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!=", "and": "&", "or": "|",
        }.items()
    },
    **{
        name: _form(f"{function}({{0}})")
        for name, function in {
            "neg": "-", "not": "~", "logistic": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log",
            "log1p": "Log1p", "sqrt": "Sqrt", "abs": "Abs", "sign": "Sign",
        }.items()
    },
    "square": _form("{0} * {0}"),
    "rsqrt": _form("T(1) / Sqrt({0})"),
    "max": _form("Max({0}, {1})"),
    "min": _form("Min({0}, {1})"),
    "clamp": _form("Min(Max({1}, {0}), {2})"),
    "select_n": _form("{0} ? {2} : {1}"),
}  # fmt: skip
