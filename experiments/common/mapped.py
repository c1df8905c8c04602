"""Several models of one architecture as one task: what is mapped over a leading axis of models."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from lstmjax.nnx import Functional
from lstmjax.types import Key, Params


def init(model: Functional, models: int) -> Callable[[Key], Params]:
    """Initializer of the parameters of all models, each with its own key.

    One after the other: two orthogonal matrices under vmap may wait for each other for ever on two cores.
    """
    return lambda key: jax.lax.map(model.init, jax.random.split(key, models))


def optimizer(one: optax.GradientTransformation) -> optax.GradientTransformation:
    """Vectorize an optimizer over models: clipping, for example, uses the norm of each model separately."""

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.vmap(one.update)(gradients, state, params)

    return optax.GradientTransformation(jax.vmap(one.init), update)


def spread(figures: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Metrics of a record from those of each model, ``[models]``.

    The mean under the metric's own name; with ``_std``, ``_min`` and ``_max`` after it, the sample standard
    deviation, which one model does not have, and the range.
    """
    found: dict[str, float] = {}
    for name, values in figures.items():
        deviation = {f"{name}_std": values.std(ddof=1)} if len(values) > 1 else {}
        found |= {name: values.mean(), **deviation, f"{name}_min": values.min(), f"{name}_max": values.max()}
    return {name: float(value) for name, value in found.items()}
