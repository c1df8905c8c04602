"""Attention that depends on its previous weights: Graves' window, and location-sensitive attention."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax.attention.core import Attention, Memory, additive_scores, masked_softmax
from lstmjax.types import Array, Key, State


class WindowParams(NamedTuple):
    """Parameters of `graves_window`."""

    kernel: Array
    """``[query, 3 * components]``: to importance, narrowness and movement, concatenated."""
    bias: Array
    """``[3 * components]``."""


@dataclasses.dataclass(frozen=True, repr=False)
class GravesWindow(Attention):
    """A mixture of Gaussian windows that move forward; made by `graves_window`, which has the equations."""

    components: int
    stride: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stride > 0:
            raise ValueError(f"graves_window: stride must be positive, got {self.stride!r}.")

    def init(self, key: Key) -> WindowParams:
        """Fresh parameters; the biases are 0, except those of the movement: log(stride)."""
        bias = jnp.zeros((3, self.components), self.param_dtype).at[2].set(math.log(self.stride))
        kernel = self.kernel_init(key, (self.query, 3 * self.components), self.param_dtype)
        return WindowParams(kernel, bias.reshape(-1))

    def keys(self, params: WindowParams, values: jax.Array) -> None:
        """None: the windows depend on positions only."""

    def initial_state(self, memory: Memory) -> jax.Array:
        """Zeros ``[..., components]``: the windows start before the first position."""
        return jnp.zeros((*memory.mask.shape[:-1], self.components), self.wide_dtype)

    def weigh(
        self, params: WindowParams, memory: Memory, query: Array, state: State
    ) -> tuple[Float[jax.Array, "*batch time"], State]:
        """The sum of the windows at each position, and their new locations."""
        importance, narrowness, movement = self.outputs(params, query)
        kappa = state + movement
        return self.sum_of_windows(memory, importance, narrowness, kappa), kappa

    def outputs(self, params: WindowParams, query: Array) -> list[jax.Array]:
        """Importance, narrowness and movement of each window, ``[..., components]``."""
        total = self.product(query, params.kernel) + params.bias.astype(self.wide_dtype)
        return jnp.split(jnp.exp(total), 3, axis=-1)

    def sum_of_windows(
        self, memory: Memory, importance: jax.Array, narrowness: jax.Array, kappa: jax.Array
    ) -> Float[jax.Array, "*batch time"]:
        """The sum of the windows at each position, 0 where the mask is false."""
        position = jnp.arange(1, memory.mask.shape[-1] + 1).astype(self.wide_dtype)
        distance = kappa[..., None] - position
        windows = importance[..., None] * jnp.exp(-narrowness[..., None] * distance**2)
        total = windows.sum(axis=-2)
        return jnp.where(memory.mask, total, jnp.zeros_like(total))


def graves_window(
    query: int, memory: int, components: int, stride: float = 1.0, **options: Any
) -> GravesWindow:
    r"""A soft window: a mixture of Gaussians that move forward over the positions u = 1, 2, ...

    .. math::
       (\hat\alpha, \hat\beta, \hat\kappa) &= W s + b \\
       \alpha = \exp \hat\alpha, \quad \beta &= \exp \hat\beta, \quad \kappa = \kappa' + \exp \hat\kappa \\
       a_u &= \sum_k \alpha_k \exp(-\beta_k (\kappa_k - u)^2)

    Weights are not normalized. The state is :math:`\kappa`, ``[..., components]``, initially 0; the text has
    been read once it is beyond the last position.

    Args:
      query: size of a query.
      memory: size of a vector of the memory, usually a one-hot character.
      components: number of Gaussians.
      stride: approximate initial movement per step: the initial bias of the movement is its logarithm.
        In handwriting a letter takes about 25 points; with 1, as in the paper, the window has to learn to
        slow down.
      **options: ``kernel_init, dtype, param_dtype``, as cells have them.

    Raises:
      ValueError: a size is not a positive integer, or ``stride`` is not positive.
      TypeError: a dtype is not floating point.

    Source: Graves 2013 (arXiv:1308.0850, equations 46 to 51).

    Example:
      >>> attention = graves_window(query=4, memory=26, components=3)
      >>> params = attention.init(jax.random.key(0))
      >>> memory = attention.prepare(params, jnp.eye(26)[:5])
      >>> glimpse, kappa = attention.attend(params, memory, jnp.zeros(4), attention.initial_state(memory))
      >>> kappa.tolist(), [f"{weight:.2f}" for weight in glimpse.weights]
      ([1.0, 1.0, 1.0], ['3.00', '1.10', '0.05', '0.00', '0.00'])
    """
    return GravesWindow(query, memory, components, stride, **options)


class LocationParams(NamedTuple):
    """Parameters of `location_sensitive`."""

    query_kernel: Array
    """``[query, units]``: W."""
    memory_kernel: Array
    """``[memory, units]``: V."""
    location_filters: Array
    """``[width, filters]``: F."""
    location_kernel: Array
    """``[filters, units]``: U."""
    bias: Array
    """``[units]``: b."""
    score_kernel: Array
    """``[units]``: w."""


@dataclasses.dataclass(frozen=True, repr=False)
class LocationSensitive(Attention):
    """Additive attention with location features; made by `location_sensitive`, which has the equations."""

    units: int
    filters: int
    width: int
    cumulative: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2 == 0:
            raise ValueError(f"location_sensitive: width must be odd, to have a middle, got {self.width}.")

    def init(self, key: Key) -> LocationParams:
        """Fresh parameters."""
        keys, dtype = jax.random.split(key, 5), self.param_dtype
        return LocationParams(
            query_kernel=self.kernel_init(keys[0], (self.query, self.units), dtype),
            memory_kernel=self.kernel_init(keys[1], (self.memory, self.units), dtype),
            location_filters=self.kernel_init(keys[2], (self.width, self.filters), dtype),
            location_kernel=self.kernel_init(keys[3], (self.filters, self.units), dtype),
            bias=jnp.zeros((self.units,), dtype),
            score_kernel=self.kernel_init(keys[4], (self.units, 1), dtype)[:, 0],
        )

    def keys(self, params: LocationParams, values: jax.Array) -> jax.Array:
        """The products of values and memory kernel, ``[..., time, units]``."""
        return self.product(values, params.memory_kernel).astype(self.dtype)

    def initial_state(self, memory: Memory) -> jax.Array:
        """Zeros ``[..., time]``: no previous weights."""
        return jnp.zeros(memory.mask.shape, self.wide_dtype)

    def weigh(
        self, params: LocationParams, memory: Memory, query: Array, state: State
    ) -> tuple[Float[jax.Array, "*batch time"], State]:
        """The softmax of the scores, and the next state: the sum of all weights so far, or these weights."""
        features = self.product(_windows(state, self.width), params.location_filters)
        total = self.product(features, params.location_kernel) + params.bias.astype(self.wide_dtype)
        total = total + self.product(query, params.query_kernel)[..., None, :]
        scores = additive_scores(total, memory, params.score_kernel.astype(self.wide_dtype))
        weights = masked_softmax(scores, memory.mask)
        return weights, state + weights if self.cumulative else weights


def _windows(sequence: jax.Array, width: int) -> jax.Array:
    """The window around each position, zero-padded: ``[..., time]`` to ``[..., time, width]``."""
    time, half = sequence.shape[-1], width // 2
    padded = jnp.pad(sequence, [(0, 0)] * (sequence.ndim - 1) + [(half, half)])
    return jnp.stack([padded[..., start : start + time] for start in range(width)], axis=-1)


def location_sensitive(
    query: int,
    memory: int,
    units: int,
    filters: int,
    width: int,
    cumulative: bool = True,
    **options: Any,
) -> LocationSensitive:
    r"""Additive attention that also depends on its previous weights, through a convolution over time.

    .. math:: f = F * p, \quad e_j = w \cdot \tanh(W s + V h_j + U f_j + b), \quad p' = p + a

    where * is the convolution of deep learning (a cross-correlation), with zero padding. The state is p,
    ``[..., time]``, initially 0.

    Args:
      query: size of a query.
      memory: size of a vector of the memory.
      units: hidden size of the scoring network.
      filters: number of filters.
      width: of each filter, odd.
      cumulative: if True, the state is the sum of all weights so far, as in Tacotron 2; else the weights of
        the previous step, as in the first paper.
      **options: ``kernel_init, dtype, param_dtype``, as cells have them.

    Raises:
      ValueError: a size is not a positive integer, or ``width`` is even.
      TypeError: a dtype is not floating point.

    Source: Chorowski et al. 2015 (arXiv:1506.07503); cumulative: Shen et al. 2018 (arXiv:1712.05884).

    Example:
      >>> attention = location_sensitive(query=4, memory=3, units=8, filters=2, width=3)
      >>> params = attention.init(jax.random.key(0))
      >>> memory = attention.prepare(params, jnp.ones((2, 5, 3)), lengths=jnp.array([5, 2]))
      >>> state = attention.initial_state(memory)
      >>> for _ in range(3):
      ...     glimpse, state = attention.attend(params, memory, jnp.ones((2, 4)), state)
      >>> bool(jnp.allclose(state.sum(axis=-1), 3)), bool((state[1, 2:] == 0).all())
      (True, True)
    """
    return LocationSensitive(query, memory, units, filters, width, cumulative, **options)
