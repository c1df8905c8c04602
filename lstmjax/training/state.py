"""The state of training, and the errors that end it."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from lstmjax.training.task import Carry
from lstmjax.types import Params


class Skipped(NamedTuple):
    """Numbers of steps that changed nothing, since their loss or gradient was not finite; int32."""

    total: jax.Array
    in_row: jax.Array
    """Those since the last step that did."""


class TrainState(NamedTuple):
    """The state that a training step updates."""

    step: jax.Array
    """Number of steps done, int32."""
    params: Params
    average: Any
    """State of the averaging policy, see `TrainConfig.average`."""
    optimizer: optax.OptState
    skipped: Skipped
    carry: Carry = ()
    """The carry that the next batch begins with."""


class Best(NamedTuple):
    """The best parameters so far, of each model if there are several; an evaluation updates it."""

    params: Params
    value: float | np.ndarray
    """Their value of the monitored metric, negated if it is maximised; inf before the first evaluation. Of
    several models (`Task.models`), float64 ``[models]``."""
    step: int | np.ndarray
    """The step that they are from; of several models, int64 ``[models]``."""
    stale: int
    """Number of evaluations since any model improved."""


class Fit(NamedTuple):
    """The result of `fit`."""

    state: TrainState
    best: Best


class TrainingError(RuntimeError):
    """Training cannot continue."""


class NonFiniteError(TrainingError):
    """Several steps in a row had a loss or gradient that is not finite."""
