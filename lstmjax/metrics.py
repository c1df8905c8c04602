"""Metrics that are exact under masks, uneven batches and sharding: they keep sums and divide once.

A metric is a pytree of sums over the valid positions seen so far. Sums of several batches, steps, devices
or hosts add up to the same metric as one pass over all data; only ``compute`` divides.
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Num

from lstmjax.types import Array, at_least_float32

MeanType = TypeVar("MeanType", bound="Mean")


class Mean(NamedTuple):
    """A mean over valid positions.

    Example:
      >>> a = Mean.of(jnp.array([1.0, 2.0, 99.0]), mask=jnp.array([True, True, False]))
      >>> b = Mean.of(jnp.array([6.0]))
      >>> float(a.merge(b).compute())
      3.0
    """

    total: Array | float
    """Scalar: sum over valid positions."""
    weight: Array | float
    """Scalar: number of valid positions."""

    @classmethod
    def of(
        cls: type[MeanType],
        values: Num[Array, "*shape"] | Bool[Array, "*shape"],
        mask: Bool[Array, "*shape"] | None = None,
    ) -> MeanType:
        """Sum and count of ``values`` where ``mask`` (of the same shape; by default everywhere) is true.

        Booleans are counted as 0 and 1, so that the mean of ``labels == predictions`` is the accuracy.

        Raises:
          ValueError: shapes differ.
          TypeError: the mask is not boolean.
        """
        values = jnp.asarray(values)
        is_float = jnp.issubdtype(values.dtype, jnp.floating)
        values = values.astype(at_least_float32(values.dtype) if is_float else jnp.float32)
        if mask is None:
            return cls(values.sum(), jnp.asarray(values.size, values.dtype))
        mask = jnp.asarray(mask)
        if mask.dtype != jnp.bool_:
            raise TypeError(f"mask must be boolean, got {mask.dtype}: use mask != 0.")
        if mask.shape != values.shape:
            raise ValueError(f"mask must have the shape of values, {values.shape}, got {mask.shape}.")
        valid = jnp.where(mask, values, jnp.zeros_like(values))
        return cls(valid.sum(), mask.sum(dtype=values.dtype))

    def merge(self: MeanType, other: MeanType) -> MeanType:
        """The mean over the positions of both."""
        return type(self)(self.total + other.total, self.weight + other.weight)

    def compute(self) -> jax.Array:
        """The mean; NaN without valid positions."""
        return jnp.divide(self.total, self.weight)


class Perplexity(Mean):
    """The exponential of the mean: the perplexity, for losses in nats."""

    def compute(self) -> jax.Array:
        """The exponential of the mean; NaN without valid positions."""
        return jnp.exp(super().compute())
