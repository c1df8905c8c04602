"""Several models of one architecture as one task: what is mapped over a leading axis of models."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from lstmjax.nnx import Functional
from lstmjax.types import Key, Params


def init(model: Functional, models: int) -> Callable[[Key], Params]:
    """Initializer of the parameters of all models, each with its own key."""
    return lambda key: jax.vmap(model.init)(jax.random.split(key, models))


def optimizer(one: optax.GradientTransformation) -> optax.GradientTransformation:
    """Vectorize an optimizer over models: clipping, for example, uses the norm of each model separately."""

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.vmap(one.update)(gradients, state, params)

    return optax.GradientTransformation(jax.vmap(one.init), update)
