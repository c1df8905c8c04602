"""The captioner: an encoder of pictures, and an LSTM that writes, with attention to regions or without."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int

import lstmjax
from experiments.image_captioning.data import END, START, UNKNOWN_WORD
from lstmjax import attention, decoding
from lstmjax.attention import Memory
from lstmjax.nnx import Functional, Holder, Recurrent, functional
from lstmjax.types import Array, Key, Params

FAINT = 25
"""A difference of neighbouring pixels, of 255, that makes half an edge."""


class Architecture(NamedTuple):
    """The hyperparameters of a captioner."""

    vocabulary: int
    hidden: int
    embedding: int
    channels: tuple[int, ...]
    """Of the convolutions; the last are those of a region."""
    features: int
    """Size of precomputed features of a region; 0 for pictures."""
    regions: int
    """Number of regions of a picture."""
    attends: bool
    """Whether the decoder attends to regions in each step, or sees their mean before the first word."""
    dropout: float
    contours: bool = False
    """Whether half of the channels see contours, and half colours."""


class Encoder(nnx.Module):
    """Convolutions with layer normalization: a picture to the regions of a grid.

    Args:
      channels: of each convolution, 3x3; the first three have stride 2.
      inputs: channels of the picture.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, channels: tuple[int, ...], inputs: int = 3, *, rngs: nnx.Rngs) -> None:
        strides = [2] * 3 + [1] * (len(channels) - 3)
        sizes = zip([inputs, *channels], channels, strides, strict=False)
        self.convolutions = nnx.List(
            [nnx.Conv(a, b, (3, 3), strides=(by, by), rngs=rngs) for a, b, by in sizes]
        )
        self.norms = nnx.List([nnx.LayerNorm(size, rngs=rngs) for size in channels])

    def __call__(self, pictures: Array) -> Float[jax.Array, "batch regions features"]:
        """The regions of pictures ``[batch, side, side, inputs]``, 0 to 255, row by row."""
        hidden = jnp.asarray(pictures, jnp.float32) / 127.5 - 1
        for convolve, normalize in zip(self.convolutions, self.norms, strict=True):
            hidden = jax.nn.relu(normalize(convolve(hidden)))
        return hidden.reshape(len(hidden), -1, hidden.shape[-1])


class TwoStreams(nnx.Module):
    """Two encoders beside each other: one sees contours without colours, one the picture.

    What a thing is can then be told whatever its colour: neither stream knows which colours go with which
    shapes. The visual cortex too has pathways of form and of colour (Livingstone and Hubel 1988, Science
    240).

    Args:
      channels: of both together.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, channels: tuple[int, ...], *, rngs: nnx.Rngs) -> None:
        halves = tuple(size // 2 for size in channels)
        self.contours, self.colours = Encoder(halves, 1, rngs=rngs), Encoder(halves, rngs=rngs)

    def __call__(self, pictures: Array) -> Float[jax.Array, "batch regions features"]:
        """The regions of pictures, uint8 ``[batch, side, side, 3]``, row by row."""
        streams = self.contours(contours(pictures)), self.colours(pictures)
        return jnp.concatenate(streams, axis=-1)


def contours(pictures: Array) -> Float[jax.Array, "batch side side 1"]:
    """The strength of the edges of pictures ``[batch, side, side, 3]``, 0 to 255, and of equal range.

    It is the length of the gradient over all colours, relative to the largest one within four pixels and to
    `FAINT`, so that noise stays weak.
    """
    numbers = jnp.asarray(pictures, jnp.float32)
    down = jnp.diff(numbers, axis=1, append=numbers[:, -1:])
    right = jnp.diff(numbers, axis=2, append=numbers[:, :, -1:])
    length = jnp.sqrt((down**2 + right**2).sum(axis=-1, keepdims=True))
    window = (1, 9, 9, 1)
    largest = jax.lax.reduce_window(length, 0.0, jax.lax.max, window, (1, 1, 1, 1), "SAME")
    return 255 * length / (largest + FAINT)


class Looked(NamedTuple):
    """What the decoder gives after a word."""

    output: jax.Array
    """``[batch, embedding]``: the vector that gives the logits of the next word."""
    weights: jax.Array
    """``[batch, regions]``: the attention; empty without."""


class Captioner(nnx.Module):
    r"""The distribution of the next word of a caption, given the picture and the words before.

    With attention to the regions a (Xu et al. 2015, equations 1 to 7, soft attention):

    .. math::
       \hat z_t &= \sigma(W_\beta h_{t-1}) \sum_i \alpha_{ti} a_i, \quad
       \alpha_t = \mathrm{softmax}_i (v \cdot \tanh(W h_{t-1} + U a_i)) \\
       h_t &= \mathrm{LSTM}([E y_{t-1}; \hat z_t], h_{t-1}) \\
       p(y_t) &= \mathrm{softmax}(L_o \tanh(E y_{t-1} + L_h h_t + L_z \hat z_t))

    where h_0 and the first cell state are functions of the mean region, and a_i has a learned vector of its
    place added. The gate is a vector, and not a scalar; the tanh is that of the paper's published code.
    Without attention (Vinyals et al. 2015) a linear function of the mean region is the LSTM's input before
    the first word, and z is left out.

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        hidden, embedding, size = architecture.hidden, architecture.embedding, architecture.channels[-1]
        self.architecture = nnx.static(architecture)
        if architecture.features:
            self.encoder: Any = nnx.Linear(architecture.features, size, rngs=rngs)
        else:
            encoder = TwoStreams if architecture.contours else Encoder
            self.encoder = encoder(architecture.channels, rngs=rngs)
        self.places = nnx.Param(0.1 * jax.random.normal(rngs.params(), (architecture.regions, size)))
        self.words = nnx.Embed(architecture.vocabulary, embedding, rngs=rngs)
        seen = size if architecture.attends else 0
        self.decoder = Recurrent(lstmjax.lstm(embedding + seen, hidden), rngs=rngs)
        self.first = nnx.Linear(size, 2 * hidden if architecture.attends else embedding, rngs=rngs)
        looking = attention.bahdanau(hidden, size, units=size)
        self.attention = nnx.data(Holder(looking, rngs=rngs) if architecture.attends else None)
        self.gate = nnx.data(nnx.Linear(hidden, size, rngs=rngs) if architecture.attends else None)
        self.combine = nnx.Linear(hidden + seen, embedding, rngs=rngs)
        self.readout = nnx.Linear(embedding, architecture.vocabulary, rngs=rngs)

    def encode(self, pictures: Array) -> Float[jax.Array, "batch regions features"]:
        """The regions of pictures, or of their features."""
        return self.encoder(jnp.asarray(pictures)) + self.places[...]

    def start(self, regions: Float[Array, "batch regions features"]) -> tuple[Memory | None, Any]:
        """The memory, and the state of the LSTM before the first word."""
        first = self.first(regions.mean(axis=1))
        if self.attention is None:
            cell = self.decoder.cell
            state, _ = cell.step(self.decoder.values, cell.initial_state((len(regions),)), first)
            return None, state
        state = lstmjax.LSTMState(*jnp.split(jnp.tanh(first), 2, axis=-1))
        return self.attention.cell.prepare(self.attention.values, regions), state

    def step(
        self, memory: Memory | None, state: Any, tokens: Int[Array, " batch"], drop: "Masks"
    ) -> tuple[Any, Looked]:
        """Advance by one word."""
        embedded = self.words(tokens) * drop.embedding
        seen, weights = embedded[:, :0], embedded[:, :0]
        if self.attention is not None and self.gate is not None:
            glimpse, _ = self.attention.cell.attend(self.attention.values, memory, state.hidden, ())
            seen = jax.nn.sigmoid(self.gate(state.hidden)) * glimpse.context
            weights = glimpse.weights
        inputs = jnp.concatenate([embedded, seen], axis=-1)
        state, hidden = self.decoder.cell.step(self.decoder.values, state, inputs)
        output = jnp.tanh(embedded + self.combine(jnp.concatenate([hidden, seen], axis=-1)))
        return state, Looked(output * drop.output, weights)

    def teach(
        self, pictures: Array, captions: Int[Array, "batch time"], key: Key | None = None
    ) -> tuple[Float[jax.Array, "batch time vocabulary"], Float[jax.Array, "batch time regions"]]:
        """Logits of each word given those before it, and the attention weights; dropout if there is a key."""
        regions = self.encode(pictures)
        drop = Masks.draw(key, self.architecture, len(captions))
        memory, state = self.start(regions * drop.regions)
        before = jnp.pad(captions[:, :-1], ((0, 0), (1, 0)), constant_values=START)
        _, looked = jax.lax.scan(
            lambda state, tokens: self.step(memory, state, tokens, drop), state, before.T
        )
        looked = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), looked)
        return self.readout(looked.output), looked.weights


class Masks(NamedTuple):
    """Factors of dropout, the same for all words of a caption; 1 without dropout."""

    embedding: Any = 1.0
    output: Any = 1.0
    regions: Any = 1.0

    @classmethod
    def draw(cls, key: Key | None, about: Architecture, batch: int) -> "Masks":
        """Masks of a batch; without a key, no dropout."""
        if key is None:
            return cls()
        sizes = ((batch, about.embedding), (batch, about.embedding), (batch, 1, about.channels[-1]))
        keys, keep = jax.random.split(key, len(sizes)), 1 - about.dropout
        return cls(
            *(jax.random.bernoulli(key, keep, size) / keep for key, size in zip(keys, sizes, strict=True))
        )


@functools.cache
def make_model(architecture: Architecture) -> Functional:
    """A captioner; cached, so that it is compiled once."""
    return functional(functools.partial(Captioner, architecture))


def doubly_stochastic_penalty(
    weights: Float[Array, "batch time regions"], mask: Bool[Array, "batch time"]
) -> Float[jax.Array, " batch"]:
    r""":math:`\sum_i (1 - \sum_t \alpha_{ti})^2` (Xu et al. 2015, equation 14)."""
    return ((1 - (weights * mask[..., None]).sum(axis=1)) ** 2).sum(axis=-1)


class Search(NamedTuple):
    """Settings of beam search."""

    beams: int
    length_penalty: float
    longest: int
    """Maximum number of words."""


@functools.partial(jax.jit, static_argnames=("model", "search"))
def describe(
    model: Functional, params: Params, pictures: Array, search: Search
) -> Int[jax.Array, "batch words"]:
    """The best caption found for each picture, padded with `END`; the unknown word is not written."""
    module = model.bind(params)
    memory, state = module.start(module.encode(pictures))
    never = jnp.zeros(module.architecture.vocabulary).at[jnp.array([START, UNKNOWN_WORD])].set(-jnp.inf)

    def step(state: Any, tokens: jax.Array) -> Any:
        state, looked = module.step(memory, state, tokens, Masks())
        return state, module.readout(looked.output) + never

    found = decoding.beam_search(
        step, state, START, END, search.longest + 1, search.beams, search.length_penalty
    )
    return found.tokens[:, 0]


@functools.partial(jax.jit, static_argnames="model")
def look(
    model: Functional, params: Params, pictures: Array, captions: Int[Array, "batch words"]
) -> Float[jax.Array, "batch words regions"]:
    """The attention weights for each word of captions."""
    return model.bind(params).teach(pictures, captions)[1]


@functools.partial(jax.jit, static_argnames="model")
def mean_regions(model: Functional, params: Params, pictures: Array) -> Float[jax.Array, "batch features"]:
    """The mean region of each picture."""
    return model.bind(params).encode(pictures).mean(axis=1)
