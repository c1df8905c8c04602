"""Flags of polyphonic_music, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of polyphonic_music; defaults depend on data set and head, see `preset`."""

    dataset: Literal["chorales", "jsb", "nottingham", "muse", "piano"] = "chorales"
    """Bach chorales of music21, or one of the Boulanger-Lewandowski sets."""
    cell: Literal["lstm", "gru", "rnn", "markov"] = "lstm"
    """The recurrent cell; or a Markov chain for each key, which is counted, not trained."""
    head: Literal["auto", "bernoulli", "nade"] = "auto"
    """Distribution of a frame: independent keys, or each dependent on the lower ones; auto is nade for the
    chorales, whose samples are meant for listening, and bernoulli for the benchmarks."""
    hidden: int = 200
    """Size of the hidden state."""
    layers: int = 1
    """Number of recurrent layers."""
    nade_units: int = 100
    """Hidden units of the NADE head."""
    batch_size: int = 16
    """Sequences in a batch."""
    buckets: int = 4
    """Number of lengths that sequences are padded to; each is compiled."""
    chunk_frames: int = 0
    """Maximum length in frames of training chunks, into which sequences are cut; 0 for whole sequences."""
    dropout: float = 0.2
    """Dropout rate on the outputs of each recurrent layer."""
    weight_noise: float = 0.15
    """Standard deviation of the Gaussian noise on all weights."""
    limit: int = 0
    """Maximum number of sequences of each split; 0 for all. With a limit, the results are not meaningful."""
    samples: int = 3
    """Number of pieces to generate."""
    sample_frames: int = 128
    """Length of each generated piece, in frames."""
    temperature: float = 0.8
    """Sampling temperature: 1 samples from the model's distribution, lower values favour likely notes."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "layers", "nade_units", "batch_size", "buckets", "sample_frames"),
            not_negative=("chunk_frames", "weight_noise", "limit", "samples"),
            rates=("dropout",),
        )
        if not self.temperature > 0:
            raise training.ConfigError(f"temperature must be above 0, got {self.temperature}.")


TRAIN = training.TrainConfig(
    steps=5000, learning_rate=2e-3, schedule="cosine", averaging=0.99, evaluate_every=250, log_every=50
)


RECIPES = (
    Recipe({"dataset": "chorales", "head": "auto"}, {"head": "nade"}),
    Recipe({"head": "auto"}, {"head": "bernoulli"}),
    Recipe({"head": "nade"}, {"weight_noise": 0.1}),
    Recipe(
        {"dataset": "jsb", "head": "bernoulli", "cell": "lstm"},
        {"hidden": 400, "dropout": 0.5},
        {"learning_rate": 4e-3, "steps": 2200},
    ),
    Recipe({"cell": "gru"}, {"weight_noise": 0.1}),
    Recipe({"cell": "rnn"}, {"weight_noise": 0.05}, {"learning_rate": 1e-3}),
    Recipe({"dataset": "nottingham"}, {"chunk_frames": 200, "weight_noise": 0.05}, {"learning_rate": 4e-3}),
    Recipe({"dataset": "muse"}, {"chunk_frames": 200, "weight_noise": 0.05}, {"learning_rate": 4e-3}),
    Recipe({"dataset": "piano"}, {"chunk_frames": 200, "weight_noise": 0.1}, {"learning_rate": 4e-3}),
    Recipe(
        {"quick": True},
        {"hidden": 32, "nade_units": 16, "limit": 16, "buckets": 1, "sample_frames": 32, "samples": 1},
        {"steps": 60, "evaluate_every": 30, "log_every": 15},
    ),
)
"""Hyperparameters selected on the validation sets."""


def preset(config: Config) -> Config:
    """The defaults for the choices of data set, cell, head and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
