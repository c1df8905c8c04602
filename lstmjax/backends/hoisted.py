r"""Any cell over a sequence, with all that does not wait for the state taken out of the loop.

The equations of a step are sorted by what they depend on. Those of parameters alone are computed once, those
of inputs for all steps at once: a product of the inputs with a kernel is one large product. The loop keeps
those that depend on the state. The tangent of a kernel W in a product there, :math:`y_t = s_t W`, is added
from outside,

.. math:: \dot y_t = \dot s_t W + s_t \dot W

so that JAX transposes the second term, for all steps at once, into one product, the kernel's gradient.
Differentiating a scan would add up a product per step and, with the batch divided over devices, sum it over
them in each step. For the same reason a vector that all rows are multiplied with, or that is added to them,
is copied for each row before the loop.

Where no derivative is asked for, all that changes is computed within the loop: there it stays in the
processor's cache, and one core does the products of the inputs while another does those of the state.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from lstmjax.sharding import vary_alike

PRODUCTS = {"dot_general", "conv_general_dilated"}
"""Operations that are linear in each of two operands."""

PER_ROW = {"add", "sub", "mul", "div"}
"""Operations of each number by itself, with operands of equal shapes or with axes of size 1."""

CALLS = {"jit", "pjit", "closed_call"}

ONCE, EACH, LOOP = range(3)
"""Levels: what depends on parameters only, on inputs too, on the state too."""

Atom = int | Literal
Environment = dict[int, Any]


@dataclasses.dataclass(eq=False)
class _Equation:
    """An equation of a step; its operands and results are numbers of values, or literals."""

    equation: JaxprEqn
    operands: list[Atom]
    results: list[int]
    level: int = ONCE
    kernel: int | None = None
    """Which operand is a kernel, of a product with what depends on the state."""

    @property
    def name(self) -> str:
        return self.equation.primitive.name

    @property
    def result(self) -> Any:
        """The abstract value of its first result."""
        return self.equation.outvars[0].aval

    def __call__(self, *operands: Any) -> list[Any]:
        primitive = self.equation.primitive
        with self.equation.ctx.manager:
            results = primitive.bind(*operands, **primitive.get_bind_params(self.equation.params))
        return list(results) if primitive.multiple_results else [results]


@dataclasses.dataclass(eq=False)
class _Step:
    """The equations of a step, with those of the functions it calls."""

    equations: list[_Equation]
    values: Environment
    """Those that are known."""
    inputs: list[int]
    outputs: list[Atom]


def loop(
    body: Callable[[Any, Any], tuple[Any, Any]], state: Any, given: Any, reverse: bool = False
) -> tuple[Any, Any]:
    """What `jax.lax.scan` computes, and its derivative, with as little as can be within the loop.

    Args:
      body: of the state and of what is given for a step, to the next state, of the same type, and results.
      state: before the first step.
      given: arrays ``[time, ...]``.
      reverse: whether steps are taken from the last to the first.

    Returns:
      The last state, and the results ``[time, ...]``.
    """
    arrays, tree = jax.tree.flatten(given)
    if not arrays or len(arrays[0]) == 0:
        return jax.lax.scan(body, state, given, reverse=reverse)
    first = jax.tree.unflatten(tree, [array[0] for array in arrays])
    closed, shape = jax.make_jaxpr(body, return_shape=True)(state, first)
    if closed.effects:
        return jax.lax.scan(body, state, given, reverse=reverse)
    step = _flat(closed)
    count = len(jax.tree.leaves(state))
    carried, changing = step.inputs[:count], step.inputs[count:]
    levels = _sort(step, carried, changing)
    once, each, within = ([one for one in step.equations if one.level == level] for level in range(3))
    if not any(one.name in PRODUCTS for one in (*each, *within)):
        return jax.lax.scan(body, state, given, reverse=reverse)
    values = _evaluate(once, step.values)
    _give_rows_their_own(within, values, levels)

    def needed(level: int, equations: Iterable[_Equation]) -> list[int]:
        atoms = itertools.chain(step.outputs, *(equation.operands for equation in equations))
        numbers = dict.fromkeys(atom for atom in atoms if isinstance(atom, int))
        return [number for number in numbers if levels[number] == level]

    fixed, ahead = needed(ONCE, (*each, *within)), needed(EACH, within)
    plan = _Plan(each, within, fixed, changing, ahead, carried, step.outputs, len(arrays[0]), reverse)
    results = _run(plan, [values[one] for one in fixed], arrays, jax.tree.leaves(state))
    return jax.tree.unflatten(jax.tree.structure(shape), results)


@dataclasses.dataclass(eq=False)
class _Plan:
    """The equations of a loop, and the numbers of what they take and give."""

    each: list[_Equation]
    within: list[_Equation]
    fixed: list[int]
    """Values that do not change."""
    given: list[int]
    """Those given for each step."""
    ahead: list[int]
    """Those for each step that depend on these only, and which the others take."""
    carried: list[int]
    outputs: list[Atom]
    time: int
    reverse: bool

    def run(self, fixed: Any, given: Any, carried: Any) -> list[jax.Array]:
        """All results, with all that changes computed within the loop."""
        return self._scan([*self.each, *self.within], fixed, self.given, given, carried, {}, {})[0]

    def run_ahead(
        self, fixed: Any, given: Any, carried: Any, shifts: dict[int, Any], kernels: dict[int, Any]
    ) -> tuple[Any, Any]:
        """All results, and for the equations of ``shifts`` what a kernel is multiplied with in each step.

        A shift ``[time, ...]`` is added to the tangents of an equation's product, of which ``kernels`` has
        the kernel.
        """

        def before(*given_t: jax.Array) -> list[jax.Array]:
            known = dict(zip((*self.fixed, *self.given), (*fixed, *given_t), strict=True))
            known = _evaluate(self.each, known)
            return [known[one] for one in self.ahead]

        return self._scan(self.within, fixed, self.ahead, jax.vmap(before)(*given), carried, shifts, kernels)

    def _scan(
        self,
        equations: list[_Equation],
        fixed: Any,
        changing: list[int],
        given: Any,
        carried: Any,
        shifts: dict[int, Any],
        kernels: dict[int, Any],
    ) -> tuple[Any, Any]:
        def step(carried: Any, given: Any) -> tuple[Any, Any]:
            given, shifts = given
            numbers = itertools.chain(self.fixed, changing, self.carried)
            values = dict(zip(numbers, (*fixed, *given, *carried), strict=True))
            multiplied = {}
            for number, equation in enumerate(equations):
                operands = [_read(values, one) for one in equation.operands]
                if number in shifts:
                    assert equation.kernel is not None
                    multiplied[number] = operands[1 - equation.kernel]
                    operands[equation.kernel] = kernels[number]
                    results = [_shifted(*equation(*operands), shifts[number])]
                else:
                    results = equation(*operands)
                values.update(zip(equation.results, results, strict=True))
            outputs = [_read(values, one) for one in self.outputs]
            return outputs[: len(self.carried)], (outputs[len(self.carried) :], multiplied)

        last, (outputs, multiplied) = jax.lax.scan(
            step, carried, (given, shifts), length=self.time, reverse=self.reverse
        )
        return [*last, *outputs], multiplied


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _run(plan: _Plan, *arrays: Any) -> list[jax.Array]:
    return plan.run(*arrays)


@functools.partial(_run.defjvp, symbolic_zeros=True)
def _run_jvp(plan: _Plan, primals: Any, tangents: Any) -> tuple[Any, Any]:
    leaves, tree = jax.tree.flatten(primals)
    dots = jax.tree.leaves(tangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
    moving = [place for place, dot in enumerate(dots) if not isinstance(dot, SymbolicZero)]
    places: dict[Atom, int] = {one: place for place, one in enumerate(plan.fixed) if place in moving}
    kernels, shifts = {}, {}
    for number, equation in enumerate(plan.within):
        place = None if equation.kernel is None else places.get(equation.operands[equation.kernel])
        if place is not None:
            zeros = jnp.zeros((plan.time, *equation.result.shape), equation.result.dtype)
            kernels[number], shifts[number] = place, vary_alike(zeros, like=leaves)

    def of_moving(arrays: Sequence[jax.Array], shifts: Any) -> tuple[Any, Any]:
        # The kernels of these products are not differentiated here, but may be where this is differentiated.
        own = dict(zip(moving, arrays, strict=True))
        everything = [own.get(place, leaf) for place, leaf in enumerate(leaves)]
        fixed, given, carried = jax.tree.unflatten(tree, everything)
        their_kernels = {number: leaves[place] for number, place in kernels.items()}
        return plan.run_ahead(fixed, given, carried, shifts, their_kernels)

    results, linear, multiplied = jax.linearize(
        of_moving, [leaves[place] for place in moving], shifts, has_aux=True
    )
    shifts_dot = {}
    for number, arrays in multiplied.items():
        equation, dot = plan.within[number], dots[kernels[number]]
        operands, axes = ((dot, arrays), (None, 0)) if equation.kernel == 0 else ((arrays, dot), (0, None))
        (shifts_dot[number],) = jax.vmap(equation, in_axes=axes)(*operands)
    return results, linear([dots[place] for place in moving], shifts_dot)


@jax.custom_jvp
def _shifted(value: jax.Array, shift: jax.Array) -> jax.Array:
    """The value; its tangent is the sum of both."""
    return value


@_shifted.defjvp
def _shifted_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return primals[0], tangents[0] + tangents[1]


def _flat(closed: Any) -> _Step:
    """A step with the equations of the functions it calls among its own."""
    counter = itertools.count()
    equations: list[_Equation] = []
    values: Environment = {}

    def known(constants: Iterable[Any]) -> list[int]:
        numbers = [next(counter) for _ in constants]
        values.update(zip(numbers, constants, strict=True))
        return numbers

    def walk(jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Atom]) -> list[Atom]:
        names: dict[Any, Atom] = dict(zip(jaxpr.constvars, known(constants), strict=True))
        names.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Atom:
            return atom if isinstance(atom, Literal) else names[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            results: list[Any]
            if equation.primitive.name in CALLS:
                inner = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
                results = walk(inner.jaxpr, inner.consts, operands)
            else:
                results = [next(counter) for _ in equation.outvars]
                equations.append(_Equation(equation, operands, results))
            names.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    inputs = [next(counter) for _ in closed.jaxpr.invars]
    outputs = walk(closed.jaxpr, closed.consts, inputs)
    return _Step(equations, values, inputs, outputs)


def _sort(step: _Step, carried: Sequence[int], given: Sequence[int]) -> dict[int, int]:
    """The levels of all values; those of the equations, and their kernels, are written into them."""
    levels = dict.fromkeys(step.values, ONCE) | dict.fromkeys(carried, LOOP) | dict.fromkeys(given, EACH)
    for equation in step.equations:
        own = [levels[one] if isinstance(one, int) else ONCE for one in equation.operands]
        equation.level = max(own, default=ONCE)
        levels.update(dict.fromkeys(equation.results, equation.level))
        if equation.name in PRODUCTS and sorted(own) == [ONCE, LOOP]:
            place = own.index(ONCE)
            equation.kernel = place if isinstance(equation.operands[place], int) else None
    return levels


def _give_rows_their_own(equations: list[_Equation], values: Environment, levels: dict[int, int]) -> None:
    """Broadcast, before the loop, what equations within it broadcast."""
    for equation in equations:
        if equation.name not in PER_ROW:
            continue
        shape = equation.result.shape
        for place, operand in enumerate(equation.operands):
            if isinstance(operand, int) and levels[operand] == ONCE and jnp.shape(values[operand]) != shape:
                number = len(levels)
                values[number], levels[number] = jnp.broadcast_to(values[operand], shape), ONCE
                equation.operands[place] = number


def _evaluate(equations: Iterable[_Equation], known: Environment) -> Environment:
    """All values that follow from those known, with these."""
    values = dict(known)
    for equation in equations:
        results = equation(*(_read(values, one) for one in equation.operands))
        values.update(zip(equation.results, results, strict=True))
    return values


def _read(values: Environment, atom: Atom) -> Any:
    return values[atom] if isinstance(atom, int) else atom.val
