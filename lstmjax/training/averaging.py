"""Averages of the parameters during training, which often generalise better than the latest parameters.

An average is a policy of pure functions (`Averaging`). The training loop treats all policies alike: `NONE`,
`exponential`, and `nonmonotone`, whose mean begins only once the validation metric has stopped improving
(NT-ASGD).

Source: Polyak and Juditsky 1992 (SIAM J. Control Optim. 30(4)) for the mean; Merity, Keskar and Socher 2018
(arXiv:1708.02182, algorithm 1) for NT-ASGD.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from lstmjax.types import Array, Params

AverageState = Any
"""A pytree of arrays, part of the training state."""


class Averaging(NamedTuple):
    """A policy for averaging the parameters."""

    init: Callable[[Params], AverageState]
    """The state before the first step, from the initial parameters."""
    update: Callable[[AverageState, Params, Int[Array, ""]], AverageState]
    """The state after a step, from the parameters after it and the number of steps before it; traced."""
    params: Callable[[AverageState, Params], Params]
    """The parameters to evaluate, from the state and the latest parameters."""
    observe: Callable[[AverageState, float], tuple[AverageState, str]] = lambda state, value: (state, "")
    """The state after an evaluation with this value (smaller is better), and a message to report, or ""."""
    done: Callable[[AverageState], bool] = lambda state: False
    """Whether training should stop."""


NONE = Averaging(
    init=lambda params: None,
    update=lambda state, params, step: None,
    params=lambda state, params: params,
)
"""No average: the latest parameters."""


def exponential(decay: float) -> Averaging:
    """An exponential moving average of the parameters, with a smaller decay in the first steps."""
    return Averaging(
        init=lambda params: jax.tree.map(jnp.copy, params),
        update=lambda average, params, step: moving_average(average, params, decay, step),
        params=lambda average, params: average,
    )


class NonMonotoneState(NamedTuple):
    """State of `nonmonotone`."""

    mean: Params
    averaged: Int[Array, ""]
    """Number of parameter vectors in the mean; 0 until the mean begins."""
    criterion: "NonMonotone"


def nonmonotone(interval: int, from_start: bool = False) -> Averaging:
    """NT-ASGD: the mean of the parameters, which begins when the criterion `NonMonotone` is reached.

    Args:
      interval: the interval of the criterion.
      from_start: for fine-tuning: the mean begins with the first step, and training stops when the criterion
        is reached.
    """

    def init(params: Params) -> NonMonotoneState:
        return NonMonotoneState(
            jax.tree.map(jnp.copy, params), jnp.int32(from_start), NonMonotone.of(interval)
        )

    def update(state: NonMonotoneState, params: Params, step: Int[Array, ""]) -> NonMonotoneState:
        mean, count = running_mean(state.mean, params, state.averaged)
        return NonMonotoneState(mean, count, state.criterion)

    def observe(state: NonMonotoneState, value: float) -> tuple[NonMonotoneState, str]:
        criterion = state.criterion.after(value)
        begins = bool(criterion.reached) and int(state.averaged) == 0
        count = jnp.ones_like(state.averaged) if begins else state.averaged
        report = "from here on the mean of the parameters is evaluated" if begins else ""
        return NonMonotoneState(state.mean, count, criterion), report

    return Averaging(
        init=init,
        update=update,
        params=lambda state, params: state.mean,
        observe=observe,
        done=lambda state: from_start and bool(state.criterion.reached),
    )


def moving_average(average: Params, params: Params, decay: float, step: Int[Array, ""] | int) -> Params:
    """The exponential moving average after a step; the decay is smaller than ``decay`` in the first steps."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, average, 1 - kept)


def running_mean(average: Params, params: Params, count: Int[Array, ""]) -> tuple[Params, Int[jax.Array, ""]]:
    """The mean after a step, and the number of parameter vectors in it.

    While ``count`` is 0 the mean is the latest parameters; setting it to 1 begins the mean with them.

    Example:
      >>> average, count = running_mean(jnp.array(7.0), jnp.array(1.0), jnp.array(0))
      >>> average, count = running_mean(average, jnp.array(4.0), jnp.array(1))  # begun at 1.0
      >>> average, count = running_mean(average, jnp.array(7.0), count)
      >>> float(average), int(count)
      (4.0, 3)
    """
    count = jnp.where(count > 0, count + 1, 0)
    return optax.incremental_update(params, average, 1 / jnp.maximum(count, 1)), count


class NonMonotone(NamedTuple):
    """Whether evaluations have stopped improving; `NonMonotone.of` gives the initial state.

    Example:
      >>> criterion, found = NonMonotone.of(interval=2), []
      >>> for value in (5.0, 4.0, 4.5, 4.2, 4.1):
      ...     criterion = criterion.after(value)
      ...     found.append(bool(criterion.reached))
      >>> found  # 4.2 is not worse than 5.0, which is all but the last two; 4.1 is worse than 4.0
      [False, False, False, False, True]
    """

    best: Float[Array, ""]
    """The minimum of all values except the last ``interval``; inf if there are none."""
    recent: Float[Array, " interval"]
    """The last ``interval`` values, latest last; inf before the first."""
    reached: Bool[Array, ""]
    """Whether some value exceeded the minimum of all values before it except the last ``interval``."""

    @classmethod
    def of(cls, interval: int) -> "NonMonotone":
        """The state before the first value."""
        return cls(jnp.float32(jnp.inf), jnp.full(interval, jnp.inf, jnp.float32), jnp.bool_(False))

    def after(self, value: float) -> "NonMonotone":
        """The state after one more value."""
        recent = jnp.append(self.recent, jnp.float32(value))
        reached = self.reached | (jnp.float32(value) > self.best)
        return NonMonotone(jnp.minimum(self.best, recent[0]), recent[1:], reached)
