"""The network: a recurrent cell over past and future steps, and a linear layer that gives quantiles."""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

import lstmjax
from experiments.seasonal_sales.panel import Windows
from lstmjax.nnx import Functional, Recurrent, functional

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""What is forecast: the median, and the bounds of the intervals of 50 and 90 per cent."""

MEDIAN = QUANTILES.index(0.5)

CELLS: dict[str, Callable[[int, int], lstmjax.Cell]] = {
    "lstm": lstmjax.lstm,
    "gru": lstmjax.gru,
    "rnn": lstmjax.elman,
}


class Forecaster(nnx.Module):
    """A recurrent cell, and a linear layer that reads its outputs at the steps of the future."""

    def __init__(self, cell: lstmjax.Cell, features: int, horizon: int, *, rngs: nnx.Rngs) -> None:
        self.recurrent = Recurrent(cell, rngs=rngs)
        self.readout = nnx.Linear(cell.output_size + features, len(QUANTILES), rngs=rngs)
        self.horizon = horizon

    def __call__(self, windows: Windows) -> jax.Array:
        """The quantiles ``[..., horizon, quantiles]``, standardized as the targets are."""
        inputs = jnp.asarray(windows.inputs)
        _, hidden = self.recurrent(inputs, mask=jnp.asarray(windows.mask))
        read = jnp.concatenate([hidden, inputs], axis=-1)
        return self.readout(read[..., -self.horizon :, :])


def make_model(cell: str, features: int, hidden: int, layers: int, horizon: int) -> Functional:
    """A network of cells of `CELLS`."""
    sizes = [features, *[hidden] * layers]
    cells = [CELLS[cell](*pair) for pair in itertools.pairwise(sizes)]
    stacked = cells[0] if layers == 1 else lstmjax.stack(*cells)
    return functional(functools.partial(Forecaster, stacked, features, horizon))


def quantile_loss(forecast: jax.Array, targets: jax.Array) -> jax.Array:
    """The quantile loss of each step, ``[...]``, its mean over `QUANTILES` (Koenker and Bassett 1978).

    Args:
      forecast: ``[..., quantiles]``.
      targets: ``[...]``.
    """
    error = targets[..., None] - forecast
    levels = jnp.asarray(QUANTILES, error.dtype)
    return jnp.maximum(levels * error, (levels - 1) * error).mean(axis=-1)
