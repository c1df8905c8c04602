"""The variants of the LSTM, and the network: one of them over frames, and the keys of the next frame."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lstmjax
from experiments.datasets.piano_rolls import KEYS, key_frequencies
from experiments.gate_ablation.config import Config
from lstmjax.nnx import Functional, Recurrent, functional


class Variant(NamedTuple):
    """A variant of the LSTM with peepholes."""

    title: str
    options: dict[str, Any]
    """The arguments of `lstmjax.lstm` that differ from those of the LSTM with peepholes."""


VARIANTS = {
    "v": Variant("vanilla: all gates, peepholes", {}),
    "nig": Variant("no input gate", {"input_gate": False}),
    "nfg": Variant("no forget gate", {"forget_gate": False}),
    "nog": Variant("no output gate", {"output_gate": False}),
    "niaf": Variant("no input activation function", {"candidate_activation": "identity"}),
    "noaf": Variant("no output activation function", {"output_activation": "identity"}),
    "cifg": Variant("coupled input and forget gate", {"coupled": True}),
    "np": Variant("no peepholes", {"peepholes": False}),
    "fgr": Variant("full gate recurrence", {"full_gate_recurrence": True}),
}
"""The variants of Greff et al. by their abbreviations; each differs from the first in one thing."""


class Network(nnx.Module):
    """An LSTM over frames, and a linear layer that gives the logits of the keys of the next frame.

    Args:
      cell: the LSTM.
      frequencies: ``[88]``, the frequency of each key, for the initial bias of the readout.
      rngs: the stream ``params`` initializes the parameters.
    """

    def __init__(self, cell: lstmjax.Cell, frequencies: np.ndarray, *, rngs: nnx.Rngs) -> None:
        log_odds = jnp.asarray(np.log(frequencies) - np.log1p(-frequencies), jnp.float32)
        self.recurrent = Recurrent(cell, rngs=rngs)
        self.readout = nnx.Linear(cell.output_size, KEYS, bias_init=lambda *_: log_odds, rngs=rngs)

    def __call__(self, frames: jax.Array, lengths: jax.Array) -> jax.Array:
        """Logits ``[batch, time, 88]`` of the frame after each of ``frames`` ``[batch, time, 88]``."""
        _, outputs = self.recurrent(frames, lengths=lengths)
        return self.readout(outputs)


def make_cell(config: Config) -> lstmjax.Cell:
    """The LSTM of a config."""
    options = {"peepholes": True, **VARIANTS[config.variant].options}
    return lstmjax.lstm(KEYS, config.hidden, **options)


def make_model(config: Config, train: Sequence[np.ndarray]) -> Functional:
    """One network; its initial biases depend on the training set."""
    return functional(functools.partial(Network, make_cell(config), key_frequencies(train)))
