"""Initializers for the parameters of recurrent cells.

A kernel initializer is any of ``jax.nn.initializers``: ``(key, shape, dtype) -> array``. Cells call it once
per gate, with that gate's own shape ``(fan_in, hidden)``, so that fan-in, fan-out and orthogonality are those
of one gate and do not depend on the number of concatenated gates.

The factories here are cached: equal arguments give the same function, so that two cells with equal arguments
are equal and share one compilation.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lstmjax.types import DTypeLike, Key, at_least_float32

KernelInit = Callable[..., jax.Array]
"""``(key, shape, dtype) -> array``, as in ``jax.nn.initializers``."""

GateBias = Callable[[Key, int, DTypeLike], jax.Array]
"""``(key, hidden, dtype) -> [4, hidden]``: the biases of the gates i, f, g, o."""

lecun_normal: KernelInit = jax.nn.initializers.lecun_normal()
"""Normal with variance ``1 / fan_in`` (LeCun et al. 1998): the usual initializer of an input kernel."""


def orthogonal(key: Key, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Orthogonal columns (Saxe et al. 2014, arXiv:1312.6120): the usual initializer of a recurrent kernel.

    Computed in at least float32, since there is no QR decomposition at lower precision.
    """
    return jax.nn.initializers.orthogonal()(key, shape, at_least_float32(dtype)).astype(dtype)


@functools.cache
def uniform(scale: float) -> KernelInit:
    """Uniform in ``[-scale, scale)``, as in Zaremba et al. 2014 (arXiv:1409.2329) and PyTorch's LSTM."""

    def init(key: Key, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -scale, scale)

    return init


@functools.cache
def forget_gate_bias(value: float = 1.0) -> GateBias:
    """``value`` for the forget gate, else zero (Gers et al. 2000; Jozefowicz et al. 2015)."""

    def init(key: Key, hidden: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
        del key
        return jnp.zeros((4, hidden), dtype).at[1].set(value)

    return init


def gate_bias(forget_bias: float | GateBias) -> GateBias:
    """The option ``forget_bias`` of a cell as an initializer; a number becomes `forget_gate_bias` of it."""
    return forget_bias if callable(forget_bias) else forget_gate_bias(float(forget_bias))


@functools.cache
def chrono(max_time: float) -> GateBias:
    """Biases for memories of up to ``max_time`` steps (Tallec and Ollivier 2018, arXiv:1804.11188, eq. 15).

    ``b_f = log u, b_i = -b_f`` with ``u`` uniform in ``[1, max_time - 1)``: the initial time constants of the
    forget gates are spread over the expected range of dependencies in the data.

    Raises:
      ValueError: ``max_time`` is not above 2.
    """
    if not max_time > 2:
        raise ValueError(f"chrono: max_time must be above 2 steps, got {max_time}.")

    def init(key: Key, hidden: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
        forget = jnp.log(jax.random.uniform(key, (hidden,), dtype, 1.0, max_time - 1.0))
        zeros = jnp.zeros((hidden,), dtype)
        return jnp.stack([-forget, forget, zeros, zeros])

    return init
