"""The networks: one recurrent layer of LSTMs, and a softmax over the labels of each frame."""

import bisect
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from experiments.bidirectional_context.config import Config
from experiments.bidirectional_context.data import SOURCES
from lstmjax.nnx import Functional, Recurrent, functional
from lstmjax.types import Array


class Architecture(NamedTuple):
    """The hyperparameters of a network."""

    features: int
    classes: int
    hidden: int
    """Units of an LSTM; a network in both directions has two LSTMs."""
    direction: str
    delay: int


class Labeller(nnx.Module):
    r"""One recurrent layer, and a linear layer: the logits of the label of each frame t.

    ======== =======================================================
    past     :math:`W \overrightarrow{h}_t + b`
    future   :math:`W \overleftarrow{h}_t + b`
    both     :math:`W [\overrightarrow{h}_t; \overleftarrow{h}_t] + b`
    delayed  :math:`W \overrightarrow{h}_{t+d} + b`
    ======== =======================================================

    A delayed network reads d frames of zeros after the last.

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.

    Source: Graves and Schmidhuber 2005 (Neural Networks 18(5-6)).
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        cell = lstmjax.lstm(architecture.features, architecture.hidden)
        both = architecture.direction == "both"
        self.recurrent = Recurrent(lstmjax.bidirectional(cell, cell) if both else cell, rngs=rngs)
        self.readout = nnx.Linear(self.recurrent.cell.output_size, architecture.classes, rngs=rngs)
        self.reverse, self.delay = architecture.direction == "future", architecture.delay

    def __call__(
        self, inputs: Float[Array, "batch time features"], lengths: Int[Array, " batch"]
    ) -> Float[jax.Array, "batch time classes"]:
        """Logits; undefined beyond the lengths. ``inputs`` must be zero there."""
        inputs = jnp.pad(inputs, ((0, 0), (0, self.delay), (0, 0)))
        _, outputs = self.recurrent(inputs, lengths=lengths + self.delay, reverse=self.reverse)
        return self.readout(outputs[:, self.delay :])


def make_architecture(config: Config) -> Architecture:
    """The architecture of a config, of the hidden size that comes nearest to the number of parameters."""
    source = SOURCES[config.dataset]
    usual = Architecture(source.features, len(source.classes), 0, config.direction, config.delay)

    def excess(hidden: int) -> int:
        return count(usual._replace(hidden=hidden)) - config.parameters

    above = bisect.bisect_left(range(1, 4096), 0, key=excess) + 1
    return usual._replace(hidden=min(max(above - 1, 1), above, key=lambda hidden: abs(excess(hidden))))


@functools.cache
def count(architecture: Architecture) -> int:
    """The number of parameters of a network."""
    shapes = jax.eval_shape(make_model(architecture).init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@functools.cache
def make_model(architecture: Architecture) -> Functional:
    """A network; cached, so that it is compiled once."""
    return functional(functools.partial(Labeller, architecture))
