"""Initializers for the parameters of recurrent cells.

A kernel initializer is a function ``(key, shape, dtype) -> array``, such as those of ``jax.nn.initializers``.
Cells call it once per gate, with that gate's own shape ``(fan_in, hidden)``, so that fan-in, fan-out and
orthogonality are those of one gate and do not depend on the number of concatenated gates.

Initializers are part of a cell, which is compared, hashed, printed and pickled with them. Those of this
module are frozen dataclasses: equal arguments make equal cells, which share one compilation. So are those of
JAX in a cell, such as ``jax.nn.initializers.he_normal()``, which is kept as that call. Any other function is
compared by identity and pickled by its name: make it once, at the top of a module, or write a frozen
dataclass with ``__call__``.
"""

import contextlib
import contextvars
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from lstmjax.types import DTypeLike, Key, at_least_float32

KernelInit = Callable[..., jax.Array]
"""``(key, shape, dtype) -> array``, as in ``jax.nn.initializers``."""

GateBias = Callable[[Key, int, DTypeLike], jax.Array]
"""``(key, hidden, dtype) -> [4, hidden]``: the biases of the gates i, f, g, o."""


class Initializer:
    """Base class of the initializers of this module."""

    def __repr__(self) -> str:
        """The call that makes an equal initializer."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        options = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields)
        return f"initializers.{type(self).__name__}({options})"


@dataclasses.dataclass(frozen=True, repr=False)
class VarianceScaling(Initializer):
    """Variance ``scale / n``, as ``jax.nn.initializers.variance_scaling``; ``n`` is named by ``mode``."""

    scale: float
    mode: Literal["fan_in", "fan_out", "fan_avg"]
    distribution: Literal["truncated_normal", "normal", "uniform"]

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        """An array of the shape and dtype."""
        draw = jax.nn.initializers.variance_scaling(self.scale, self.mode, self.distribution)
        return draw(key, tuple(shape), dtype)


lecun_normal = VarianceScaling(1.0, "fan_in", "truncated_normal")
"""Normal with variance ``1 / fan_in`` (LeCun et al. 1998): the usual initializer of an input kernel."""

glorot_uniform = VarianceScaling(1.0, "fan_avg", "uniform")
"""Uniform with variance ``1 / fan_avg`` (Glorot and Bengio 2010), as Keras initializes input kernels."""


@dataclasses.dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """Orthogonal columns of the norm ``scale``.

    Computed in at least float32, since there is no QR decomposition at lower precision.
    """

    scale: float = 1.0

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        """An array of the shape and dtype."""
        draw = jax.nn.initializers.orthogonal(self.scale)
        return draw(key, tuple(shape), at_least_float32(dtype)).astype(dtype)


orthogonal = Orthogonal()
"""Orthogonal columns (Saxe et al. 2014, arXiv:1312.6120): the usual initializer of a recurrent kernel."""


@dataclasses.dataclass(frozen=True, repr=False)
class Uniform(Initializer):
    """Uniform in ``[-scale, scale)``; made by `uniform`."""

    scale: float

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        """An array of the shape and dtype."""
        return jax.random.uniform(key, tuple(shape), dtype, -self.scale, self.scale)


def uniform(scale: float) -> Uniform:
    """Uniform in ``[-scale, scale)``, as in Zaremba et al. 2014 (arXiv:1409.2329) and PyTorch's LSTM."""
    return Uniform(float(scale))


@dataclasses.dataclass(frozen=True, repr=False)
class ForgetGateBias(Initializer):
    """One value for the forget gate, else zero; made by `forget_gate_bias`."""

    value: float = 1.0

    def __call__(self, key: Key, hidden: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Biases ``[4, hidden]``."""
        return jnp.zeros((4, hidden), dtype).at[1].set(self.value)


def forget_gate_bias(value: float = 1.0) -> ForgetGateBias:
    """``value`` for the forget gate, else zero (Gers et al. 2000; Jozefowicz et al. 2015)."""
    return ForgetGateBias(float(value))


def gate_bias(forget_bias: float | GateBias) -> GateBias:
    """The option ``forget_bias`` of a cell as an initializer; a number becomes `forget_gate_bias` of it."""
    return forget_bias if callable(forget_bias) else forget_gate_bias(forget_bias)


@dataclasses.dataclass(frozen=True, repr=False)
class Chrono(Initializer):
    """Biases for memories of up to ``max_time`` steps; made by `chrono`."""

    max_time: float

    def __post_init__(self) -> None:
        if not self.max_time > 2:
            raise ValueError(f"chrono: max_time must be above 2 steps, got {self.max_time}.")

    def __call__(self, key: Key, hidden: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """Biases ``[4, hidden]``."""
        forget = jnp.log(jax.random.uniform(key, (hidden,), dtype, 1.0, self.max_time - 1.0))
        zeros = jnp.zeros((hidden,), dtype)
        return jnp.stack([-forget, forget, zeros, zeros])


def chrono(max_time: float) -> Chrono:
    """Biases for memories of up to ``max_time`` steps (Tallec and Ollivier 2018, arXiv:1804.11188, eq. 15).

    ``b_f = log u, b_i = -b_f`` with ``u`` uniform in ``[1, max_time - 1)``: the initial time constants of the
    forget gates are spread over the expected range of dependencies in the data.

    Raises:
      ValueError: ``max_time`` is not above 2.
    """
    return Chrono(float(max_time))


@dataclasses.dataclass(frozen=True)
class OfJax:
    """The initializer that a call of a function of ``jax.nn.initializers`` returns, known by that call."""

    name: str
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        """An array of the shape and dtype."""
        return self.made()(key, tuple(shape), dtype)

    def __repr__(self) -> str:
        """The call."""
        options = ", ".join(f"{name}={value!r}" for name, value in self.arguments)
        return f"jax.nn.initializers.{self.name}({options})"

    def made(self) -> Any:
        """The function that the call returns: another each time."""
        return getattr(jax.nn.initializers, self.name)(**dict(self.arguments))


def comparable(function: Callable[..., Any]) -> Callable[..., Any]:
    """An initializer that JAX made as `OfJax`; any other function as it is."""
    name = getattr(function, "__qualname__", "").partition(".<locals>")[0]
    factory: Any = getattr(jax.nn.initializers, name, None)
    if not (inspect.isfunction(function) and inspect.isfunction(factory)):
        return function
    if factory.__globals__ is not function.__globals__:
        return function
    closure = inspect.getclosurevars(function).nonlocals
    options = {
        option: closure[option]
        for option, parameter in inspect.signature(factory).parameters.items()
        if option in closure and closure[option] is not parameter.default
    }
    try:
        made = OfJax(name, tuple(options.items()))
        hash(made)
        is_same = inspect.getclosurevars(made.made()).nonlocals == closure
    except (AttributeError, TypeError, ValueError):  # an array among the arguments, or another JAX
        return function
    return made if is_same else function


@dataclasses.dataclass(frozen=True)
class Unboxed:
    """An initializer of others, whose arrays leave the boxes of Flax's ``with_partitioning``; see `boxes`."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        """The array; a box with metadata, if the function returns one and `boxes` are asked for."""
        made = self.function(*arguments)
        return made if _boxes_are_kept.get() else unboxed(made)

    def __repr__(self) -> str:
        """The function."""
        return repr(self.function)


def unboxing(function: Callable[..., Any]) -> Callable[..., Any]:
    """An initializer of a kernel that makes arrays; `Unboxed`, unless it is known."""
    return function if isinstance(function, Initializer | OfJax | Unboxed) else Unboxed(function)


_boxes_are_kept = contextvars.ContextVar("boxes_are_kept", default=False)


@contextlib.contextmanager
def boxes() -> Iterator[None]:
    """A context in which ``init`` of a cell returns parameters in the boxes of their initializers."""
    token = _boxes_are_kept.set(True)
    try:
        yield
    finally:
        _boxes_are_kept.reset(token)


def concatenate(kernels: Sequence[Any]) -> Any:
    """Kernels along their last axis, in the box that Flax's ``with_partitioning`` put them into, if any."""
    return joined(functools.partial(jnp.concatenate, axis=-1), kernels)


def joined(join: Callable[[Sequence[jax.Array]], jax.Array], kernels: Sequence[Any]) -> Any:
    """``join(kernels)``, in the box of the first of them."""
    if hasattr(kernels[0], "raw_value"):  # of NNX, which is no pytree
        return dataclasses.replace(kernels[0], raw_value=join([kernel.raw_value for kernel in kernels]))
    return jax.tree.map(lambda *arrays: join(arrays), *kernels)


def is_boxed(value: Any) -> bool:
    """Whether an array is in a box with metadata, of linen or of NNX (``raw_value``)."""
    return hasattr(value, "unbox") or hasattr(value, "raw_value")


def unboxed(value: Any) -> Any:
    """An array without its box."""
    return value.raw_value if hasattr(value, "raw_value") else value.unbox() if is_boxed(value) else value
