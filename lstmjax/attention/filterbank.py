"""Attention to a window of an image: a grid of Gaussian filters reads a patch from it, or writes one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lstmjax.checks import check_sizes
from lstmjax.types import Array


class Window(NamedTuple):
    """Where a grid of filters lies, each ``[...]``; the pixels of a row and of a column are 1, 2, ..."""

    column: jax.Array
    """The column of its centre, g_X."""
    row: jax.Array
    """The row of its centre, g_Y."""
    stride: jax.Array
    """Pixels between neighbouring filters, delta."""
    deviation: jax.Array
    """Of each filter in pixels, sigma."""
    intensity: jax.Array
    """The factor of what is read, gamma."""


class Filterbank(NamedTuple):
    """A grid of Gaussian filters over an image; made by `gaussian_filterbank`, which has the equations."""

    rows: Float[Array, "*batch grid height"]
    """F_Y: the weights of the image's rows in each row of a patch; they sum to 1."""
    columns: Float[Array, "*batch grid width"]
    """F_X: the weights of the image's columns in each column of a patch; they sum to 1."""
    window: Window

    def read(self, image: Float[Array, "*batch height width"]) -> Float[jax.Array, "*batch grid grid"]:
        r"""The patch :math:`\gamma F_Y x F_X^\top` of an image x."""
        patch = jnp.einsum("...ih,...hw,...jw->...ij", self.rows, image, self.columns, optimize="optimal")
        return self.window.intensity[..., None, None] * patch

    def write(self, patch: Float[Array, "*batch grid grid"]) -> Float[jax.Array, "*batch height width"]:
        r"""The image :math:`\gamma^{-1} F_Y^\top w F_X` of a patch w."""
        image = jnp.einsum("...ih,...ij,...jw->...hw", self.rows, patch, self.columns, optimize="optimal")
        return image / self.window.intensity[..., None, None]


def gaussian_filterbank(
    outputs: Float[Array, "*batch outputs"], shape: tuple[int, int], grid: int
) -> Filterbank:
    r"""A square grid of N x N Gaussian filters over an image of height B and width A.

    .. math::
       (\tilde g_X, \tilde g_Y, \log \sigma^2, \log \tilde\delta, \log \gamma) &= \mathrm{outputs} \\
       g_X = \tfrac{A + 1}{2} (\tilde g_X + 1), \quad g_Y &= \tfrac{B + 1}{2} (\tilde g_Y + 1), \quad
       \delta = \tfrac{\max(A, B) - 1}{N - 1} \tilde\delta \\
       \mu_X^i = g_X + (i - N/2 - 0.5) \delta, &\quad \mu_Y^j = g_Y + (j - N/2 - 0.5) \delta \\
       F_X[i, a] \propto \exp(-(a - \mu_X^i)^2 / 2\sigma^2), &\quad
       F_Y[j, b] \propto \exp(-(b - \mu_Y^j)^2 / 2\sigma^2)

    for i, j = 1..N, a = 1..A, b = 1..B; each filter is normalized over the image, also where it lies outside
    of it. A grid of one filter has no stride.

    Args:
      outputs: usually a linear function of a decoder's hidden state; at 0 the grid covers the image.
      shape: height and width of the image, in pixels.
      grid: filters in a row and in a column, N.

    Raises:
      ValueError: ``shape`` or ``grid`` is not positive, or there are not five outputs.

    Source: Gregor et al. 2015 (arXiv:1502.04623, equations 19 to 29).

    Example:
      >>> bank = gaussian_filterbank(jnp.zeros(5), shape=(9, 9), grid=3)
      >>> [float(place) for place in (bank.window.row, bank.window.column, bank.window.stride)]
      [5.0, 5.0, 4.0]
      >>> bank.read(jnp.ones((9, 9))).shape, bank.write(jnp.ones((3, 3))).shape
      ((3, 3), (9, 9))
    """
    height, width = shape
    check_sizes("gaussian_filterbank", height=height, width=width, grid=grid)
    if outputs.ndim < 1 or outputs.shape[-1] != 5:
        raise ValueError(f"gaussian_filterbank: outputs must be [..., 5], got shape {outputs.shape}.")
    column, row, log_variance, log_stride, log_intensity = jnp.moveaxis(outputs, -1, 0)
    window = Window(
        column=(width + 1) / 2 * (column + 1),
        row=(height + 1) / 2 * (row + 1),
        stride=(max(height, width) - 1) / max(grid - 1, 1) * jnp.exp(log_stride),
        deviation=jnp.exp(log_variance / 2),
        intensity=jnp.exp(log_intensity),
    )
    offsets = (jnp.arange(grid) - (grid - 1) / 2).astype(outputs.dtype)

    def filters(centre: jax.Array, pixels: int) -> jax.Array:
        means = centre[..., None] + offsets * window.stride[..., None]
        distance = jnp.arange(1, pixels + 1).astype(outputs.dtype) - means[..., None]
        return jax.nn.softmax(-((distance / window.deviation[..., None, None]) ** 2) / 2, axis=-1)

    return Filterbank(filters(window.row, height), filters(window.column, width), window)
