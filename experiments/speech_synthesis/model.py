"""The networks: from phones to their durations, and from timed phones to the vocoder's parameters."""

import bisect
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from experiments.speech_synthesis.config import Config
from experiments.speech_synthesis.linguistics import CONTEXT, NUMBERS, SYMBOLS
from lstmjax.nnx import Functional, Recurrent, functional
from lstmjax.types import Array, Key

POSITIONS = 5
"""Numbers that say where in its phone a step is."""


class Architecture(NamedTuple):
    """The hyperparameters of a network."""

    features: int
    """Size of its input vectors."""
    outputs: int
    dense: tuple[int, ...]
    """Units of the dense layers."""
    hidden: int
    """Units of an LSTM, in each direction."""
    layers: int
    """Bidirectional recurrent layers, after the dense ones; 0 for a DNN."""
    dropout: float


class Network(nnx.Module):
    r"""Dense layers, bidirectional LSTMs, and a linear layer.

    .. math::
        h^0_t = relu(W x_t + b), \quad
        h^k_t = [\overrightarrow{LSTM}(h^{k-1})_t; \overleftarrow{LSTM}(h^{k-1})_t], \quad
        y_t = W_o h^K_t + b_o

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        sizes = (architecture.features, *architecture.dense)
        init = nnx.initializers.he_normal()
        pairs = itertools.pairwise(sizes)
        self.dense = nnx.List([nnx.Linear(*pair, kernel_init=init, rngs=rngs) for pair in pairs])
        inputs = [sizes[-1], *[2 * architecture.hidden] * architecture.layers]
        self.recurrent = nnx.List(
            [Recurrent(_both_ways(size, architecture), rngs=rngs) for size in inputs[:-1]]
        )
        self.readout = nnx.Linear(inputs[-1], architecture.outputs, rngs=rngs)
        self.dropout = nnx.Dropout(architecture.dropout)

    def __call__(
        self,
        inputs: Float[Array, "batch time features"],
        lengths: Int[Array, " batch"],
        key: Key | None = None,
    ) -> Float[jax.Array, "batch time outputs"]:
        """The outputs, undefined beyond the lengths; with dropout if there is a key."""
        count = len(self.dense) + len(self.recurrent)
        keys: Any = [None] * count if key is None else jax.random.split(key, max(count, 1))
        values = inputs
        for layer, own in zip(self.dense, keys, strict=False):
            values = jax.nn.relu(layer(values))
            if own is not None:
                values = self.dropout(values, deterministic=False, rngs=nnx.Rngs(dropout=own))
        for recurrent, own in zip(self.recurrent, keys[len(self.dense) :], strict=True):
            _, values = recurrent(values, lengths=lengths, key=own)
        return self.readout(values)


def _both_ways(features: int, architecture: Architecture) -> Any:
    cell = lstmjax.dropout(lstmjax.lstm(features, architecture.hidden), outputs=architecture.dropout)
    return lstmjax.bidirectional(cell, cell)


class Synthesiser(nnx.Module):
    """A network for the durations of phones, and one for the parameters of every step.

    Both see phones with their neighbours as vectors that are learnt; the acoustic one also sees where in its
    phone a step is.

    Args:
      embedding: size of the vector of a phone.
      durations: the hyperparameters of the network of durations.
      acoustics: those of the acoustic network.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(
        self, embedding: int, durations: Architecture, acoustics: Architecture, *, rngs: nnx.Rngs
    ) -> None:
        self.embeddings = nnx.Embed(len(SYMBOLS), embedding, rngs=rngs)
        self.durations = Network(durations, rngs=rngs)
        self.acoustics = Network(acoustics, rngs=rngs)

    def time(
        self,
        phones: Float[Array, "batch phones features"],
        lengths: Int[Array, " batch"],
        key: Key | None = None,
    ) -> Float[jax.Array, "batch phones"]:
        """The standardized duration of each phone."""
        return self.durations(self._inputs(phones), lengths, key)[..., 0]

    def speak(
        self,
        phones: Float[Array, "batch phones features"],
        steps: Int[Array, "batch phones"],
        time: int,
        key: Key | None = None,
    ) -> Float[jax.Array, "batch {time} outputs"]:
        """The standardized parameters of every step, of phones with durations in steps; 0 is for padding."""
        owner, positions = jax.vmap(functools.partial(places, time=time))(steps)
        own = jnp.take_along_axis(self._inputs(phones), owner[..., None], axis=1)
        inputs = jnp.concatenate([own, positions], axis=-1)
        return self.acoustics(inputs, jnp.minimum(steps.sum(axis=1), time), key)

    def _inputs(self, phones: Float[Array, "batch phones features"]) -> jax.Array:
        phones = jnp.asarray(phones)
        vectors = self.embeddings(phones[..., :CONTEXT].astype(jnp.int32))
        vectors = vectors.reshape(*vectors.shape[:-2], -1)
        return jnp.concatenate([vectors, phones[..., CONTEXT:]], axis=-1)


def places(
    steps: Int[Array, " phones"], time: int
) -> tuple[Int[jax.Array, " {time}"], Float[jax.Array, "{time} 5"]]:
    """The phone of each of ``time`` steps, and where in the phone it is.

    Returns:
      The index of the phone (of the last beyond the end), and the share of the phone that is over, logarithms
      of the steps since its start and until its end, and of its duration, and the place in the phrase.
    """
    ends = jnp.cumsum(jnp.asarray(steps))
    now = jnp.arange(time)
    owner = jnp.minimum(jnp.searchsorted(ends, now, side="right"), len(ends) - 1)
    duration = jnp.maximum(jnp.asarray(steps)[owner], 1)
    since = jnp.maximum(now - (ends[owner] - duration), 0)
    until = jnp.maximum(duration - 1 - since, 0)
    share = (since + 0.5) / duration
    logs = [jnp.log1p(each.astype(jnp.float32)) for each in (since, until, duration)]
    numbers = [share, *logs, now / jnp.maximum(ends[-1], 1)]
    return owner, jnp.stack(numbers, axis=-1, dtype=jnp.float32)


def make_architectures(config: Config, outputs: int) -> tuple[Architecture, Architecture]:
    """The networks of a config, for durations and acoustics; a DNN has as many parameters as the LSTMs."""
    features = CONTEXT * config.embedding + NUMBERS
    durations = Architecture(features, 1, (config.dense,), config.duration_hidden, 1, config.dropout)
    acoustics = Architecture(
        features + POSITIONS, outputs, (config.dense,), config.hidden, config.layers, config.dropout
    )
    if config.model == "blstm":
        return durations, acoustics
    return _as_dense(durations, config.dense_layers), _as_dense(acoustics, config.dense_layers)


def _as_dense(architecture: Architecture, layers: int) -> Architecture:
    """A network of dense layers with as many parameters, as nearly as their number of units gives it."""
    wanted = count(architecture)

    def of(units: int) -> Architecture:
        return architecture._replace(dense=(units,) * layers, layers=0)

    above = bisect.bisect_left(range(1, 4096), 0, key=lambda units: count(of(units)) - wanted) + 1
    return of(min(max(above - 1, 1), above, key=lambda units: abs(count(of(units)) - wanted)))


def count(architecture: Architecture) -> int:
    """The number of parameters of a network."""
    sizes = [architecture.features, *architecture.dense]
    total = sum((before + 1) * after for before, after in itertools.pairwise(sizes))
    size = sizes[-1]
    for _ in range(architecture.layers):
        total += 2 * 4 * architecture.hidden * (size + architecture.hidden + 1)
        size = 2 * architecture.hidden
    return total + (size + 1) * architecture.outputs


def make_model(config: Config, outputs: int) -> Functional:
    """The model of a config as pure functions."""
    return functional(functools.partial(Synthesiser, config.embedding, *make_architectures(config, outputs)))
