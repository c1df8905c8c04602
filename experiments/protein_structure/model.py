"""The model of secondary structure: from residue features to the distribution of each residue's state."""

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
    """The hyperparameters of a model."""

    features: int
    """Number of features of a residue."""
    states: int
    """Number of states."""
    window: int
    """Width of the input window in residues, centred on the residue; odd."""
    embedding: int
    """Units of the first dense layer, and of the one before the readout."""
    cell: str
    """The recurrent cell, one of `CELLS`."""
    hidden: int
    """Hidden units of a recurrent layer, in each direction."""
    layers: int
    """Number of recurrent layers; 0 for a network that sees only its window."""
    both_directions: bool
    """Recurrent layers are bidirectional."""
    dropout: float
    """Dropout rate on outputs of layers; recurrent layers have one mask for all residues of a chain."""


class StructureModel(nnx.Module):
    r"""A dense layer over a window, recurrent layers in both directions, a dense layer, a softmax.

    .. math::
        e_t &= relu(W_e [x_{t-w}, \dots, x_{t+w}] + b_e) \\
        h^k &= [LSTM(h^{k-1}), \overleftarrow{LSTM}(h^{k-1})], \quad h^0 = e \\
        d_t &= relu(W_d [e_t, h^1_t, \dots, h^K_t] + b_d), \quad p_t = softmax(W_o d_t + b_o)

    Chains are padded with zeros at both ends. A model without recurrent layers sees only its window.

    After Soenderby and Winther 2014 (arXiv:1412.7828), who have bidirectional LSTMs with dense layers before,
    between and after them. The window, the dense layer whose input is all layers below, and dropout masks
    that are constant along a chain are specific to this model.

    Args:
      architecture: the hyperparameters.
      rngs: the stream ``params`` initializes the parameters.
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
        """Logits of each residue's states; with dropout if there is a key. Undefined beyond the lengths.

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
