"""The subcommands: gradients, traces, streams."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import tyro

from experiments.common import models
from experiments.common.flags import Count, Number, Seed
from experiments.long_term_memory import pictures
from experiments.long_term_memory.config import Config
from experiments.long_term_memory.model import make_model, make_problem
from experiments.long_term_memory.task import draw, load_model, until_error
from lstmjax.training import ConfigError


def gradients(arguments: Sequence[str]) -> None:
    """``gradients``: plot how far the gradient reaches in cells before training."""

    def write(out: Path = Path("gradients"), length: Count = 100, hidden: Count = 32, seed: Seed = 1) -> None:
        """Plot the norm of the gradient at each step back, and the eigenvalues of the Jacobian products.

        Args:
            out: the folder to write to.
            length: steps of the sequences, which are those of the adding problem.
            hidden: size of the hidden states.
            seed: random seed of parameters and sequences.
        """
        config = Config(length=length, models=1)
        inputs = draw(config, make_problem(config), 0, seed, 0).inputs[0, :, :length]
        out.mkdir(parents=True, exist_ok=True)
        pictures.draw_gradients(inputs, hidden, seed, out / "gradients.png")
        pictures.draw_eigenvalues(inputs[0], hidden, seed, out / "eigenvalues.png")
        print(out)

    tyro.cli(write, prog="python -m experiments long_term_memory gradients", args=arguments)


def traces(arguments: Sequence[str]) -> None:
    """``traces``: plot gates, states and gradient of a trained network."""

    def write(source: models.Chosen, out: Path = Path("traces"), network: Number = 0) -> None:
        """Plot gates, cell state and gradient of a trained network over one sequence.

        Args:
            source: the networks; by default the kept LSTMs of the adding problem.
            out: the folder to write to.
            network: which of the run's networks, from 0.
        """
        folder = source.folder("long_term_memory", default="adding-100-lstm")
        config, params = load_model(folder)
        if not 0 <= network < config.models:
            raise ConfigError(f"network must be from 0 to {config.models - 1}, got {network}.")
        out.mkdir(parents=True, exist_ok=True)
        pictures.draw_network(config, jax.tree.map(lambda leaf: leaf[network], params), out)
        print(out)

    tyro.cli(write, prog="python -m experiments long_term_memory traces", args=arguments)


def streams(arguments: Sequence[str]) -> None:
    """``streams``: how long trained networks go on without an error."""

    def write(source: models.Chosen, rows: Count = 10, length: Count = 100_000, seed: Seed = 1) -> None:
        """Run trained networks over long streams of the continual Reber grammar, until the first error.

        The figure is added to the record of a kept model.

        Args:
            source: the networks; by default the kept LSTMs.
            rows: the number of streams, the same for all networks.
            length: their symbols.
            seed: random seed of the streams.
        """
        folder = source.folder("long_term_memory", default="continual-reber-lstm")
        config, params = load_model(folder)
        if config.problem != "continual-reber":
            raise ConfigError(f"streams is for continual-reber, and this is a model of {config.problem}.")
        problem = make_problem(dataclasses.replace(config, length=length))
        batch = problem.draw(np.random.default_rng(seed), rows)
        counts = until_error(problem, make_model(config, problem), params, batch).mean(axis=1)
        print(f"symbols until the first error, of each network: {', '.join(f'{n:,.0f}' for n in counts)}")
        if source.run is None:
            found = {"stream": float(np.median(counts)), "stream_min": float(counts.min())}
            print(models.add_metrics(folder, "long_term_memory", found, tolerance=0.5))

    tyro.cli(write, prog="python -m experiments long_term_memory streams", args=arguments)


COMMANDS = {"gradients": gradients, "traces": traces, "streams": streams}
