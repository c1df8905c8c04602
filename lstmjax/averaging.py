"""Averages of the parameters along a training, which often do better than the last ones.

An average that forgets follows the parameters for as long as they are trained. A mean that forgets nothing
should begin only when they no longer get anywhere: when an evaluation is worse than the best of all those
before the last few (`NonMonotone`).

Source: Polyak and Juditsky 1992 (SIAM J. Control Optim. 30(4)) for the mean; Merity, Keskar and Socher 2018
(arXiv:1708.02182, algorithm 1, NT-ASGD) for when it begins.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from lstmjax.types import Array, Params


def forgetting(average: Params, params: Params, decay: float, step: Int[Array, ""] | int) -> Params:
    """The average after a step: ``decay`` of what it was; less in the first steps, which are far away."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, average, 1 - kept)


def mean(average: Params, params: Params, count: Int[Array, ""]) -> tuple[Params, Int[jax.Array, ""]]:
    """The mean after a step, and the number of parameters that it is of.

    A mean of none, ``count`` 0, stays one of none and is the latest parameters. Setting the count to 1 is
    all that it takes to begin: with those that it then is.

    Example:
      >>> average, count = mean(jnp.array(7.0), jnp.array(1.0), jnp.array(0))
      >>> average, count = mean(average, jnp.array(4.0), jnp.array(1))  # begun at 1.0
      >>> average, count = mean(average, jnp.array(7.0), count)
      >>> float(average), int(count)
      (4.0, 3)
    """
    count = jnp.where(count > 0, count + 1, 0)
    return optax.incremental_update(params, average, 1 / jnp.maximum(count, 1)), count


class NonMonotone(NamedTuple):
    """Whether evaluations have ceased to get better, from all there were; begin with `NonMonotone.of`.

    Example:
      >>> criterion, found = NonMonotone.of(interval=2), []
      >>> for value in (5.0, 4.0, 4.5, 4.2, 4.1):
      ...     criterion = criterion.after(value)
      ...     found.append(criterion.reached)
      >>> found  # 4.2 is not worse than 5.0, which is all but the last two; 4.1 is worse than 4.0
      [False, False, False, False, True]
    """

    best: float
    """The least of all values but the last ``interval``; inf where there is none."""
    recent: Float[np.ndarray, " interval"]
    """The last ones, latest last; inf before the first."""
    reached: bool
    """Whether a value was more than the best of all before it but the last ``interval``."""

    @classmethod
    def of(cls, interval: int) -> "NonMonotone":
        """Before the first value."""
        return cls(math.inf, np.full(interval, math.inf), False)

    def after(self, value: float) -> "NonMonotone":
        """With one more value."""
        recent = np.append(self.recent, value)
        return NonMonotone(min(self.best, float(recent[0])), recent[1:], self.reached or value > self.best)
