"""The attention interface: one query attends to a memory of vectors. `lstmjax.attention` has the kinds."""

import abc
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Integer

from lstmjax import initializers
from lstmjax.checks import (
    arguments,
    check_lengths,
    check_sizes,
    check_tree,
    describe,
    resolve_dtypes,
    resolve_options,
)
from lstmjax.types import Array, DTypeLike, Key, Params, State, at_least_float32


class Memory(NamedTuple):
    """A memory prepared for attention; made by `Attention.prepare`."""

    values: Array
    """``[..., time, features]``: the values, h; 0 in the padding."""
    keys: Array | None
    """``[..., time, units]``: the keys that queries are scored against; None if only positions matter."""
    mask: Array
    """Booleans ``[..., time]``: true where the memory is valid."""


class Glimpse(NamedTuple):
    """The result of attending to a memory once."""

    context: jax.Array
    """``[..., features]``, of the dtype of the values: the context, their weighted sum, c."""
    weights: jax.Array
    """``[..., time]``, at least float32: the attention weights, a."""


@dataclasses.dataclass(frozen=True, repr=False)
class Attention(abc.ABC):
    """An attention mechanism: static hyperparameters and four pure functions.

    Queries, values and contexts are of ``dtype``, and so are the operands of products; products are
    accumulated, and weights and states computed, in ``dtype`` or float32, whichever is wider; parameters are
    of ``param_dtype``. To define a new kind, subclass it as a frozen dataclass with `init`, `keys` and
    `weigh`.

    For many queries that do not depend on each other, use `jax.vmap` over their axis:

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
    """The function that makes it, for error messages; by default the class name in lower case."""

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
        resolve_options(name, self)

    def __repr__(self) -> str:
        """The call that makes an equal attention; options with default values are left out."""
        return f"{type(self).__name__}({', '.join(arguments(self))})"

    @property
    def wide_dtype(self) -> DTypeLike:
        """``dtype`` or float32, whichever is wider: of scores, weights and states."""
        return at_least_float32(self.dtype)

    @abc.abstractmethod
    def init(self, key: Key) -> Params:
        """Fresh parameters, a named tuple of arrays: kernels from ``kernel_init``, biases 0."""

    @abc.abstractmethod
    def keys(self, params: Params, values: jax.Array) -> jax.Array | None:
        """The keys ``[..., time, units]`` of values whose padding is 0."""

    @abc.abstractmethod
    def weigh(
        self, params: Params, memory: Memory, query: Array, state: State
    ) -> tuple[Float[jax.Array, "*batch time"], State]:
        """The weights in ``wide_dtype``, 0 where the mask is false, and the next state."""

    def initial_state(self, memory: Memory) -> State:
        """The state before the first query; ``()`` for a kind without state."""
        return ()

    def prepare(
        self,
        params: Params,
        values: Float[Array, "*batch time features"],
        lengths: Integer[Array, "*batch"] | None = None,
    ) -> Memory:
        """Prepare a memory: mask its padding and compute its keys, once for all queries.

        Args:
          params: as `init` returns them.
          values: ``[..., time, memory]`` of ``dtype``, such as the outputs of an encoder; the batch may have
            any rank, none included.
          lengths: integers ``[...]`` in ``0..time``: number of valid vectors of each row; by default all.

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
        """Attend to a memory once.

        Args:
          params: as `init` returns them.
          memory: as `prepare` returns it.
          query: ``[..., query]`` of ``dtype``, with the batch shape of the memory.
          state: as `initial_state` or the previous call returned it.

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
        check_tree("memory", memory, want_memory, "attention.prepare", self)
        check_tree("state", state, want_state, "attention.initial_state(memory)", self)
        weights, state = self.weigh(params, memory, query, state)
        context = self.product(weights[..., None, :], memory.values)[..., 0, :]
        return Glimpse(context.astype(self.dtype), weights), state

    def product(self, left: Array, right: Array) -> jax.Array:
        """The matrix product of operands in ``dtype``, accumulated and returned in ``wide_dtype``."""
        left, right = left.astype(self.dtype), right.astype(self.dtype)
        return jnp.matmul(left, right, preferred_element_type=self.wide_dtype)

    def _check_params(self, params: Params) -> None:
        check_tree("params", params, _shapes_of_params(self), "attention.init", self)

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
    """Shapes of `Attention.prepare` and `Attention.initial_state` for values ``[*shape, memory]``."""

    def make() -> tuple[Memory, State]:
        values = jnp.zeros((*shape, attention.memory), attention.dtype)
        keys = attention.keys(attention.init(jax.random.key(0)), values)
        memory = Memory(values, keys, jnp.ones(shape, bool))
        return memory, attention.initial_state(memory)

    return jax.eval_shape(make)


def masked_softmax(scores: Float[Array, "*batch time"], mask: Bool[Array, "*batch time"]) -> jax.Array:
    """The softmax over the positions where the mask is true; 0 elsewhere, also if no position is valid.

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
    """``vector . tanh(total + keys)`` for each position, ``[..., time]``; ``total`` may lack time."""
    assert memory.keys is not None
    if total.ndim < memory.keys.ndim:
        total = total[..., None, :]
    return jnp.tanh(total + memory.keys.astype(total.dtype)) @ vector
