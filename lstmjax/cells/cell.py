"""The cell interface, and the base class of the cells of this library.

A *cell* is three pure functions and their static hyperparameters: ``init`` makes parameters,
``initial_state`` makes a state, ``step`` advances the state by one time step. Cells are frozen dataclasses:
equal hyperparameters make equal cells, a cell can be the key of a cache, and it can be passed through
``jax.jit`` like any other argument (it is a pytree without leaves). `lstmjax.unroll` runs any cell over
sequences.
"""

import abc
import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from lstmjax import initializers
from lstmjax.checks import arguments, check_sizes, check_tree, describe, resolve_dtypes, resolve_options
from lstmjax.types import Array, DTypeLike, Key, Params, State, at_least_float32


class Cell(abc.ABC):
    """One step of a recurrent network: static hyperparameters and three pure functions.

    To define a new cell, subclass it as a frozen dataclass. The shape of every leaf of the state must begin
    with the batch shape; ``step`` must work for any batch shape.

    Example:
      >>> import lstmjax
      >>> cell = lstmjax.lstm(features=3, hidden=4)
      >>> params = cell.init(jax.random.key(0))
      >>> state, output = cell.step(params, cell.initial_state((2,)), jnp.ones((2, 3)))
      >>> output.shape
      (2, 4)
    """

    features: int
    """Size of an input vector."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)

    def __repr__(self) -> str:
        """The call that makes an equal cell; options with default values are left out."""
        return f"{type(self).__name__}({', '.join(arguments(self))})"

    @property
    @abc.abstractmethod
    def output_size(self) -> int:
        """Size of an output vector."""

    @property
    @abc.abstractmethod
    def input_dtype(self) -> DTypeLike:
        """The dtype that inputs must have: that of the computation."""

    @abc.abstractmethod
    def init(self, key: Key) -> Params:
        """Fresh parameters, a pytree of arrays."""

    @abc.abstractmethod
    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> State:
        """The state before the first step, a pytree of arrays ``[*batch_shape, ...]``."""

    @abc.abstractmethod
    def step(self, params: Params, state: State, inputs: Array) -> tuple[State, jax.Array]:
        """Advance by one time step.

        Args:
          params: as `init` returns them.
          state: as `initial_state` or the previous step returned it.
          inputs: ``[..., features]``, of the cell's ``input_dtype``.

        Returns:
          The next state, and the outputs ``[..., output_size]``.

        Raises:
          ValueError: a shape does not fit the cell.
          TypeError: a dtype or the structure of a tree does not fit the cell.
        """

    def sample(self, key: Key, params: Params, batch_shape: tuple[int, ...] = ()) -> Params:
        """Parameters with noise sampled for one sequence, for cells such as those of `lstmjax.dropout`.

        `step` and `lstmjax.unroll` take them in training. They hold all randomness: used again, they give
        the same masks. Parameters as `init` makes them are used without noise.

        Args:
          key: random key.
          params: as `init` returns them.
          batch_shape: of the batch, for separate noise in every row; by default all rows share the noise.

        Returns:
          ``params`` themselves, for a cell without noise.
        """
        return params

    def plain(self, params: Params) -> Params:
        """Parameters without noise, as they were passed to `sample`."""
        return params


@dataclasses.dataclass(frozen=True, repr=False)
class GatedCell(Cell):
    """Base class of the cells of this library: sizes, initializers and dtypes.

    Inputs, hidden state and outputs are of ``dtype``, and so are the operands of products; products are
    accumulated and gates computed in `wide_dtype`; parameters are of ``param_dtype``.
    """

    features: int
    hidden: int
    kernel_init: initializers.KernelInit = initializers.lecun_normal
    recurrent_init: initializers.KernelInit = initializers.orthogonal
    dtype: DTypeLike = jnp.float32
    param_dtype: Any = None
    bias: bool = dataclasses.field(default=True, kw_only=True)

    maker: ClassVar[str] = ""
    """The function that makes the cell, for error messages; by default the class name in lower case."""

    def __post_init__(self) -> None:
        name = self.maker or type(self).__name__.lower()
        check_sizes(name, features=self.features, hidden=self.hidden)
        resolve_dtypes(name, self)
        resolve_options(name, self)

    @property
    def output_size(self) -> int:
        """Size of an output vector: that of the hidden state."""
        return self.hidden

    @property
    def input_dtype(self) -> DTypeLike:
        """The dtype of inputs, hidden state and outputs."""
        return self.dtype

    @property
    def wide_dtype(self) -> DTypeLike:
        """``dtype`` or float32, whichever is wider: of accumulated products, gates and sums over time."""
        return at_least_float32(self.dtype)

    def gates(self, initializer: initializers.KernelInit, key: Key, count: int, fan_in: int) -> Any:
        """Kernels ``[fan_in, hidden]`` of ``count`` gates, initialized one by one and concatenated.

        An array, or a box with metadata within `lstmjax.initializers.boxes`.
        """
        shape, dtype = (fan_in, self.hidden), self.param_dtype
        kernels = [initializer(k, shape, dtype) for k in jax.random.split(key, count)]
        if any(callable(kernel) for kernel in kernels):
            raise TypeError(
                f"an initializer made a function, not an array: call it, as in {_name(initializer)}()."
            )
        return initializers.concatenate(kernels)


def biased(total: jax.Array, bias: Array | None) -> jax.Array:
    """``total`` with a bias added in its dtype; as it is for a cell without biases."""
    if bias is None:
        return total
    return total + per_row(bias, total)


def per_row(array: Array, like: jax.Array) -> jax.Array:
    """An array for each row of ``like``, in its dtype: with axes of size 1 in front, up to its rank."""
    return jnp.asarray(array, like.dtype).reshape((1,) * (like.ndim - array.ndim) + array.shape)


def matmul(inputs: Array, kernel: Array, *, dtype: Any, result_dtype: Any) -> jax.Array:
    """``inputs @ kernel`` with operands of ``dtype``, accumulated and returned in ``result_dtype``."""
    return jnp.matmul(inputs, kernel.astype(dtype), preferred_element_type=result_dtype)


def check_cell(name: str, cell: Any, argument: str = "the first argument") -> None:
    """Raise TypeError unless ``cell`` is a `Cell`."""
    if isinstance(cell, Cell):
        return
    raise TypeError(f"{name}: {argument} must be a cell such as lstmjax.lstm(3, 4), got {kind_of(cell)}.")


def kind_of(value: Any) -> str:
    """A short text for error messages: what was given in place of a cell, and what to do instead."""
    if type(value) in (list, tuple):
        return f"a {type(value).__name__}: give cells one by one, as in stack(*cells)"
    if hasattr(value, "apply"):
        return f"the layer {value}, which takes whole sequences: see lstmjax.layers"
    if callable(value):
        return f"the function {_name(value)}: call it with the sizes"
    return describe(value)


def _name(function: Any) -> str:
    return getattr(getattr(function, "function", function), "__name__", repr(function))


def check_step(cell: Cell, params: Params, state: State, inputs: Array) -> None:
    """Raise a clear error unless parameters, state and inputs of one step fit the cell."""
    check_inputs(cell, inputs, axes="[..., features]")
    check_params(cell, params)
    check_state(cell, state, inputs.shape[:-1])


def check_inputs(cell: Cell, inputs: Array, axes: str) -> None:
    """Raise unless ``inputs`` has at least the rank of ``axes``, the cell's features and its dtype."""
    rank = axes.count(",")
    if not hasattr(inputs, "ndim") or inputs.ndim < rank:
        raise ValueError(f"inputs must be an array {axes}, got {describe(inputs)}.")
    if inputs.shape[-1] != cell.features:
        raise ValueError(
            f"inputs must be {axes} with {cell.features} features (the cell was built with "
            f"features={cell.features}), got shape {inputs.shape}."
        )
    dtype = jax.dtypes.canonicalize_dtype(inputs.dtype)
    if dtype != cell.input_dtype:
        other = (
            f", or build the cell with dtype={str(dtype)!r}" if jnp.issubdtype(dtype, jnp.floating) else ""
        )
        raise TypeError(
            f"inputs have dtype {dtype}, but the cell computes in {cell.input_dtype}: cast them with "
            f"inputs.astype({str(cell.input_dtype)!r}){other}."
        )


def check_params(cell: Cell, params: Params) -> None:
    """Raise unless ``params``, noise aside, has the structure, shapes and dtypes of ``cell.init``."""
    check_tree("params", cell.plain(params), shapes_of_params(cell), "cell.init", cell)


def check_state(cell: Cell, state: State, batch_shape: tuple[int, ...], name: str = "state") -> None:
    """Raise unless ``state`` has the structure, shapes and dtypes of ``cell.initial_state(batch_shape)``."""
    check_tree(name, state, _shapes_of_state(cell, batch_shape), f"cell.initial_state({batch_shape})")


@functools.cache
def shapes_of_params(cell: Cell) -> Params:
    """What ``cell.init`` returns, as shapes and dtypes."""
    return jax.eval_shape(cell.init, jax.random.key(0))


@functools.lru_cache(maxsize=1024)
def _shapes_of_state(cell: Cell, batch_shape: tuple[int, ...]) -> State:
    return jax.eval_shape(lambda: cell.initial_state(batch_shape))
