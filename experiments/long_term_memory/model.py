"""The network: a recurrent cell, and a linear layer that reads its outputs at every step."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

import lstmjax
from experiments.long_term_memory.config import Config
from experiments.long_term_memory.problems import PROBLEMS, Problem, Sequences
from lstmjax.nnx import Functional, Recurrent, functional


class Network(nnx.Module):
    """A recurrent cell, and a linear layer that reads its outputs at every step."""

    def __init__(self, cell: lstmjax.Cell, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.recurrent = Recurrent(cell, rngs=rngs)
        self.readout = nnx.Linear(cell.output_size, outputs, rngs=rngs)

    def __call__(self, batch: Sequences) -> jax.Array:
        """Outputs ``[batch, time, outputs]``."""
        _, hidden = self.recurrent(jnp.asarray(batch.inputs), lengths=jnp.asarray(batch.lengths))
        return self.readout(hidden)


def make_problem(config: Config) -> Problem:
    """The problem of a config."""
    return PROBLEMS[config.problem](config.length)


def make_cell(config: Config, problem: Problem) -> lstmjax.Cell:
    """The cell of a config, for the inputs of a problem."""
    bias = lstmjax.initializers.chrono(float(config.chrono)) if config.chrono else config.forget_bias
    makers: dict[str, Callable[[int, int], lstmjax.Cell]] = {
        "lstm": functools.partial(lstmjax.lstm, forget_bias=bias),
        "lstm-1997": functools.partial(lstmjax.lstm, forget_gate=False),
        "peephole": functools.partial(lstmjax.lstm, peepholes=True, forget_bias=bias),
        "gru": lstmjax.gru,
        "rnn": lstmjax.elman,
        "min-lstm": functools.partial(lstmjax.min_lstm, forget_bias=config.forget_bias),
    }
    return makers[config.cell](problem.features, config.hidden)


def make_model(config: Config, problem: Problem) -> Functional:
    """One network for a problem."""
    return functional(functools.partial(Network, make_cell(config, problem), problem.outputs))
