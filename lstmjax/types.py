"""Types that every module shares, and the glossary of dimensions.

========  ==========================  ====================================
letter    in shapes                   meaning
========  ==========================  ====================================
B         ``...`` or ``batch``        batch, of any rank, none included
T         ``time``                    time steps of a sequence
D         ``features``                size of one input vector
H         ``hidden``                  size of the hidden state
V         ``vocabulary``              number of distinct tokens
========  ==========================  ====================================

Arrays that hold sequences are ``[..., time, features]``; a batch may have any rank.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Key as _KeyType
from jaxtyping import UInt32

Array: TypeAlias = jax.Array | np.ndarray
"""The arrays that public functions accept; they always return a ``jax.Array``."""

Key: TypeAlias = _KeyType[jax.Array, ""] | UInt32[jax.Array, "2"]
"""A random key, of the new (``jax.random.key``) or the old (``jax.random.PRNGKey``) style."""

Params: TypeAlias = Any
"""A pytree of arrays: the parameters of a cell, a layer or a model."""

State: TypeAlias = Any
"""A pytree of arrays ``[..., size]``: what a cell carries from one step to the next."""


def at_least_float32(dtype: DTypeLike) -> np.dtype:
    """``dtype``, or float32 if that is wider: the dtype of sums over features or over time."""
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)


__all__ = ["Array", "DTypeLike", "Key", "Params", "State", "at_least_float32"]
