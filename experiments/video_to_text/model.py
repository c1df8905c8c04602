"""S2VT: two stacked LSTMs that read the frames of a video, and then write words."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from experiments.video_to_text.data import END
from experiments.video_to_text.rendering import SIDE
from lstmjax import attention
from lstmjax.attention import Memory
from lstmjax.nnx import Functional, Holder, Recurrent, functional
from lstmjax.types import Array, Key, State


class Architecture(NamedTuple):
    """The hyperparameters of a model."""

    words: int
    """Size of the vocabulary."""
    inputs: int
    """Size of the features of a frame that are given; 0 for pictures."""
    channels: int
    features: int
    hidden: int
    dropout: float
    pools: bool
    """The frames are pooled, and not read one after the other."""
    attends: bool


class Writing(NamedTuple):
    """The state between two words."""

    frames: State
    """Of the first LSTM."""
    words: State
    """Of the second LSTM."""


class Watched(NamedTuple):
    """What is known of a video when the first word is to be written."""

    start: Writing
    frame: jax.Array
    """[batch, features]: what the first LSTM reads with every word: null, or the mean of all frames."""
    memory: Memory | None
    """The outputs of the first LSTM, if they are attended to."""
    mask: jax.Array | float
    """[batch, hidden]: dropout of the outputs."""


class Captioner(nnx.Module):
    r"""The first LSTM reads frames x, the second the first's outputs and words y:

    .. math::
       h_t = \mathrm{LSTM}_1(h_{t-1}, x_t), \quad
       z_t = \mathrm{LSTM}_2(z_{t-1}, [h_t; E y_{t-1}; c_t]), \quad p(y_t) = \mathrm{softmax}(W z_t + b)

    While frames are read, y and c are null; while words are written, x is. With temporal attention,
    :math:`c_t = \sum_i a_{ti} h_i` over the frames, scored against :math:`z_{t-1}`; without, it is absent.

    A model that pools reads no frame beforehand: with every word, x is the mean of all frames.

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.

    Source: Venugopalan et al. 2015a (arXiv:1505.00487) for S2VT, 2015b (arXiv:1412.4729) for the mean; Yao et
      al. 2015 (arXiv:1502.08029) for temporal attention.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        self.architecture = nnx.static(architecture)
        features, hidden = architecture.features, architecture.hidden
        self.frame = (
            _Features(architecture, rngs=rngs) if architecture.inputs else _Eye(architecture, rngs=rngs)
        )
        self.embedding = nnx.Embed(architecture.words, features, rngs=rngs)
        self.reader = Recurrent(lstmjax.lstm(features, hidden), rngs=rngs)
        self.written = features + hidden * architecture.attends
        self.writer = Recurrent(lstmjax.lstm(hidden + self.written, hidden), rngs=rngs)
        looking = attention.bahdanau(hidden, hidden, units=hidden // 2) if architecture.attends else None
        self.attention = nnx.data(looking and Holder(looking, rngs=rngs))
        self.readout = nnx.Linear(hidden, architecture.words, rngs=rngs)

    def watch(self, video: Array, lengths: Int[Array, " batch"], key: Key | None = None) -> Watched:
        """Read videos ``[batch, time, side, side]``, uint8, or features of frames; dropout with ``key``."""
        batch, time = video.shape[:2]
        frames = self.frame(jnp.asarray(video).reshape(batch * time, *video.shape[2:]))
        frames = frames.reshape(batch, time, -1)
        mask: jax.Array | float = 1.0
        if key is not None:
            frame_key, mask_key = jax.random.split(key)
            frames = frames * self._mask(frame_key, (batch, 1, frames.shape[-1]))
            mask = self._mask(mask_key, (batch, self.architecture.hidden))
        start = Writing(*(each.initial_state((batch,)) for each in (self.reader, self.writer)))
        if self.architecture.pools:
            there = jnp.arange(time) < lengths[:, None]
            total = jnp.where(there[..., None], frames, 0).sum(axis=1)
            return Watched(start, total / jnp.maximum(lengths, 1)[:, None], None, mask)
        read, outputs = self.reader(frames, lengths=lengths)
        null = jnp.zeros((batch, time, self.written))
        words, _ = self.writer(jnp.concatenate([outputs, null], axis=-1), lengths=lengths)
        memory = None
        if self.attention is not None:
            memory = self.attention.cell.prepare(self.attention.values, outputs, lengths)
        return Watched(Writing(read, words), jnp.zeros_like(frames[:, 0]), memory, mask)

    def step(
        self, watched: Watched, state: Writing, words: Int[Array, " batch"]
    ) -> tuple[Writing, tuple[jax.Array, jax.Array]]:
        """The next state, and, of the next word, the logits and the attention weights ``[batch, time]``."""
        frames, read = self.reader.step(state.frames, watched.frame)
        inputs, weights = [read, self.embedding(words)], jnp.zeros((len(words), 0))
        if watched.memory is not None:
            assert self.attention is not None
            glimpse, _ = self.attention.cell.attend(
                self.attention.values, watched.memory, state.words.hidden, ()
            )
            inputs.append(glimpse.context)
            weights = glimpse.weights
        writing, hidden = self.writer.step(state.words, jnp.concatenate(inputs, axis=-1))
        return Writing(frames, writing), (self.readout(hidden * watched.mask), weights)

    def teach(
        self, watched: Watched, words: Int[Array, "batch words"]
    ) -> tuple[Float[jax.Array, "batch words vocabulary"], Float[jax.Array, "batch words time"]]:
        """Logits and attention weights of each word, given the right words before."""
        before = jnp.pad(words[:, :-1], ((0, 0), (1, 0)), constant_values=END)
        _, (logits, weights) = jax.lax.scan(functools.partial(self.step, watched), watched.start, before.T)
        return jnp.moveaxis(logits, 0, 1), jnp.moveaxis(weights, 0, 1)

    def _mask(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        rate = self.architecture.dropout
        return jax.random.bernoulli(key, 1 - rate, shape) / (1 - rate)


class _Eye(nnx.Module):
    """Pictures uint8 ``[batch, side, side]`` to vectors: what there is, and where.

    Two convolutions give channels for places that are 4 pixels apart, each of which sees 16 x 16 pixels. A
    half of the vector is of their largest values over all places, a half of all values.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        channels, half = architecture.channels, architecture.features // 2
        self.first = nnx.Conv(1, channels, (8, 8), strides=4, padding="VALID", rngs=rngs)
        self.second = nnx.Conv(channels, 3 * channels, (3, 3), padding="VALID", rngs=rngs)
        places = ((SIDE - 8) // 4 + 1 - 2) ** 2
        self.what = nnx.Linear(3 * channels, half, rngs=rngs)
        self.where = nnx.Linear(3 * channels * places, architecture.features - half, rngs=rngs)
        self.what_norm = nnx.LayerNorm(half, rngs=rngs)
        self.where_norm = nnx.LayerNorm(architecture.features - half, rngs=rngs)

    def __call__(self, pictures: Array) -> jax.Array:
        maps = jnp.asarray(pictures)[..., None] / 255
        for layer in (self.first, self.second):
            maps = jax.nn.relu(layer(maps))
        what = self.what_norm(self.what(maps.max(axis=(1, 2))))
        where = self.where_norm(self.where(maps.reshape(len(maps), -1)))
        return jax.nn.relu(jnp.concatenate([what, where], axis=-1))


class _Features(nnx.Module):
    """A linear layer for features that are given, float ``[batch, inputs]``."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        self.last = nnx.Linear(architecture.inputs, architecture.features, rngs=rngs)

    def __call__(self, features: Array) -> jax.Array:
        return self.last(jnp.asarray(features, jnp.float32))


@functools.cache
def make_model(architecture: Architecture) -> Functional:
    """A model; cached, so that it is compiled once."""
    return functional(functools.partial(Captioner, architecture))
