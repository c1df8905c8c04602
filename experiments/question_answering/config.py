"""Flags of question_answering, and the recipes for its choices."""

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
    """A reader that looks at sentences, or an LSTM over all words."""
    size: Literal["1k", "10k"] = "1k"
    """Questions of each task to train on."""
    readers: Literal["auto", "joint", "single"] = "auto"
    """One reader for all tasks, or one for each; auto is single for the LSTM, as in its paper."""
    supervision: Literal["answers", "facts"] = "answers"
    """Learn from answers alone, or also from the sentences that they follow from."""
    hidden: int = 32
    """Units of each LSTM, in each direction."""
    embedding: int = 32
    """Size of the words of the LSTM reader; the other has two times hidden."""
    layers: int = 3
    """Layers over the sentences."""
    hops: int = 3
    """How often the attentive reader looks at the story."""
    matches: int = 8
    """How many numbers say how well a sentence matches what is asked; they divide two times hidden."""
    dropout: float = 0.1
    """Rate at which words, sentences and outputs are dropped."""
    memory: int = 64
    """The most sentences of a story."""
    longest: int = 400
    """The most words of a sequence."""
    batch_size: int = 32
    """Questions of each reader in a step."""
    shares: tuple[float, ...] = (0.4, 0.83, 0.94, 1.0)
    """Questions sorted by the length of their stories are padded to the longest of these shares of them."""
    groups: int = 20
    """Groups of readers of single tasks; those of a group are padded to one length and run by one vmap."""
    epochs: int = 26
    """Passes over the training set, the validation set after each; 0 lets train.steps say."""
    limit: int = 0
    """Use only so many questions of each task in each part; 0 for all. Figures are then of no use."""

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
"""With steps of 0, the epochs say how many there are."""


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
"""Found on the validation parts."""


def preset(config: Config) -> Config:
    """The defaults that belong to the choices of model, size, readers and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
