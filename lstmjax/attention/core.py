"""What attention is: one step looks at a memory of vectors. The kinds are in `lstmjax.attention`."""

import abc
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from lstmjax import initializers
from lstmjax.checks import arguments, check_lengths, check_sizes, check_tree, describe, resolve_dtypes
from lstmjax.types import Array, DTypeLike, Key, Params, State, at_least_float32


class Memory(NamedTuple):
    """A memory that is ready to be looked at; made by `Attention.prepare`."""

    values: Array
    """``[..., time, features]``: what is read, h; 0 in the padding."""
    keys: Array | None
    """``[..., time, units]``: what queries are compared with; None where it takes nothing but positions."""
    mask: Array
    """Booleans ``[..., time]``: true where the memory is valid."""


class Glimpse(NamedTuple):
    """What one look at a memory gives."""

    context: jax.Array
    """``[..., features]``, of the dtype of the values: their weighted sum, c."""
    weights: jax.Array
    """``[..., time]``, at least float32: a."""


@dataclasses.dataclass(frozen=True, repr=False)
class Attention(abc.ABC):
    """One look at a memory: static numbers and four pure functions.

    Queries, values and contexts are of ``dtype``, and so are the operands of products; products are
    accumulated, and weights and states computed, in ``dtype`` or float32, whichever is wider; parameters are
    of ``param_dtype``. To write a kind of your own, subclass it as a frozen dataclass with `init`, `keys` and
    `weigh`.

    For many queries that do not depend on each other there is `jax.vmap`, over whichever axis they lie along:

    Example:
      >>> import lstmjax
      >>> attention = lstmjax.attention.luong(query=4, memory=3)
      >>> params = attention.init(jax.random.key(0))
      >>> memory = attention.prepare(params, jnp.ones((2, 5, 3)), lengths=jnp.array([5, 3]))
      >>> queries = jnp.ones((2, 7, 4))
      >>> look = lambda query: attention.attend(params, memory, query, ())[0]
      >>> glimpses = jax.vmap(look, in_axes=-2, out_axes=-2)(queries)
      >>> glimpses.context.shape, glimpses.weights.shape
      ((2, 7, 3), (2, 7, 5))
    """

    query: int
    memory: int
    _: dataclasses.KW_ONLY
    kernel_init: initializers.KernelInit = initializers.lecun_normal
    dtype: DTypeLike = jnp.float32
    param_dtype: Any = None

    maker: ClassVar[str] = ""
    """The function that makes it, for error messages; by default the name of the class in small."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)

    def __post_init__(self) -> None:
        name = self.maker or type(self).__name__.lower()
        sizes = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.type is int
        }
        check_sizes(name, **sizes)
        resolve_dtypes(name, self)

    def __repr__(self) -> str:
        """The call that makes an equal one; options that have their default values are left out."""
        return f"{type(self).__name__}({', '.join(arguments(self))})"

    @property
    def wide_dtype(self) -> DTypeLike:
        """``dtype`` or float32, whichever is wider: of scores, weights and states."""
        return at_least_float32(self.dtype)

    @abc.abstractmethod
    def init(self, key: Key) -> Params:
        """Fresh parameters, a named tuple of arrays: kernels by ``kernel_init``, biases 0."""

    @abc.abstractmethod
    def keys(self, params: Params, values: jax.Array) -> jax.Array | None:
        """What queries are compared with, ``[..., time, units]``, of values without their padding."""

    @abc.abstractmethod
    def weigh(
        self, params: Params, memory: Memory, query: Array, state: State
    ) -> tuple[Float[jax.Array, "*batch time"], State]:
        """The weights in ``wide_dtype``, 0 where the mask is false, and the next state."""

    def initial_state(self, memory: Memory) -> State:
        """The state before the first look; ``()`` where nothing is carried from one to the next."""
        return ()

    def prepare(
        self,
        params: Params,
        values: Float[Array, "*batch time features"],
        lengths: Integer[Array, "*batch"] | None = None,
    ) -> Memory:
        """Make a memory ready: mask its padding and compute its keys, once for all queries.

        Args:
          params: as `init` returns them.
          values: ``[..., time, memory]`` of ``dtype``, such as the outputs of an encoder; the batch may have
            any rank, none included.
          lengths: integers ``[...]`` in ``0..time``: how many vectors of each row are valid; by default all.

        Raises:
          ValueError: a shape does not fit, or a length (where it is known) is not in ``0..time``.
          TypeError: a dtype or the structure of the parameters does not fit.
        """
        self._check_params(params)
        if not hasattr(values, "ndim") or values.ndim < 2 or values.shape[-1] != self.memory:
            raise ValueError(
                f"values must be [..., time, {self.memory}] (the attention was built with "
                f"memory={self.memory}), got {describe(values)}."
            )
        self._check_dtype("values", values)
        *batch_shape, time, _ = values.shape
        if lengths is None:
            mask = jnp.ones((*batch_shape, time), bool)
        else:
            lengths = jnp.asarray(check_lengths(lengths, tuple(batch_shape), time))
            mask = jnp.arange(time) < lengths[..., None].astype(int)
        values = jnp.where(mask[..., None], values, jnp.zeros_like(values))
        return Memory(values, self.keys(params, values), mask)

    def attend(
        self, params: Params, memory: Memory, query: Float[Array, "*batch query"], state: State
    ) -> tuple[Glimpse, State]:
        """Look at a memory once.

        Args:
          params: as `init` returns them.
          memory: as `prepare` returns it.
          query: ``[..., query]`` of ``dtype``, with the batch shape of the memory.
          state: as `initial_state` or a former call returned it.

        Returns:
          A `Glimpse` with the context ``[..., memory]`` and the weights ``[..., time]``, and the next state.

        Raises:
          ValueError: a shape does not fit.
          TypeError: a dtype or the structure of a tree does not fit.
        """
        self._check_params(params)
        if not isinstance(memory, Memory):
            raise TypeError(f"memory must be what attention.prepare returns, got {describe(memory)}.")
        want = (*memory.mask.shape[:-1], self.query)
        if jnp.shape(query) != want:
            raise ValueError(
                f"query must have shape {want}: the batch shape of the memory, and query={self.query} as the "
                f"attention was built; got {describe(query)}. For several queries use jax.vmap."
            )
        self._check_dtype("query", query)
        want_memory, want_state = _shapes_of_memory(self, memory.mask.shape)
        check_tree("memory", memory, want_memory, f"attention.prepare of {self}")
        check_tree("state", state, want_state, f"attention.initial_state(memory) of {self}")
        weights, state = self.weigh(params, memory, query, state)
        context = self.product(weights[..., None, :], memory.values)[..., 0, :]
        return Glimpse(context.astype(self.dtype), weights), state

    def product(self, left: Array, right: Array) -> jax.Array:
        """The matrix product of operands in ``dtype``, accumulated and returned in ``wide_dtype``."""
        left, right = left.astype(self.dtype), right.astype(self.dtype)
        return jnp.matmul(left, right, preferred_element_type=self.wide_dtype)

    def _check_params(self, params: Params) -> None:
        check_tree("params", params, _shapes_of_params(self), f"attention.init of {self}")

    def _check_dtype(self, name: str, array: Array) -> None:
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        if dtype != self.dtype:
            raise TypeError(
                f"{name} has dtype {dtype}, but the attention computes in {self.dtype}: cast it with "
                f"{name}.astype({str(self.dtype)!r}), or build it with another dtype."
            )


@functools.cache
def _shapes_of_params(attention: Attention) -> Params:
    return jax.eval_shape(attention.init, jax.random.key(0))


@functools.lru_cache(maxsize=1024)
def _shapes_of_memory(attention: Attention, shape: tuple[int, ...]) -> tuple[Memory, State]:
    """What `Attention.prepare` and `Attention.initial_state` make of values ``[*shape, memory]``."""

    def make() -> tuple[Memory, State]:
        values = jnp.zeros((*shape, attention.memory), attention.dtype)
        keys = attention.keys(attention.init(jax.random.key(0)), values)
        memory = Memory(values, keys, jnp.ones(shape, bool))
        return memory, attention.initial_state(memory)

    return jax.eval_shape(make)


def masked_softmax(scores: Float[Array, "*batch time"], mask: Bool[Array, "*batch time"]) -> jax.Array:
    """The softmax over the positions where the mask is true; 0 at others, and everywhere where none is.

    Example:
      >>> scores, mask = jnp.array([[0.0, 0.0, jnp.nan]] * 2), jnp.array([[True, True, False], [False] * 3])
      >>> masked_softmax(scores, mask).tolist()
      [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    lowest = float(jnp.finfo(scores.dtype).min)
    highest = jnp.max(scores, axis=-1, keepdims=True, where=mask, initial=lowest)
    shifted = jnp.where(mask, scores - jax.lax.stop_gradient(highest), jnp.zeros_like(scores))
    exponentials = jnp.where(mask, jnp.exp(shifted), jnp.zeros_like(shifted))
    total = exponentials.sum(axis=-1, keepdims=True)
    return exponentials / jnp.where(total > 0, total, jnp.ones_like(total))


def additive_scores(total: jax.Array, memory: Memory, vector: Array) -> jax.Array:
    """``vector . tanh(total + keys)`` for each position, ``[..., time]``; ``total`` may have no time axis."""
    assert memory.keys is not None
    if total.ndim < memory.keys.ndim:
        total = total[..., None, :]
    return jnp.tanh(total + memory.keys.astype(total.dtype)) @ vector
