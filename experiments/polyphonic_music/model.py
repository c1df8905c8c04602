"""The music model: recurrent layers over frames, and the distribution of the next frame."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, UInt8

import lstmjax
from experiments.polyphonic_music.config import Config
from lstmjax import losses
from lstmjax.losses import nade
from lstmjax.nnx import Functional, Recurrent
from lstmjax.training.batching import Padded
from lstmjax.types import Array, Key, Params

KEYS = 88


CELLS: dict[str, Callable[..., lstmjax.Cell]] = {
    "lstm": lstmjax.lstm,
    "gru": lstmjax.gru,
    "rnn": lstmjax.elman,
}


class MusicModel(nnx.Module):
    """Recurrent layers over frames, and the distribution of the next frame.

    Args:
      config: sizes and rates.
      frequencies: ``[88]``, the frequency of each key, for the initial bias of the readout.
      max_active: maximum number of active keys in a frame, which makes the NADE head efficient.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, config: Config, frequencies: np.ndarray, max_active: int, *, rngs: nnx.Rngs) -> None:
        sizes = [KEYS] + [config.hidden] * config.layers
        make = CELLS[config.cell]
        layers = [Recurrent(make(below, above), rngs=rngs) for below, above in itertools.pairwise(sizes)]
        self.layers = nnx.List(layers)
        self.dropout = nnx.Dropout(config.dropout)
        log_odds = jnp.asarray(np.log(frequencies) - np.log1p(-frequencies), jnp.float32)
        self.readout = nnx.Linear(
            config.hidden,
            KEYS,
            bias_init=lambda *_: log_odds,
            kernel_init=nnx.initializers.lecun_normal(),
            rngs=rngs,
        )
        nade_head = functools.partial(NADEHead, config.hidden, config.nade_units, max_active, rngs=rngs)
        self.nade = nade_head() if config.head == "nade" else None

    def outputs(
        self, frames: Float[Array, "batch time 88"], lengths: Int[Array, " batch"], key: Key | None
    ) -> Float[jax.Array, "batch time hidden"]:
        """Outputs of the highest layer; with dropout if there is a key."""
        outputs = jnp.asarray(frames)
        for number, layer in enumerate(self.layers):
            _, outputs = layer(outputs, lengths=lengths)
            if key is not None:
                rngs = nnx.Rngs(dropout=jax.random.fold_in(key, number))
                outputs = self.dropout(outputs, deterministic=False, rngs=rngs)
        return outputs

    def logits(self, outputs: Float[Array, "*batch hidden"], frames: Float[Array, "*batch 88"]) -> jax.Array:
        """Logits ``[..., 88]`` of the keys of ``frames``, for `losses.bernoulli`."""
        bias = self.readout(outputs)
        return bias if self.nade is None else self.nade.logits(outputs, bias, frames)

    def sample(self, key: Key, outputs: Float[Array, "*batch hidden"], temperature: float) -> jax.Array:
        """Draw a frame ``[..., 88]``."""
        logits = self.readout(outputs)
        if self.nade is not None:
            return self.nade.sample(key, outputs, logits, temperature)
        return jax.random.bernoulli(key, jax.nn.sigmoid(logits / temperature)).astype(logits.dtype)


class NADEHead(nnx.Module):
    """The distribution of a frame in which each key depends on all lower ones."""

    def __init__(self, hidden: int, units: int, max_active: int, *, rngs: nnx.Rngs) -> None:
        normal = nnx.initializers.normal
        self.hidden_bias = nnx.Linear(hidden, units, rngs=rngs)
        self.encoder = nnx.Param(normal(0.3)(rngs.params(), (KEYS, units)))
        self.decoder = nnx.Param(normal(0.05)(rngs.params(), (KEYS, units)))
        self.max_active = max_active

    def logits(self, outputs: Array, bias: Array, frames: Array) -> jax.Array:
        """Logits of all keys given the lower ones in ``frames``."""
        weights = nade.NADEParams(self.encoder[...], self.decoder[...])
        return nade.conditionals(weights, frames, bias, self.hidden_bias(outputs), self.max_active)

    def sample(self, key: Key, outputs: Array, bias: Array, temperature: float) -> jax.Array:
        """Draw a frame, key by key."""
        weights = nade.NADEParams(self.encoder[...], self.decoder[...])
        return nade.sample(weights, key, bias, self.hidden_bias(outputs), temperature)


def frame_losses(model: MusicModel, batch: Padded, key: Key | None = None) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihoods ``[batch, time]`` of the frames after the first, and their mask."""
    frames = jnp.asarray(batch.values, jnp.float32)
    inputs, targets = frames[:, :-1], frames[:, 1:]
    lengths = jnp.maximum(batch.lengths - 1, 0)
    mask = jnp.arange(inputs.shape[1]) < lengths[:, None]
    logits = model.logits(model.outputs(inputs, lengths, key), targets)
    return losses.bernoulli(logits, targets, mask), mask


def generate(
    config: Config, model: Functional, params: Params, key: Key, count: int, frames: int
) -> UInt8[np.ndarray, "count frames 88"]:
    """Sample pieces from the model, beginning with the start frame."""
    module = model.bind(params)

    def body(carry: Any, step_key: Key) -> tuple[Any, jax.Array]:
        states, outputs = carry
        new_states = []
        for layer, state in zip(module.layers, states, strict=True):
            state, outputs = layer.step(state, outputs)
            new_states.append(state)
        frame = module.sample(step_key, outputs, config.temperature)
        return (tuple(new_states), frame), frame

    states = tuple(layer.initial_state((count,)) for layer in module.layers)
    start = (states, jnp.zeros((count, KEYS)))
    _, rolls = jax.jit(functools.partial(jax.lax.scan, body))(start, jax.random.split(key, frames))
    return np.asarray(jnp.moveaxis(rolls, 0, 1), np.uint8)
