"""The networks: a deep bidirectional LSTM with CTC, and a decoder with attention on top of it."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from experiments.speech_recognition.data import CLASSES
from lstmjax import attention
from lstmjax.nnx import Functional, Holder, Recurrent, functional
from lstmjax.types import Array, Key, State

END = 0
"""The class that ends a string, and, before its first digit, begins it."""


class Architecture(NamedTuple):
    """The hyperparameters of a network."""

    features: int
    """Numbers of a frame."""
    stack: int
    hidden: int
    layers: int
    pyramid: bool
    dropout: float
    spells: bool
    """Whether there is a decoder with attention."""


class Heard(NamedTuple):
    """What the bidirectional layers make of an utterance."""

    values: jax.Array
    """[batch, steps, 2 * hidden]: 0 beyond the lengths."""
    lengths: jax.Array
    """[batch]: steps."""


class Spelling(NamedTuple):
    """The state of the decoder between two digits."""

    cell: State
    context: jax.Array
    attention: State


class Recognizer(nnx.Module):
    r"""Bidirectional layers, and a linear layer: the logits of the ten digits and the blank at each step.

    With ``pyramid``, each layer after the first reads pairs of steps of the one before. A decoder reads the
    previous digit and what it attended to before, and attends by location-sensitive attention:

    .. math::
       s_n = \mathrm{LSTM}(s_{n-1}, [E y_{n-1}; c_{n-1}]), \quad c_n = \mathrm{attend}(s_n, h), \quad
       p(y_n) = \mathrm{softmax}(W [s_n; c_n] + b)

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.

    Source: Graves, Mohamed and Hinton 2013 (arXiv:1303.5778); Chan et al. 2016 (arXiv:1508.01211); attention
      of Chorowski et al. 2015 (arXiv:1506.07503).
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        self.architecture = nnx.static(architecture)
        hidden, joined = architecture.hidden, 2 if architecture.pyramid else 1
        first, further = architecture.features * architecture.stack, 2 * hidden * joined
        sizes = [first, *[further] * (architecture.layers - 1)]
        self.layers = nnx.List(
            Recurrent(lstmjax.bidirectional(cell, cell), rngs=rngs)
            for cell in (lstmjax.lstm(size, hidden) for size in sizes)
        )
        self.readout = nnx.Linear(2 * hidden, CLASSES, rngs=rngs)
        if architecture.spells:
            self.embedding = nnx.Embed(CLASSES, hidden, rngs=rngs)
            self.decoder = Holder(lstmjax.lstm(3 * hidden, hidden), rngs=rngs)
            self.attention = Holder(
                attention.location_sensitive(hidden, 2 * hidden, units=hidden, filters=8, width=15), rngs=rngs
            )
            self.spell = nnx.Linear(3 * hidden, CLASSES, rngs=rngs)

    def listen(
        self,
        values: Float[Array, "batch time features"],
        lengths: Int[Array, " batch"],
        key: Key | None = None,
    ) -> Heard:
        """The outputs of the last layer; dropout with ``key``. ``values`` must be 0 beyond the lengths."""
        heard = Heard(jnp.asarray(values), jnp.asarray(lengths))
        for number, layer in enumerate(self.layers):
            factor = self.architecture.stack if number == 0 else 1 + self.architecture.pyramid
            inputs, steps = join(*heard, factor)
            _, outputs = layer(inputs, lengths=steps)
            if key is not None:
                outputs = dropped(jax.random.fold_in(key, number), outputs, self.architecture.dropout)
            heard = Heard(outputs, steps)
        return heard

    def begin(self, heard: Heard) -> tuple[attention.Memory, Spelling]:
        """The memory of an utterance, and the decoder's state before the first digit."""
        memory = self.attention.cell.prepare(self.attention.values, heard.values, heard.lengths)
        state = self.decoder.cell.initial_state(heard.lengths.shape)
        looking = self.attention.cell.initial_state(memory)
        return memory, Spelling(state, jnp.zeros_like(heard.values[:, 0]), looking)

    def step(
        self, memory: attention.Memory, state: Spelling, labels: Int[Array, " batch"]
    ) -> tuple[Spelling, tuple[jax.Array, jax.Array]]:
        """The next state, and, of the next digit, the logits and the attention weights."""
        inputs = jnp.concatenate([self.embedding(labels), state.context], axis=-1)
        cell, hidden = self.decoder.cell.step(self.decoder.values, state.cell, inputs)
        glimpse, looking = self.attention.cell.attend(self.attention.values, memory, hidden, state.attention)
        logits = self.spell(jnp.concatenate([hidden, glimpse.context], axis=-1))
        return Spelling(cell, glimpse.context, looking), (logits, glimpse.weights)

    def teach(
        self, heard: Heard, labels: Int[Array, "batch digits"]
    ) -> tuple[Float[jax.Array, "batch digits1 classes"], Float[jax.Array, "batch digits1 steps"]]:
        """Logits and attention weights of each digit and of the end, given the right digits before."""
        memory, state = self.begin(heard)
        before = jnp.pad(labels, ((0, 0), (1, 0)), constant_values=END)
        _, (logits, weights) = jax.lax.scan(functools.partial(self.step, memory), state, before.T)
        return jnp.moveaxis(logits, 0, 1), jnp.moveaxis(weights, 0, 1)


def join(
    values: Float[Array, "batch time features"], lengths: Int[Array, " batch"], factor: int
) -> tuple[jax.Array, jax.Array]:
    """Join so many steps to one; what is missing at the end is 0."""
    batch, time, size = values.shape
    values = jnp.pad(values, ((0, 0), (0, -time % factor), (0, 0)))
    return values.reshape(batch, -1, factor * size), jnp.asarray(-(-lengths // factor))


def dropped(key: Key, values: Float[Array, "batch time features"], rate: float) -> jax.Array:
    """Dropout of the same features at all steps of a row (Gal and Ghahramani 2016, arXiv:1512.05287)."""
    kept = jax.random.bernoulli(key, 1 - rate, (len(values), 1, values.shape[2]))
    return jnp.where(kept, values / (1 - rate), 0)


@functools.cache
def make_model(architecture: Architecture) -> Functional:
    """A network; cached, so that it is compiled once."""
    return functional(functools.partial(Recognizer, architecture))
