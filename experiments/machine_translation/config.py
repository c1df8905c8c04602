"""Flags of machine_translation, and the recipes for its choices."""

import dataclasses
from typing import Literal

from experiments.common import recipes
from experiments.common.command_line import (
    CommonConfig,
    check_numbers,
)
from experiments.common.recipes import Recipe
from experiments.machine_translation.model import (
    Attention,
)
from lstmjax import training


@dataclasses.dataclass(frozen=True)
class Config(CommonConfig):
    """Flags of machine_translation; defaults depend on data set and attention, see `preset`."""

    dataset: Literal["multi30k", "tatoeba"] = "multi30k"
    """Descriptions of photographs, or sentences of learners."""
    pair: Literal["en-de", "de-en", "en-fr", "fr-en", "en-es", "es-en"] = "en-de"
    """Source and target language; Spanish is in Tatoeba only, German in Multi30k only."""
    attention: Attention = "general"
    """Luong's dot, scaled_dot or general, Bahdanau's, or none, for the form of Sutskever et al."""
    input_feeding: bool = True
    """The decoder's last output is part of its next input; with one of Luong's attentions."""
    hidden: int = 320
    """Size of the decoder's state; each direction of the encoder has half of it."""
    embedding: int = 256
    """Size of embeddings, and of what the next piece is read from."""
    layers: int = 1
    """Number of layers of encoder and decoder each."""
    dropout: float = 0.2
    """Rate at which inputs and outputs of layers are dropped."""
    label_smoothing: float = 0.1
    """Part of the probability that belongs to all pieces alike."""
    scheduled_sampling: float = 0.0
    """How often the decoder reads its own likeliest piece in training, in the end; it rises from 0."""
    vocabulary: int = 4000
    """Most pieces of a vocabulary."""
    joint: bool = False
    """One vocabulary for both languages, and one table of embeddings."""
    batch_steps: int = 1600
    """Pieces of the longer side of a batch, padding included."""
    buckets: int = 6
    """Number of shapes that batches have; each is compiled for."""
    max_pieces: int = 50
    """Longer sentences are not trained on."""
    epochs: int = 24
    """Passes over the training set, with an evaluation after each; 0 lets train.steps and
    train.evaluate_every say."""
    beams: int = 5
    """Hypotheses that beam search keeps."""
    length_penalty: float | None = None
    """Of beam search: alpha of Wu et al.; by default the one of `LENGTH_PENALTIES` that is best on the
    validation set."""
    coverage_penalty: float = 0.0
    """Of beam search: beta of Wu et al."""
    limit: int = 0
    """Use only so many sentences of each split; 0 for all. Figures are then of no use."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            positive=("hidden", "embedding", "layers", "batch_steps", "buckets", "max_pieces", "beams"),
            not_negative=("length_penalty", "coverage_penalty", "epochs", "limit"),
            rates=("dropout", "label_smoothing", "scheduled_sampling"),
        )
        if self.attention != "none" and self.hidden % 2:
            raise training.ConfigError(f"hidden must be even for two directions, got {self.hidden}.")
        other = self.beside_english
        if other not in LANGUAGES[self.dataset]:
            known = ", ".join(LANGUAGES[self.dataset])
            raise training.ConfigError(f"{self.dataset} has English and {known}, and no pair {self.pair}.")

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target."""
        source, target = self.pair.split("-")
        return source, target

    @property
    def beside_english(self) -> str:
        """The one that is not English."""
        return (set(self.languages) - {"en"}).pop()


LANGUAGES = {"multi30k": ("de", "fr"), "tatoeba": ("es", "fr")}
"""What there is beside English."""


TRAIN = training.TrainConfig(
    steps=0, learning_rate=2e-3, schedule="cosine", warmup=200, averaging=0.998, log_every=50
)
"""With steps of 0, the epochs say how many there are."""


RECIPES = (
    Recipe({"attention": "none"}, {"layers": 2}),
    Recipe({"dataset": "tatoeba"}, {"epochs": 10, "batch_steps": 2500}),
    Recipe(
        {"quick": True},
        {"hidden": 32, "embedding": 32, "vocabulary": 600, "buckets": 2, "epochs": 0, "limit": 300},
        {"steps": 60, "evaluate_every": 30, "log_every": 15, "warmup": 10},
    ),
)
"""Defaults that belong to choices, see `experiments.common.recipes`."""


def preset(config: Config) -> Config:
    """The defaults that belong to the choices of data set, attention and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
