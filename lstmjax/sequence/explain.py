"""The cost of running a cell: the backend and the reason for it, floating point operations, memory."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from lstmjax.backends import Backend, Choice, choose, is_pointwise
from lstmjax.cells.cell import Cell
from lstmjax.checks import describe
from lstmjax.sequence.bidirectional import Bidirectional
from lstmjax.sequence.layers import Layer, Layers
from lstmjax.sequence.remat import Remat, segment
from lstmjax.sequence.unroll import unroll
from lstmjax.types import Params
from lstmjax.wrappers.stack import Stack

_JAXPRS = (ClosedJaxpr, Jaxpr)


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one run: of the forward pass alone, or with the backward pass."""

    flops: int
    """Floating point operations of the products of matrices and of convolutions, as the steps have them; a
    multiplication and an addition count as two."""
    memory: int
    """Bytes of temporary memory that XLA allocates, besides arguments and results."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The result of `explain`; `str` formats it as readable text."""

    cell: Cell | Layer
    shape: tuple[int, ...]
    parts: tuple[tuple[Cell, Choice], ...]
    """The cells that it consists of, in the order in which they run, and the backend of each."""
    parameters: int
    segment: int | None
    """With ``remat``, the number of steps between the states stored for the backward pass."""
    forward: Cost
    gradient: Cost
    """Of outputs and final state together with their gradient with respect to parameters and inputs."""

    def __str__(self) -> str:
        lines = [f"{self.cell} over inputs {list(self.shape)}: {self.parameters:,} parameters"]
        lines += [f"  {cell}: {choice.way} ({choice.reason})" for cell, choice in self.parts]
        if self.segment is not None:
            lines.append(f"  in segments of {self.segment} steps, computed twice for the gradient")
        for name, cost in (("forward", self.forward), ("with gradient", self.gradient)):
            lines.append(f"  {name}: {cost.flops / 1e9:.3g} GFLOP, {cost.memory / 2**20:.3g} MiB")
        return "\n".join(lines)


def explain(
    cell: Cell | Layer,
    shape: tuple[int, ...],
    *,
    lengths: bool = False,
    resets: bool = False,
    backend: Backend = "auto",
    remat: Remat = None,
) -> Explanation:
    """Report the backends and the cost of a cell or layer on inputs of a given shape, without running it.

    The memory is what XLA plans when it compiles the run, so this compiles, which takes a second or two. The
    operations are counted in the jaxpr of the scan, since XLA counts a loop's body once and native code not
    at all.

    Args:
      cell: a `Cell`, or a layer made by `bidirectional` or `layers`.
      shape: of the inputs, ``[..., time, features]``.
      lengths: whether the run has lengths.
      resets: whether the run has resets.
      backend: as for `unroll`.
      remat: as for `unroll`.

    Raises:
      ValueError: as `unroll` does for inputs of this shape.

    Example:
      >>> import lstmjax
      >>> explanation = explain(lstmjax.lstm(64, 128), (32, 100, 64), backend="scan")
      >>> explanation.forward.flops == 2 * 32 * 100 * (64 + 128) * 4 * 128
      True
      >>> [(str(part), choice.way) for part, choice in explanation.parts]
      [('LSTM(features=64, hidden=128)', 'scan')]
    """
    if not isinstance(shape, list | tuple) or len(shape) < 2:
        raise ValueError(
            f"explain: shape must be [..., time, features], as of inputs.shape, got {describe(shape)}."
        )
    params = jax.eval_shape(cell.init, jax.random.key(0))
    way = functools.partial(choose, backend, needs=["resets"] * resets, rows=math.prod(shape[:-2]))
    parts = tuple((part, way(part)) for part in _parts(cell))
    steps = segment(remat, shape[-2])
    masks: dict[str, Any] = {}
    if lengths:
        masks["lengths"] = jax.ShapeDtypeStruct(shape[:-2], jnp.int32)
    if resets:
        masks["resets"] = jax.ShapeDtypeStruct(shape[:-1], bool)

    def forward(backend: Backend, params: Params, inputs: jax.Array, masks: Any) -> Any:
        return unroll(cell, params, inputs, **masks, backend=backend, remat=remat)

    def gradient(backend: Backend, params: Params, inputs: jax.Array, masks: Any, cotangents: Any) -> Any:
        run = functools.partial(forward, backend, masks=masks)
        results, pull_back = jax.vjp(run, params, inputs)
        return results, pull_back(cotangents)

    def cost(function: Any, *arguments: Any) -> Cost:
        operations = _flops(jax.make_jaxpr(functools.partial(function, "scan"))(*arguments))
        return Cost(operations, _memory(functools.partial(function, backend), *arguments))

    inputs = jax.ShapeDtypeStruct(shape, cell.input_dtype)
    results = jax.eval_shape(functools.partial(forward, backend), params, inputs, masks)
    return Explanation(
        cell=cell,
        shape=tuple(shape),
        parts=parts,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        segment=steps,
        forward=cost(forward, params, inputs, masks),
        gradient=cost(gradient, params, inputs, masks, results),
    )


def _flops(jaxpr: Jaxpr | ClosedJaxpr) -> int:
    """The operations of products and convolutions, borders included; those of a scan as often as it runs."""
    equations: Any = getattr(jaxpr, "jaxpr", jaxpr).eqns
    total = 0
    for equation in equations:
        about, shapes = equation.params, [atom.aval.shape for atom in equation.invars]
        if equation.primitive.name == "dot_general":
            (summed, _), _ = about["dimension_numbers"]
            total += 2 * equation.outvars[0].aval.size * math.prod(shapes[0][axis] for axis in summed)
        elif equation.primitive.name == "conv_general_dilated":
            outputs = shapes[1][about["dimension_numbers"].rhs_spec[0]]
            total += 2 * equation.outvars[0].aval.size * math.prod(shapes[1]) // outputs
        inner = [leaf for leaf in jax.tree.leaves(list(about.values())) if isinstance(leaf, _JAXPRS)]
        total += about.get("length", 1) * sum(map(_flops, inner))
    return total


def _memory(function: Any, *arguments: Any) -> int:
    analysis: Any = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return analysis.temp_size_in_bytes


def _parts(cell: Cell | Layer) -> Iterator[Cell]:
    """The cells that are run separately, as `lstmjax.backends.run` splits a cell."""
    inner: tuple[Cell | Layer, ...] = ()
    if isinstance(cell, Bidirectional):
        inner = (cell.forward, cell.backward)
    elif isinstance(cell, Layers):
        inner = cell.parts
    elif type(cell) is Stack:
        inner = cell.cells
    elif is_pointwise(cell):
        inner = (cell.cell,)
    elif isinstance(cell, Cell):
        yield cell
    for part in inner:
        yield from _parts(part)
