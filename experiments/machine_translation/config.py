"""Flags of machine_translation, and the recipes for their choices."""

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
    """Captions of photographs, or sentences of language learners."""
    pair: Literal["en-de", "de-en", "en-fr", "fr-en", "en-es", "es-en"] = "en-de"
    """Source and target language; Spanish is in Tatoeba only, German in Multi30k only."""
    attention: Attention = "general"
    """Luong's dot, scaled_dot or general, Bahdanau's, or none, which is the model of Sutskever et al."""
    input_feeding: bool = True
    """Feed the decoder's last output into its next input; for Luong's attentions only."""
    hidden: int = 320
    """Hidden size of the decoder; each direction of the encoder has half of it."""
    embedding: int = 256
    """Size of the embeddings and of the decoder outputs."""
    layers: int = 1
    """Number of encoder layers, and of decoder layers."""
    dropout: float = 0.2
    """Dropout rate on inputs and outputs of layers."""
    label_smoothing: float = 0.1
    """Label smoothing: the part of the probability that is spread evenly over all subwords."""
    scheduled_sampling: float = 0.0
    """Scheduled sampling: final rate at which the decoder is fed its own likeliest subword in training; it
    rises from 0."""
    vocabulary: int = 4000
    """Maximum size of a subword vocabulary."""
    joint: bool = False
    """Share one vocabulary and one embedding table between both languages."""
    batch_steps: int = 1600
    """Subwords of the longer side of a batch, padding included."""
    buckets: int = 6
    """Maximum number of different batch shapes; each is compiled."""
    max_pieces: int = 50
    """Maximum length of training sentences in subwords; longer ones are left out."""
    epochs: int = 24
    """Passes over the training set, with an evaluation after each; with 0, train.steps and
    train.evaluate_every apply."""
    beams: int = 5
    """Beam size."""
    length_penalty: float | None = None
    """Alpha of Wu et al. in beam search; by default the one of `LENGTH_PENALTIES` that is best on the
    validation set."""
    coverage_penalty: float = 0.0
    """Beta of Wu et al. in beam search."""
    limit: int = 0
    """Maximum number of sentences of each split; 0 for all. With a limit, the results are not meaningful."""

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
        """Source and target language."""
        source, target = self.pair.split("-")
        return source, target

    @property
    def beside_english(self) -> str:
        """The language that is not English."""
        return (set(self.languages) - {"en"}).pop()


LANGUAGES = {"multi30k": ("de", "fr"), "tatoeba": ("es", "fr")}
"""The languages of each data set, besides English."""


TRAIN = training.TrainConfig(
    steps=0, learning_rate=2e-3, schedule="cosine", warmup=200, averaging=0.998, log_every=50
)
"""With ``steps=0``, the number of steps follows from the epochs."""


RECIPES = (
    Recipe({"attention": "none"}, {"layers": 2}),
    Recipe({"dataset": "tatoeba"}, {"epochs": 10, "batch_steps": 2500}),
    Recipe(
        {"quick": True},
        {"hidden": 32, "embedding": 32, "vocabulary": 600, "buckets": 2, "epochs": 0, "limit": 300},
        {"steps": 60, "evaluate_every": 30, "log_every": 15, "warmup": 10},
    ),
)
"""Defaults for choices, see `experiments.common.recipes`."""


def preset(config: Config) -> Config:
    """The defaults for the choices of data set, attention and ``--quick`` in ``config``."""
    return recipes.take(config, TRAIN, RECIPES)
