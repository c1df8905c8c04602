"""Distortions of training inks: each is written a little differently in every epoch."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax.types import Array, Key

ROTATION, SLANT, SIZE, TREMBLE = 0.06, 0.2, 0.12, 0.02
"""Standard deviations: angle in radians; shear, x on y; logarithms of width and height; places of points."""


def distort(
    path: Float[Array, "batch points 3"], key: Key, strength: float
) -> Float[jax.Array, "batch points 3"]:
    r"""Rotate, slant and stretch each ink, and move each point, at random.

    .. math::
        \begin{pmatrix} x' \\ y' \end{pmatrix} = R(\alpha)
        \begin{pmatrix} e^{u} & s \\ 0 & e^{v} \end{pmatrix} \begin{pmatrix} x \\ y \end{pmatrix} + \epsilon

    Args:
      path: x, y and whether a stroke begins.
      key: the random key.
      strength: a factor of all standard deviations.
    """
    affine_key, noise_key = jax.random.split(key)
    random = strength * jax.random.normal(affine_key, (4, path.shape[0], 1))
    x, y = path[..., 0], path[..., 1]
    x, y = x * jnp.exp(SIZE * random[0]) + SLANT * random[1] * y, y * jnp.exp(SIZE * random[2])
    cosine, sine = jnp.cos(ROTATION * random[3]), jnp.sin(ROTATION * random[3])
    turned = jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)
    moved = turned + strength * TREMBLE * jax.random.normal(noise_key, turned.shape)
    return jnp.concatenate([moved, path[..., 2:]], axis=-1)
