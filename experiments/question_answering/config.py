"""Flags of question_answering, and the recipes for their choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import CommonConfig, check_numbers
from experiments.common.recipes import Recipe
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of question_answering; defaults depend on the model, see `preset`."""

    model: Literal["attention", "lstm"] = "attention"
    """A reader with attention over sentences, or an LSTM over all words."""
    size: Literal["1k", "10k"] = "1k"
    """Number of training questions per task."""
    readers: Literal["auto", "joint", "single"] = "auto"
    """One reader for all tasks, or one for each; auto is single for the LSTM, as in its paper."""
    supervision: Literal["answers", "facts"] = "answers"
    """Train on the answers alone, or also on the supporting facts."""
    hidden: int = 32
    """Hidden units of each LSTM, in each direction."""
    embedding: int = 32
    """Size of the word embeddings of the LSTM reader; the attentive reader has twice the hidden size."""
    layers: int = 3
    """Number of recurrent layers over the sentences."""
    hops: int = 3
    """Number of attention hops of the attentive reader."""
    matches: int = 8
    """Number of match features between a sentence and the query; must divide twice the hidden size."""
    dropout: float = 0.1
    """Dropout rate on words, sentences and outputs."""
    memory: int = 64
    """Maximum number of sentences of a story."""
    longest: int = 400
    """Maximum number of words of a sequence."""
    batch_size: int = 32
    """Questions per reader in a step."""
    shares: tuple[float, ...] = (0.4, 0.83, 0.94, 1.0)
    """Bucket bounds: quantiles of the story lengths, to which the questions of each bucket are padded."""
    groups: int = 20
    """Number of groups of single-task readers; a group is padded to one length and run by one vmap."""
    epochs: int = 26
    """Passes over the training set, with an evaluation after each; with 0, train.steps applies."""
    limit: int = 0
    """Maximum number of questions per task and split; 0 for all. Limited results are not meaningful."""

    def __post_init__(self) -> None:
        sizes = ("hidden", "embedding", "layers", "hops", "matches", "memory", "longest", "batch_size")
        check_numbers(self, positive=(*sizes, "groups"), not_negative=("epochs", "limit"), rates=("dropout",))
        if sorted(self.shares) != list(self.shares) or self.shares[-1:] != (1.0,) or self.shares[0] <= 0:
            raise training.ConfigError(f"shares must rise from above 0 to 1, got {self.shares}.")
        if self.model == "attention" and 2 * self.hidden % self.matches:
            raise training.ConfigError(
                f"matches must divide two times hidden, got {self.matches} and {self.hidden}."
            )
        if self.model == "lstm" and self.supervision == "facts":
            raise training.ConfigError(
                "supervision by facts is for a model that looks at sentences, not for lstm."
            )


TRAIN = training.TrainConfig(
    steps=0, learning_rate=3e-3, schedule="cosine", warmup=100, clip_norm=5.0, averaging=0.99, log_every=100
)
"""With ``steps=0``, the number of steps follows from the epochs."""


RECIPES = (
    Recipe({"model": "attention", "readers": "auto"}, {"readers": "joint"}),
    Recipe({"readers": "auto"}, {"readers": "single"}),
    Recipe({"readers": "single"}, {"shares": (0.6, 1.0)}),
    Recipe(
        {"model": "lstm"},
        {"hidden": 64, "dropout": 0.2, "epochs": 50},
        {"warmup": 30, "averaging": 0.98, "log_every": 10},
    ),
    Recipe({"size": "10k"}, {"epochs": 10}),
    Recipe(
        {"quick": True},
        {"hidden": 8, "embedding": 8, "layers": 1, "memory": 10, "longest": 40, "batch_size": 8, "groups": 1}
        | {"epochs": 0, "limit": 4, "shares": (1.0,)},
        {"steps": 8, "evaluate_every": 4, "log_every": 4},
    ),
)
"""Hyperparameters selected on the validation splits."""


def preset(config: Config) -> Config:
    """The defaults for the choices of model, size, readers and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
