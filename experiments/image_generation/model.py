"""DRAW: an encoder looks at an image several times, and each time a decoder draws on a canvas."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

import lstmjax
from experiments.datasets.mnist import SIDE
from experiments.image_generation.config import Config
from lstmjax.attention import Window, gaussian_filterbank
from lstmjax.cells.lstm import LSTMState
from lstmjax.nnx import Functional, Recurrent, functional
from lstmjax.types import Array

PIXELS = SIDE * SIDE


class WholeImage(nnx.Module):
    """Reading and writing without attention: all pixels at once (equations 17 and 18)."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.features = 2 * PIXELS
        self.paint = nnx.Linear(config.hidden, PIXELS, rngs=rngs)

    def read(self, pair: Float[Array, "batch two side side"], hidden: Array) -> tuple[jax.Array, None]:
        """The image and the error of the canvas, as they are."""
        return jnp.asarray(pair).reshape(len(pair), -1), None

    def write(self, hidden: Array) -> tuple[jax.Array, None]:
        """What is added to the canvas, ``[batch, pixels]``."""
        return self.paint(hidden), None


class Attentive(nnx.Module):
    """Reading and writing through grids of Gaussian filters that the decoder places (equations 19 to 29)."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.read_grid, self.write_grid = config.read, config.write
        self.features = 2 * config.read**2
        unit = (config.write / SIDE) ** 2  # the gain at which a patch of ones is written as ones, on average
        self.aim_read = _aim(config, config.read, 4.0, rngs)
        self.aim_write = _aim(config, config.write, unit / 3, rngs)
        self.paint = nnx.Linear(config.hidden, config.write**2, rngs=rngs)

    def read(self, pair: Float[Array, "batch two side side"], hidden: Array) -> tuple[jax.Array, Window]:
        """Patches of the image and of the error, from the same window."""
        bank = gaussian_filterbank(self.aim_read(hidden), (SIDE, SIDE), self.read_grid)
        both = jax.tree.map(lambda leaf: leaf[:, None], bank)
        return both.read(pair).reshape(len(pair), -1), bank.window

    def write(self, hidden: Array) -> tuple[jax.Array, Window]:
        """What is added to the canvas, ``[batch, pixels]``."""
        bank = gaussian_filterbank(self.aim_write(hidden), (SIDE, SIDE), self.write_grid)
        patch = self.paint(hidden).reshape(-1, self.write_grid, self.write_grid)
        return bank.write(patch).reshape(-1, PIXELS), bank.window


def _aim(config: Config, grid: int, gain: float, rngs: nnx.Rngs) -> nnx.Linear:
    """From a hidden state to a window that at first covers the image, with ``gain`` as its intensity.

    With a bias of 0 the four filters that read lie in the corners, where there is nothing to be seen, and
    what is written is faint: the posterior then stays at the prior for more than a thousand steps.
    """
    stride = SIDE / grid
    relative = math.log(stride * max(grid - 1, 1) / (SIDE - 1))
    bias = jnp.array([0.0, 0.0, 2 * math.log(stride / 4), relative, math.log(gain)])
    return nnx.Linear(config.hidden, 5, bias_init=lambda key, shape, dtype: bias.astype(dtype), rngs=rngs)


class Progress(NamedTuple):
    """What goes from one glimpse to the next."""

    encoder: LSTMState
    decoder: LSTMState
    canvas: Float[Array, "batch pixels"]
    """The logits of the pixels."""


class Drawn(NamedTuple):
    """What one glimpse leaves; after all, with a leading axis of glimpses."""

    canvas: Float[Array, "batch pixels"]
    kl: Float[Array, " batch"]
    """KL(Q(z|x) || P(z)) in nats; 0 where z was given."""
    log_ratio: Float[Array, " batch"]
    """log Q(z|x) - log P(z) of the z that was drawn, of which the former is the mean."""
    read: Window | None
    write: Window | None


class Draw(nnx.Module):
    r"""The network; at each glimpse t, with the canvas c and the logistic function :math:`\sigma`:

    .. math::
       r_t &= \mathrm{read}(x, x - \sigma(c_{t-1}), h^{dec}_{t-1}) \\
       h^{enc}_t &= \mathrm{LSTM}(h^{enc}_{t-1}, [r_t, h^{dec}_{t-1}]) \\
       z_t &\sim Q(Z_t | h^{enc}_t) = \mathcal{N}(\mu(h^{enc}_t), \sigma(h^{enc}_t)^2) \\
       h^{dec}_t &= \mathrm{LSTM}(h^{dec}_{t-1}, z_t), \quad c_t = c_{t-1} + \mathrm{write}(h^{dec}_t)

    The first canvas is learnt; hidden states begin with 0. Images are ``[batch, pixels]`` of 0 and 1.

    Source: Gregor et al. 2015 (arXiv:1502.04623, equations 3 to 8).
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.glimpse = (Attentive if config.attention else WholeImage)(config, rngs=rngs)
        features = self.glimpse.features + config.hidden
        self.encoder = Recurrent(lstmjax.lstm(features, config.hidden), rngs=rngs)
        self.posterior = nnx.Linear(config.hidden, 2 * config.latent, rngs=rngs)
        self.decoder = Recurrent(lstmjax.lstm(config.latent, config.hidden), rngs=rngs)
        self.canvas = nnx.Param(jnp.zeros(PIXELS))

    def begin(self, batch: int) -> Progress:
        """Before the first glimpse."""
        return Progress(
            encoder=self.encoder.initial_state((batch,)),
            decoder=self.decoder.initial_state((batch,)),
            canvas=jnp.broadcast_to(self.canvas[...], (batch, PIXELS)),
        )

    def reconstruct(
        self, images: Float[Array, "batch pixels"], noise: Float[Array, "glimpses batch latent"]
    ) -> tuple[Progress, Drawn]:
        """Draw given images, with z from the posterior by this standard normal noise."""

        def glimpse(before: Progress, noise: jax.Array) -> tuple[Progress, Drawn]:
            hidden = before.decoder.hidden
            pair = jnp.stack([images, images - jax.nn.sigmoid(before.canvas)], axis=1)
            seen, window = self.glimpse.read(pair.reshape(-1, 2, SIDE, SIDE), hidden)
            encoder, output = self.encoder.step(before.encoder, jnp.concatenate([seen, hidden], axis=-1))
            mean, log_deviation = jnp.split(self.posterior(output), 2, axis=-1)
            z = mean + jnp.exp(log_deviation) * noise
            kl = (mean**2 + jnp.exp(2 * log_deviation) - 1) / 2 - log_deviation
            log_ratio = (z**2 - noise**2) / 2 - log_deviation
            after, drawn = self._draw(before._replace(encoder=encoder), z)
            return after, drawn._replace(kl=kl.sum(-1), log_ratio=log_ratio.sum(-1), read=window)

        return jax.lax.scan(glimpse, self.begin(len(images)), jnp.asarray(noise))

    def generate(self, z: Float[Array, "glimpses batch latent"]) -> tuple[Progress, Drawn]:
        """Draw from given z, such as standard normal noise, their prior."""
        return jax.lax.scan(self._draw, self.begin(z.shape[1]), jnp.asarray(z))

    def _draw(self, before: Progress, z: Float[jax.Array, "batch latent"]) -> tuple[Progress, Drawn]:
        decoder, output = self.decoder.step(before.decoder, z)
        added, window = self.glimpse.write(output)
        after = Progress(before.encoder, decoder, before.canvas + added)
        none = jnp.zeros(len(z))
        return after, Drawn(after.canvas, none, none, None, window)


@functools.cache
def make_model(config: Config) -> Functional:
    """The network of a config; cached, so that it is compiled once."""
    return functional(functools.partial(Draw, config))
