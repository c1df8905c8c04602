"""From residues to the distribution of each one's secondary structure."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

import lstmjax
from lstmjax.nnx import Recurrent
from lstmjax.types import Array, Key

CELLS: dict[str, Callable[..., lstmjax.Cell]] = {"lstm": lstmjax.lstm, "rnn": lstmjax.elman}


class Architecture(NamedTuple):
    """The numbers of a model."""

    features: int
    """Numbers that a residue is described by."""
    states: int
    """States that are told apart."""
    window: int
    """Residues that the lowest layer sees, the one in question in their middle; odd."""
    embedding: int
    """Units of the lowest layer, and of the one below the readout."""
    cell: str
    """The recurrent cell, one of `CELLS`."""
    hidden: int
    """Units of a recurrent layer in each direction."""
    layers: int
    """Recurrent layers; none for a network that sees its window only."""
    both_directions: bool
    """Layers read the chain from both its ends."""
    dropout: float
    """Rate at which outputs of layers are dropped, in recurrent layers the same ones along a chain."""


class StructureModel(nnx.Module):
    r"""A dense layer over a window, recurrent layers in both directions, a dense layer, a softmax.

    .. math::
        e_t &= relu(W_e [x_{t-w}, \dots, x_{t+w}] + b_e) \\
        h^k &= [LSTM(h^{k-1}), \overleftarrow{LSTM}(h^{k-1})], \quad h^0 = e \\
        d_t &= relu(W_d [e_t, h^1_t, \dots, h^K_t] + b_d), \quad p_t = softmax(W_o d_t + b_o)

    There are zeros before a chain and after it. A model without recurrent layers sees its window alone.

    After Soenderby and Winther 2014 (arXiv:1412.7828), who have bidirectional LSTMs with dense layers before,
    between and after them. The window, the dense layer that sees all layers below, and masks of dropout that
    stay the same along a chain are of this model.

    Args:
      architecture: the architecture.
      rngs: the stream ``params`` starts the parameters.
    """

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs) -> None:
        dense = {"kernel_init": nnx.initializers.he_normal(), "rngs": rngs}
        self.window = nnx.Conv(architecture.features, architecture.embedding, (architecture.window,), **dense)
        outputs = architecture.hidden * (2 if architecture.both_directions else 1)
        sizes = [architecture.embedding] + [outputs] * architecture.layers
        self.layers = nnx.List([Recurrent(_layer(architecture, below), rngs=rngs) for below in sizes[:-1]])
        self.dense = nnx.Linear(sum(sizes), architecture.embedding, **dense)
        self.readout = nnx.Linear(architecture.embedding, architecture.states, rngs=rngs)
        self.dropout = nnx.Dropout(architecture.dropout)

    def __call__(
        self,
        features: Float[Array, "batch time features"],
        lengths: Int[Array, " batch"],
        key: Key | None = None,
    ) -> Float[jax.Array, "batch time states"]:
        """Logits of each residue's states; with dropout if there is a key. Beyond the lengths anything.

        ``features`` must be zero beyond the lengths.
        """
        keys = itertools.repeat(None) if key is None else iter(jax.random.split(key, 2 + len(self.layers)))
        outputs = [self._drop(jax.nn.relu(self.window(features)), next(keys))]
        for layer in self.layers:
            outputs.append(layer(outputs[-1], lengths=lengths, key=next(keys))[1])
        dense = self._drop(jax.nn.relu(self.dense(jnp.concatenate(outputs, axis=-1))), next(keys))
        return self.readout(dense)

    def _drop(self, values: jax.Array, key: Key | None) -> jax.Array:
        if key is None:
            return values
        return self.dropout(values, deterministic=False, rngs=nnx.Rngs(dropout=key))


def _layer(architecture: Architecture, features: int) -> Any:
    cells = []
    for _ in range(2 if architecture.both_directions else 1):
        cell = CELLS[architecture.cell](features, architecture.hidden)
        cells.append(lstmjax.dropout(cell, outputs=architecture.dropout) if architecture.dropout else cell)
    return lstmjax.bidirectional(*cells) if architecture.both_directions else cells[0]
