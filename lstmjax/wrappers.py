"""Wrappers of cells: each takes cells and is itself a cell."""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstmjax.cell import Cell, check_inputs, check_params, matmul
from lstmjax.initializers import lecun_normal
from lstmjax.types import Array, DTypeLike, Key, Params, State, at_least_float32


@dataclasses.dataclass(frozen=True, repr=False)
class Stack(Cell):
    """Cells one above the other; made by `stack`."""

    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("stack: give at least one cell.")
        for number, (below, above) in enumerate(zip(self.cells, self.cells[1:], strict=False)):
            if below.output_size != above.features:
                raise ValueError(
                    f"stack: cell {number} puts out {below.output_size} features, but cell "
                    f"{number + 1} takes {above.features}."
                )

    @property
    def features(self) -> int:  # type: ignore[override]
        """Size of an input vector: that of the lowest cell."""
        return self.cells[0].features

    @property
    def output_size(self) -> int:
        """Size of an output vector: that of the highest cell."""
        return self.cells[-1].output_size

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of the inputs: that of the lowest cell."""
        return self.cells[0].input_dtype

    def init(self, key: Key) -> tuple[Params, ...]:
        """Parameters of every cell, lowest first."""
        keys = jax.random.split(key, len(self.cells))
        return tuple(cell.init(k) for cell, k in zip(self.cells, keys, strict=True))

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> tuple[State, ...]:
        """States of every cell, lowest first."""
        return tuple(cell.initial_state(batch_shape) for cell in self.cells)

    def step(
        self, params: tuple[Params, ...], state: tuple[State, ...], inputs: Array
    ) -> tuple[tuple[State, ...], jax.Array]:
        """Advance every cell by one time step, the outputs of each the inputs of the next."""
        self._check_parts("params", params)
        self._check_parts("state", state)
        states = []
        outputs: Any = inputs
        for cell, cell_params, cell_state in zip(self.cells, params, state, strict=True):
            new_state, outputs = cell.step(cell_params, cell_state, outputs)
            states.append(new_state)
        return tuple(states), outputs

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> tuple[Params, ...]:
        """Parameters with the noise of every cell drawn, each with a key of its own."""
        self._check_parts("params", params)
        keys = jax.random.split(key, len(self.cells))
        parts = zip(self.cells, keys, params, strict=True)
        return tuple(cell.sample(k, part, batch_shape) for cell, k, part in parts)

    def plain(self, params: Params) -> Params:
        """Parameters of every cell without noise."""
        if not isinstance(params, tuple) or len(params) != len(self.cells):
            return params  # for `check_params` to say what is wrong
        return tuple(cell.plain(part) for cell, part in zip(self.cells, params, strict=True))

    def _check_parts(self, name: str, parts: Any) -> None:
        if not isinstance(parts, tuple) or len(parts) != len(self.cells):
            raise TypeError(
                f"{name} of a stack must be a tuple with one entry for each of its "
                f"{len(self.cells)} cells, got {jax.tree.structure(parts)}."
            )


def stack(*cells: Cell) -> Stack:
    r"""Cells one above the other, as one cell: :math:`x^{(l+1)}_t = y^{(l)}_t`.

    Parameters and state are tuples with one entry for each cell, lowest first.

    Raises:
      ValueError: there is no cell, or the sizes of two neighbours differ.

    Source: Schmidhuber 1992 (Neural Computation 4(2)); deep LSTMs: Graves 2013 (arXiv:1308.0850).

    Example:
      >>> import lstmjax
      >>> deep = lstmjax.stack(lstmjax.lstm(64, 128), lstmjax.lstm(128, 32))
      >>> deep.features, deep.output_size
      (64, 32)
    """
    return Stack(tuple(cells))


@dataclasses.dataclass(frozen=True, repr=False)
class Wrapper(Cell):
    """A cell around another one, with everything of it but the step."""

    cell: Cell

    @property
    def features(self) -> int:  # type: ignore[override]
        """Size of an input vector: that of the inner cell."""
        return self.cell.features

    @property
    def output_size(self) -> int:
        """Size of an output vector: that of the inner cell."""
        return self.cell.output_size

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of the inputs: that of the inner cell."""
        return self.cell.input_dtype

    def init(self, key: Key) -> Params:
        """Parameters of the inner cell."""
        return self.cell.init(key)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """State of the inner cell."""
        return self.cell.initial_state(batch_shape)

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Params:
        """Parameters with the noise of the inner cell drawn."""
        return self.cell.sample(key, params, batch_shape)

    def plain(self, params: Params) -> Params:
        """Parameters of the inner cell without noise."""
        return self.cell.plain(params)


class Pointwise(Wrapper):
    """A wrapper that changes inputs and outputs, each by itself, and keeps nothing from step to step.

    So it can be run around a whole sequence as around a step, and the cell in it by a way of its own
    (`lstmjax.backends`). A subclass gives `split`, `before` and `after`.
    """

    def split(self, params: Params, batch_shape: tuple[int, ...]) -> tuple[Params, Any]:
        """Parameters of the inner cell, and what `before` and `after` need."""
        return params, None

    def before(self, own: Any, inputs: jax.Array) -> jax.Array:
        """What the inner cell sees; arrays ``[time, ..., features]`` of a sequence, or without time."""
        return inputs

    @abc.abstractmethod
    def after(self, own: Any, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """What the wrapper puts out, from its inputs and the inner cell's outputs."""

    def step(self, params: Params, state: State, inputs: Array) -> tuple[State, jax.Array]:
        """Advance the inner cell by one time step, with `before` and `after` around it."""
        check_inputs(self, inputs, axes="[..., features]")
        check_params(self, params)
        inner, own = self.split(params, inputs.shape[:-1])
        state, outputs = self.cell.step(inner, state, self.before(own, jnp.asarray(inputs)))
        return state, self.after(own, jnp.asarray(inputs), outputs)


class Entering(Wrapper):
    """A wrapper that changes the state with which each step of the inner cell begins.

    A subclass gives `enter`.
    """

    @abc.abstractmethod
    def enter(self, params: Params, state: State) -> tuple[Params, State]:
        """Parameters of the inner cell, and the state that its step begins with."""

    def step(self, params: Params, state: State, inputs: Array) -> tuple[State, jax.Array]:
        """Advance the inner cell by one time step from the changed state."""
        check_inputs(self, inputs, axes="[..., features]")
        check_params(self, params)
        return self.cell.step(*self.enter(params, state), inputs)


def check_equal_sizes(name: str, cell: Cell) -> None:
    """Raise ValueError unless a cell puts out as many features as it takes."""
    if cell.features != cell.output_size:
        raise ValueError(
            f"{name}: the cell takes {cell.features} features and puts out "
            f"{cell.output_size}; a sum needs equal sizes."
        )


@dataclasses.dataclass(frozen=True, repr=False)
class Residual(Pointwise):
    """A cell with its input added to its output; made by `residual`."""

    def __post_init__(self) -> None:
        check_equal_sizes("residual", self.cell)

    def after(self, own: Any, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """The sum."""
        return inputs + outputs


def residual(cell: Cell) -> Residual:
    r"""A cell with its input added to its output: :math:`y_t = x_t + \mathrm{cell}(x_t)`.

    The state, and so the recurrence, is that of the inner cell.

    Raises:
      ValueError: the cell's input and output sizes differ.

    Source: He et al. 2016 (arXiv:1512.03385); between LSTM layers: Wu et al. 2016 (arXiv:1609.08144, eq. 6).

    Example:
      >>> import lstmjax
      >>> lstmjax.residual(lstmjax.lstm(8, 8)).output_size
      8
    """
    return Residual(cell)


class HighwayParams(NamedTuple):
    """Parameters of a highway around a cell."""

    cell: Params
    """Those of the inner cell."""
    kernel: Array
    """``[features, features]``: of the gate, W."""
    bias: Array
    """``[features]``: of the gate, b."""


@dataclasses.dataclass(frozen=True, repr=False)
class Highway(Pointwise):
    """A cell whose output a gate mixes with its input; made by `highway`."""

    gate_bias: float = -1.0

    def __post_init__(self) -> None:
        check_equal_sizes("highway", self.cell)

    def init(self, key: Key) -> HighwayParams:
        """Parameters of the inner cell, and of the gate: `lecun_normal` and ``gate_bias``."""
        cell_key, kernel_key = jax.random.split(key)
        dtype = at_least_float32(self.input_dtype)
        return HighwayParams(
            cell=self.cell.init(cell_key),
            kernel=lecun_normal(kernel_key, (self.features, self.features), dtype),
            bias=jnp.full((self.features,), self.gate_bias, dtype),
        )

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Params:
        """Parameters with the noise of the inner cell drawn."""
        return params._replace(cell=self.cell.sample(key, params.cell, batch_shape))

    def plain(self, params: Params) -> Params:
        """Parameters of gate and inner cell without noise."""
        if not isinstance(params, HighwayParams):
            return params  # for `check_params` to say what is wrong
        return params._replace(cell=self.cell.plain(params.cell))

    def split(self, params: HighwayParams, batch_shape: tuple[int, ...]) -> tuple[Params, HighwayParams]:
        """Parameters of the inner cell, and all."""
        return params.cell, params

    def after(self, own: HighwayParams, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """Outputs and inputs, mixed by the gate."""
        wide = at_least_float32(self.input_dtype)
        gate = matmul(inputs, own.kernel, dtype=self.input_dtype, result_dtype=wide) + own.bias
        gate = jax.nn.sigmoid(gate)
        mixed = gate * outputs.astype(wide) + (1 - gate) * inputs.astype(wide)
        return mixed.astype(outputs.dtype)


def highway(cell: Cell, gate_bias: float = -1.0) -> Highway:
    r"""A cell whose output a gate mixes with its input.

    .. math::
        g_t &= \sigma(W x_t + b) \\
        y_t &= g_t \odot \mathrm{cell}(x_t) + (1 - g_t) \odot x_t

    The state, and so the recurrence, is that of the inner cell. Parameters are `HighwayParams`, of the
    cell's dtype or float32, whichever is wider.

    Args:
      cell: with as many outputs as inputs.
      gate_bias: what b starts as; below 0, a deep stack starts by passing its inputs on.

    Raises:
      ValueError: the cell's input and output sizes differ.

    Source: Srivastava, Greff and Schmidhuber 2015 (arXiv:1505.00387).

    Example:
      >>> import lstmjax
      >>> deep = lstmjax.stack(*[lstmjax.highway(lstmjax.lstm(8, 8))] * 3)
      >>> deep.output_size
      8
    """
    return Highway(cell, gate_bias)
