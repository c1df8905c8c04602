"""Content-based attention: Bahdanau and Luong."""

import dataclasses
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax.attention.core import Attention, Memory, additive_scores, masked_softmax
from lstmjax.types import Array, Key, State

Score = Literal["dot", "scaled_dot", "general"]
"""The score function of `luong`."""


class AdditiveParams(NamedTuple):
    """Parameters of `bahdanau`."""

    query_kernel: Array
    """``[query, units]``: W."""
    memory_kernel: Array
    """``[memory, units]``: U."""
    score_kernel: Array
    """``[units]``: v."""
    bias: Array | None
    """``[units]``: b, of the normalized form."""
    scale: Array | None
    """A scalar: g, of the normalized form."""


@dataclasses.dataclass(frozen=True, repr=False)
class Bahdanau(Attention):
    """Additive attention; made by `bahdanau`, which has the equations."""

    units: int
    normalize: bool = False

    def init(self, key: Key) -> AdditiveParams:
        """Fresh parameters; in the normalized form, b = 0 and g = 1 / sqrt(units)."""
        keys, dtype = jax.random.split(key, 3), self.param_dtype
        return AdditiveParams(
            query_kernel=self.kernel_init(keys[0], (self.query, self.units), dtype),
            memory_kernel=self.kernel_init(keys[1], (self.memory, self.units), dtype),
            score_kernel=self.kernel_init(keys[2], (self.units, 1), dtype)[:, 0],
            bias=jnp.zeros((self.units,), dtype) if self.normalize else None,
            scale=jnp.full((), self.units**-0.5, dtype) if self.normalize else None,
        )

    def keys(self, params: AdditiveParams, values: jax.Array) -> jax.Array:
        """The products of values and memory kernel, ``[..., time, units]``."""
        return self.product(values, params.memory_kernel).astype(self.dtype)

    def weigh(
        self, params: AdditiveParams, memory: Memory, query: Array, state: State
    ) -> tuple[Float[jax.Array, "*batch time"], State]:
        """The softmax of the scores."""
        total = self.product(query, params.query_kernel)
        vector = params.score_kernel.astype(self.wide_dtype)
        if params.bias is not None and params.scale is not None:
            total = total + params.bias.astype(self.wide_dtype)
            vector = vector * (params.scale.astype(self.wide_dtype) / jnp.linalg.norm(vector))
        return masked_softmax(additive_scores(total, memory, vector), memory.mask), state


def bahdanau(query: int, memory: int, units: int, normalize: bool = False, **options: Any) -> Bahdanau:
    r"""Additive attention: a small network scores query s against memory h.

    .. math:: e_j = v \cdot \tanh(W s + U h_j)

    With ``normalize``, the norm of v is a separate parameter g, and there is a bias:

    .. math:: e_j = g \frac{v}{\lVert v \rVert} \cdot \tanh(W s + U h_j + b)

    Args:
      query: size of a query.
      memory: size of a vector of the memory.
      units: hidden size of the scoring network.
      normalize: whether to use the second form.
      **options: ``kernel_init, dtype, param_dtype``, as cells have them.

    Raises:
      ValueError: a size is not a positive integer.
      TypeError: a dtype is not floating point.

    Source: Bahdanau, Cho and Bengio 2015 (arXiv:1409.0473); normalized: Raffel et al. 2017
      (arXiv:1704.00784), after Salimans and Kingma 2016 (arXiv:1602.07868).

    Example:
      >>> attention = bahdanau(query=4, memory=3, units=8)
      >>> params = attention.init(jax.random.key(0))
      >>> memory = attention.prepare(params, jnp.ones((2, 5, 3)), lengths=jnp.array([4, 0]))
      >>> glimpse, state = attention.attend(params, memory, jnp.ones((2, 4)), attention.initial_state(memory))
      >>> glimpse.context.shape, glimpse.weights.tolist()
      ((2, 3), [[0.25, 0.25, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    """
    return Bahdanau(query, memory, units, normalize, **options)


class ProductParams(NamedTuple):
    """Parameters of `luong`."""

    kernel: Array | None
    """``[memory, query]``: W, of the score ``general``."""


@dataclasses.dataclass(frozen=True, repr=False)
class Luong(Attention):
    """Multiplicative attention; made by `luong`, which has the equations."""

    score: Score = "general"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in get_args(Score):
            raise ValueError(f"luong: score must be one of {', '.join(get_args(Score))}, got {self.score!r}.")
        if self.score != "general" and self.query != self.memory:
            raise ValueError(
                f"luong: with score {self.score!r} query and memory must be of one size, got "
                f"{self.query} and {self.memory}."
            )

    def init(self, key: Key) -> ProductParams:
        """Fresh parameters: a kernel for the score ``general``, else none."""
        is_general = self.score == "general"
        return ProductParams(
            self.kernel_init(key, (self.memory, self.query), self.param_dtype) if is_general else None
        )

    def keys(self, params: ProductParams, values: jax.Array) -> jax.Array:
        """The products of values and kernel, or the values: ``[..., time, query]``."""
        return values if params.kernel is None else self.product(values, params.kernel).astype(self.dtype)

    def weigh(
        self, params: ProductParams, memory: Memory, query: Array, state: State
    ) -> tuple[Float[jax.Array, "*batch time"], State]:
        """The softmax of the scores."""
        assert memory.keys is not None
        scores = self.product(memory.keys, query[..., None])[..., 0]
        if self.score == "scaled_dot":
            scores = scores * self.query**-0.5
        return masked_softmax(scores, memory.mask), state


def luong(query: int, memory: int, score: Score = "general", **options: Any) -> Luong:
    r"""Multiplicative attention: a product scores query s against memory h.

    .. math:: e_j = s \cdot h_j \;\text{(dot)}, \quad s \cdot h_j / \sqrt{d} \;\text{(scaled_dot)}, \quad
       s^\top W h_j \;\text{(general)}

    where d is the size of both.

    Args:
      query: size of a query.
      memory: size of a vector of the memory; equal to ``query`` unless the score is ``general``.
      score: one of the three.
      **options: ``kernel_init, dtype, param_dtype``, as cells have them.

    Raises:
      ValueError: a size is not a positive integer, sizes differ that must be equal, or ``score`` is unknown.
      TypeError: a dtype is not floating point.

    Source: Luong, Pham and Manning 2015 (arXiv:1508.04025); scaled: Vaswani et al. 2017 (arXiv:1706.03762).

    Example:
      >>> attention = luong(query=2, memory=2, score="dot")
      >>> params = attention.init(jax.random.key(0))
      >>> memory = attention.prepare(params, 50 * jnp.eye(2))
      >>> glimpse, _ = attention.attend(params, memory, jnp.array([0.0, 1.0]), ())
      >>> glimpse.weights.round(3).tolist(), bool(jnp.allclose(glimpse.context, jnp.array([0.0, 50.0])))
      ([0.0, 1.0], True)
    """
    return Luong(query, memory, score, **options)
