r"""Mixture density outputs for the steps of a pen: Gaussians in two dimensions, and the end of a stroke.

.. math::
   p(x, y, e) &= \sum_j \pi_j\, \mathcal{N}(x, y \mid \mu_j, \sigma_j, \rho_j) \cdot
                 \epsilon^e (1 - \epsilon)^{1 - e} \\
   \pi &= \mathrm{softmax}(\hat\pi), \quad \mu = \hat\mu, \quad \sigma = \exp \hat\sigma, \quad
   \rho = \tanh \hat\rho, \quad \epsilon = \mathrm{sigmoid}(\hat\epsilon)

All is computed from logarithms and :math:`\hat\rho`, so there is nothing to clip: with
:math:`z = ((x, y) - \mu) / \sigma`,

.. math::
   \frac{z_1^2 + z_2^2 - 2 \rho z_1 z_2}{2 (1 - \rho^2)} &=
   \tfrac18 \left( (z_1 - z_2)^2 (1 + e^{2 \hat\rho}) + (z_1 + z_2)^2 (1 + e^{-2 \hat\rho}) \right), \\
   \log (1 - \rho^2) &= \log 4 - 2 \log (e^{\hat\rho} + e^{-\hat\rho})

without the cancellation of the left sides where :math:`\rho` is nearly 1. The density has units: targets that
are divided by s have a negative log-likelihood that is 2 log s lower. It has no upper bound where targets
repeat exactly, as those that were rounded do; add uniform noise of the width of the rounding to them.

Source: Graves 2013 (arXiv:1308.0850, equations 17 to 26, 61 and 62); the sign of his
:math:`\hat\epsilon` is the other one.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Num

from lstmjax.checks import check_sizes
from lstmjax.types import Array, Key, at_least_float32


class Mixture(NamedTuple):
    """A distribution of the next step of a pen; made by `mixture`."""

    weights: jax.Array
    r"""``[..., components]``: :math:`\log \pi`."""
    means: jax.Array
    r"""``[..., components, 2]``: :math:`\mu`, in x and in y."""
    deviations: jax.Array
    r"""``[..., components, 2]``: :math:`\hat\sigma`, logarithms of the standard deviations."""
    correlations: jax.Array
    r"""``[..., components]``: :math:`\hat\rho`, of which the correlation is the hyperbolic tangent."""
    end: jax.Array
    r"""``[...]``: :math:`\hat\epsilon`, the logit of the end of a stroke."""


def size(components: int) -> int:
    """The number of outputs of a network for so many components: 6 each, and 1 for the end of a stroke.

    Raises:
      ValueError: ``components`` is not a positive integer.
    """
    check_sizes("mixture_density", components=components)
    return 6 * components + 1


def mixture(outputs: Float[Array, "*batch size"], bias: float | Float[Array, ""] = 0.0) -> Mixture:
    r"""The mixture that a network's outputs are read as, with a bias towards its likelier steps.

    A bias b makes samples neater and less diverse:
    :math:`\sigma = \exp(\hat\sigma - b)` and :math:`\pi = \mathrm{softmax}((1 + b) \hat\pi)`.

    Args:
      outputs: ``[..., 6 * components + 1]``: weights, means in x, in y, deviations in x, in y, correlations,
        and the end of a stroke.
      bias: b, not negative; 0 is the network's own distribution.

    Raises:
      ValueError: there are not so many outputs for any number of components, or the bias, where it is known,
        is negative.
    """
    components, rest = divmod(outputs.shape[-1] - 1, 6)
    if rest or components < 1:
        raise ValueError(
            f"mixture_density: outputs must be [..., 6 * components + 1], got {outputs.shape[-1]} of them."
        )
    if isinstance(bias, int | float) and not 0 <= bias < math.inf:
        raise ValueError(f"mixture_density: bias must be 0 or positive, got {bias}.")
    outputs = jnp.asarray(outputs, at_least_float32(outputs.dtype))
    parts = outputs[..., :-1].reshape(*outputs.shape[:-1], 6, components)
    weights, mean_x, mean_y, deviation_x, deviation_y, correlations = jnp.moveaxis(parts, -2, 0)
    return Mixture(
        jax.nn.log_softmax(weights * (1 + bias), axis=-1),
        jnp.stack([mean_x, mean_y], axis=-1),
        jnp.stack([deviation_x, deviation_y], axis=-1) - bias,
        correlations,
        outputs[..., -1],
    )


def negative_log_likelihood(
    outputs: Float[Array, "*batch size"],
    targets: Num[Array, "*batch 3"],
    mask: Bool[Array, "*batch"] | None = None,
) -> Float[jax.Array, "*batch"]:
    r"""The loss: :math:`-\log p(x, y, e)` of each step; see the module for the equations.

    Args:
      outputs: ``[..., 6 * components + 1]``, as `mixture` reads them.
      targets: ``[..., 3]``: the step in x and in y, and 1 where a stroke ends, else 0.
      mask: ``[...]``, true at valid positions; by default all. Others, NaN included, have no influence.

    Returns:
      ``[...]`` in nats, at least float32; 0 where the mask is false. Negative where a density exceeds 1.

    Raises:
      ValueError: shapes do not fit.
      TypeError: the mask is not boolean.

    Example:
      >>> outputs = jnp.zeros((4, size(components=3)))  # three times the standard normal, and a fair coin
      >>> losses = negative_log_likelihood(outputs, jnp.zeros((4, 3)))
      >>> bool(jnp.allclose(losses, math.log(2 * math.pi) + math.log(2)))
      True
    """
    batch = outputs.shape[:-1]
    for name, shape, wanted in (
        ("targets", targets.shape, (*batch, 3)),
        ("mask", batch if mask is None else mask.shape, batch),
    ):
        if shape != wanted:
            raise ValueError(f"mixture_density: {name} must have shape {wanted}, got {shape}.")
    if mask is not None:
        if mask.dtype != jnp.bool_:
            raise TypeError(f"mixture_density: mask must be boolean, got {mask.dtype}: use mask != 0.")
        outputs = jnp.where(mask[..., None], outputs, jnp.zeros_like(outputs))
        targets = jnp.where(mask[..., None], targets, jnp.zeros_like(targets))
    read = mixture(outputs)
    targets = jnp.asarray(targets, read.end.dtype)
    densities = _log_densities(read, targets[..., :2])
    losses = -jax.nn.logsumexp(read.weights + densities, axis=-1)
    losses = losses + jax.nn.softplus(read.end) - targets[..., 2] * read.end
    return losses if mask is None else jnp.where(mask, losses, jnp.zeros_like(losses))


def _log_densities(read: Mixture, steps: jax.Array) -> jax.Array:
    """The logarithm of the density of each component at its step, ``[..., components]``."""
    scaled = (steps[..., None, :] - read.means) * jnp.exp(-read.deviations)
    difference, total = scaled[..., 0] - scaled[..., 1], scaled[..., 0] + scaled[..., 1]
    rho = read.correlations
    quadratic = difference**2 * (1 + jnp.exp(2 * rho)) + total**2 * (1 + jnp.exp(-2 * rho))
    half_log_determinant = read.deviations.sum(axis=-1) + math.log(2) - jnp.logaddexp(rho, -rho)
    return -math.log(2 * math.pi) - half_log_determinant - quadratic / 8


def sample(
    key: Key, outputs: Float[Array, "*batch size"], bias: float | Float[Array, ""] = 0.0
) -> Float[jax.Array, "*batch 3"]:
    r"""Draw a step: a component, a point of its Gaussian, and whether a stroke ends.

    Args:
      key: random key.
      outputs: ``[..., 6 * components + 1]``, as `mixture` reads them.
      bias: as for `mixture`. The end of a stroke is drawn without it.

    Returns:
      ``[..., 3]``: the step in x and in y, and 1 or 0.

    Raises:
      ValueError: as for `mixture`.
    """
    read = mixture(outputs, bias)
    of_component, of_point, of_end = jax.random.split(key, 3)
    component = jax.random.categorical(of_component, read.weights)[..., None]

    def chosen(values: jax.Array) -> jax.Array:
        return jnp.take_along_axis(values, component, axis=-1)[..., 0]

    normal = jax.random.normal(of_point, (*read.end.shape, 2), read.end.dtype)
    rho = chosen(read.correlations)  # of 1 - rho^2, the root is 1 / cosh
    second = jnp.tanh(rho) * normal[..., 0] + normal[..., 1] / jnp.cosh(rho)
    steps = [
        chosen(read.means[..., axis]) + jnp.exp(chosen(read.deviations[..., axis])) * each
        for axis, each in enumerate((normal[..., 0], second))
    ]
    end = jax.random.bernoulli(of_end, jax.nn.sigmoid(read.end)).astype(read.end.dtype)
    return jnp.stack([*steps, end], axis=-1)
