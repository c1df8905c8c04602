"""Flags of language_modeling, and the recipes of the papers as defaults."""

import dataclasses
from pathlib import Path
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers, from_mapping, open_run
from experiments.common.recipes import Recipe
from experiments.language_modeling.awd_lstm import AWDConfig
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of language_modeling; defaults depend on data set and size, see `preset`."""

    dataset: Literal["ptb", "wikitext2", "shakespeare", "file"] = "ptb"
    """Penn Treebank or WikiText-2 in words, Shakespeare in characters; or files of token ids, in `corpus`."""
    corpus: Path | None = None
    """Folder with train.npy, valid.npy and test.npy, vectors of token ids, and vocabulary.json, the tokens in
    the order of their ids. The training set may be larger than memory."""
    size: Literal["small", "medium", "large", "awd"] = "small"
    """The sizes of Zaremba et al., with the recipe of each (Shakespeare has one recipe for all sizes); or the
    AWD-LSTM of Merity et al., with its own."""
    model: Literal["lstm", "gru", "rnn", "kneser_ney"] = "lstm"
    """The recurrent cell; or n-grams with modified Kneser-Ney smoothing, which are counted, not trained."""
    hidden: int = 200
    """Size of the embedding and of each hidden state; in awd, `awd.embedding` is that of the embedding
    and of the last layer."""
    layers: int = 2
    """Number of recurrent layers."""
    dropout: float = 0.0
    """Dropout rate on the inputs of each layer and the outputs of the last; for awd, on the latter only."""
    init_scale: float = 0.1
    """All parameters are initialized uniformly in [-init_scale, init_scale); 0 for each layer's own
    initialization, which the layers of awd always have."""
    batch_size: int = 20
    """Rows that the text is cut into for training."""
    window: int = 20
    """Steps of truncated backpropagation through time; for awd, the mean of most random window lengths."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """Plain stochastic gradient descent, or Adam with the schedule of the training config."""
    decay: float = 0.5
    """Factor by which SGD's learning rate is multiplied in each epoch after the first `decay_after`."""
    decay_after: int = 4
    """Epochs at the full learning rate."""
    epochs: int = 13
    """Passes over the training set, with an evaluation after each; with 0, train.steps and
    train.evaluate_every apply."""
    limit: int = 0
    """Maximum number of tokens of each split; 0 for all. With a limit, the results are not meaningful."""
    samples: int = 3
    """Number of texts to generate."""
    sample_tokens: int = 300
    """Length of each generated text, in tokens."""
    temperature: float = 1.0
    """Sampling temperature: 1 samples from the model's distribution, lower values favour likely tokens."""
    top_p: float = 1.0
    """Nucleus sampling: sample from the fewest likeliest tokens with this total probability."""
    finetune: Path | None = None
    """Folder of a finished run with train.nonmonotone to fine-tune: training continues from its best
    parameters, with its config except for the given flags, and averages the parameters from the start
    (train.mean_from_start)."""
    awd: AWDConfig = dataclasses.field(default_factory=AWDConfig)
    """Further hyperparameters, for size awd only."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "layers", "batch_size", "window", "sample_tokens"),
            not_negative=("init_scale", "decay_after", "epochs", "limit", "samples", "temperature"),
            rates=("dropout",),
        )
        if (self.dataset == "file") != (self.corpus is not None):
            raise training.ConfigError("--dataset file and --corpus FOLDER go together.")
        if self.dataset == "file" and self.model == "kneser_ney":
            raise training.ConfigError("n-grams are counted in memory: --dataset file has none.")
        for name in ("decay", "top_p"):
            if not 0 < getattr(self, name) <= 1:
                raise training.ConfigError(f"{name} must lie in (0, 1], got {getattr(self, name)}.")


TRAIN = training.TrainConfig(steps=0, learning_rate=1.0, clip_norm=5.0, log_every=100, checkpoint_every=1000)
"""With ``steps=0``, the number of steps follows from the epochs."""

RECIPES = (
    Recipe(
        {"size": "medium"},
        {"hidden": 650, "window": 35, "dropout": 0.5, "init_scale": 0.05}
        | {"decay": 0.8, "decay_after": 6, "epochs": 39},
        {},
    ),
    Recipe(
        {"size": "large"},
        {"hidden": 1500, "window": 35, "dropout": 0.65, "init_scale": 0.04}
        | {"decay": 1 / 1.15, "decay_after": 14, "epochs": 55},
        {"clip_norm": 10.0},
    ),
    Recipe(
        {"dataset": "shakespeare"},
        {"hidden": 256, "batch_size": 32, "window": 64, "dropout": 0.1, "init_scale": 0.0}
        | {"optimizer": "adam", "epochs": 6, "sample_tokens": 600, "temperature": 0.8},
        {"learning_rate": 3e-3, "schedule": "cosine", "clip_norm": 64.0, "averaging": 0.995},
    ),
    Recipe(
        {"size": "awd"},
        {"hidden": 1150, "layers": 3, "window": 70, "dropout": 0.4, "init_scale": 0.1, "batch_size": 20}
        | {"optimizer": "sgd", "decay": 1.0, "epochs": 500},
        {"learning_rate": 30.0, "clip_norm": 0.25, "averaging": 0.0, "nonmonotone": 5},
    ),
    Recipe(
        {"size": "awd", "dataset": "wikitext2"},
        {"batch_size": 80, "epochs": 750, "awd": AWDConfig(input_dropout=0.65, hidden_dropout=0.2)},
        {},
    ),
    Recipe(
        {"quick": True},
        {"hidden": 24, "window": 10, "batch_size": 20, "epochs": 0, "limit": 4000},
        {"steps": 60, "evaluate_every": 30, "log_every": 15},
    ),
    Recipe({"size": "awd", "quick": True}, {"awd": AWDConfig(embedding=16)}, {"evaluate_every": 10}),
)
"""The recipe of size small is the defaults of `Config`."""


def preset(config: Config) -> Config:
    """The defaults for the choices of data set, size, model and ``--quick`` in ``config``.

    With ``--finetune``, they are those of the run.
    """
    if config.finetune is not None:
        return finetuning(config.finetune)
    return recipes.take(config, TRAIN, RECIPES)


def finetuning(path: Path) -> Config:
    """The config of a run, to continue from its best parameters.

    Raises:
      RecordError: there is no run.
      ConfigError: its config has no `train.nonmonotone`.
    """
    config = from_mapping(Config, open_run(path, "language_modeling").config)
    if not config.train.nonmonotone:
        raise training.ConfigError(
            f"{path} was trained without --train.nonmonotone: there is no fine-tuning."
        )
    return dataclasses.replace(
        config, finetune=path, resume=None, train=dataclasses.replace(config.train, mean_from_start=True)
    )
