"""Flags of long_term_memory, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of long_term_memory."""

    problem: Literal[
        "adding",
        "multiplication",
        "temporal-order-2",
        "temporal-order-3",
        "two-sequence",
        "two-sequence-noisy",
        "copy",
        "reber",
        "continual-reber",
        "counting",
        "timing",
        "timed-spikes",
    ] = "adding"
    """What is to be learnt, see `problems.py`."""
    cell: Literal["lstm", "lstm-1997", "peephole", "gru", "rnn", "min-lstm"] = "lstm"
    """The recurrent cell; lstm-1997 has no forget gate, peephole is that of 2002, rnn that of Elman 1990."""
    length: int = 100
    """T of all problems but temporal-order, reber and counting, which have lengths of their own."""
    hidden: int = 16
    """Size of the hidden state; by default a cell has about as many parameters as an LSTM of 16."""
    forget_bias: float = 5.0
    """Initial bias of the forget gates of lstm, peephole and min-lstm: 5 is nearly open, Gers et al. 2000."""
    chrono: int = 0
    """Draw gate biases of lstm and peephole for memories of up to so many steps (Tallec and Ollivier 2018,
    arXiv:1804.11188); 0 for forget_bias."""
    models: int = 5
    """Random seeds: so many networks learn side by side, each with its own parameters and sequences."""
    batch_size: int = 20
    """Sequences in a batch, of each network."""
    test_sequences: int = 2560
    """Sequences that each network is tested with at the end; 2,560 in the paper of 1997."""

    def __post_init__(self) -> None:
        check_numbers(self, positive=("hidden", "models", "batch_size", "test_sequences"))
        if self.length < 10:
            raise training.ConfigError(f"length must be at least 10, got {self.length}.")
        if self.chrono and (self.chrono < 3 or self.cell not in ("lstm", "peephole")):
            raise training.ConfigError(
                f"chrono is for lstm and peephole, and at least 3 steps, got {self.chrono} for {self.cell}."
            )


TRAIN = training.TrainConfig(
    steps=10_000, learning_rate=5e-3, evaluate_every=50, log_every=50, checkpoint_every=1000
)

RECIPES = (
    Recipe({"problem": "temporal-order-2"}, train={"learning_rate": 2e-3}),
    Recipe({"problem": "temporal-order-3"}, train={"learning_rate": 2e-3}),
    Recipe({"cell": "lstm-1997"}, {"hidden": 18}),
    Recipe({"cell": "gru"}, {"hidden": 18}),
    Recipe({"cell": "rnn"}, {"hidden": 33}, {"learning_rate": 1e-3}),
    Recipe({"cell": "min-lstm"}, {"hidden": 64}),
    Recipe(
        {"quick": True},
        {"length": 20, "hidden": 8, "models": 2, "test_sequences": 100},
        {"steps": 60, "evaluate_every": 20, "log_every": 20},
    ),
)


def preset(config: Config) -> Config:
    """The defaults for the choices of cell and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
