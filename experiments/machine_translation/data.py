"""Sentence pairs, and their subwords."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import datasets
from experiments.common.text.subwords import Subwords
from experiments.datasets import translations
from experiments.machine_translation.config import Config
from lstmjax.training import ConfigError
from lstmjax.training.batching import PairBatches

TATOEBA = {"es": "tatoeba-spa", "fr": "tatoeba-fra"}


class Bitext(NamedTuple):
    """Parallel sentences in two languages."""

    sources: list[str]
    targets: list[str]


class Corpus(NamedTuple):
    """A data set, in one direction of translation."""

    train: Bitext
    valid: Bitext
    tests: dict[str, Bitext]
    """The test sets, by the prefixes of their metrics."""


def load_corpus(config: Config) -> Corpus:
    """The sentences of a data set in the languages of the config."""

    def bitext(sentences: Sequence[Mapping[str, str]]) -> Bitext:
        chosen = sentences[: config.limit or None]
        return Bitext(*([sentence[language] for sentence in chosen] for language in config.languages))

    def load(name: str) -> Any:
        return datasets.load(name, config.data_dir)

    if config.dataset == "multi30k":
        splits = load("multi30k")
        tests = {
            "test2016": splits.test,
            "test2017": translations.multi30k("test_2017_flickr", config.data_dir),
        }
    else:
        splits = load(TATOEBA[config.beside_english])
        tests = {"test": splits.test}
    return Corpus(
        bitext(splits.train), bitext(splits.valid), {name: bitext(part) for name, part in tests.items()}
    )


class Vocabularies(NamedTuple):
    """Subword vocabularies of both languages; the same one twice if they are joint."""

    source: Subwords
    target: Subwords

    @classmethod
    def learn(cls, config: Config, texts: Bitext) -> "Vocabularies":
        """Train them on the sentences of the training set.

        Raises:
          ConfigError: they are too small for its letters.
        """
        try:
            if config.joint:
                both = Subwords.learn([*texts.sources, *texts.targets], config.vocabulary)
                return cls(both, both)
            return cls(*(Subwords.learn(side, config.vocabulary) for side in texts))
        except ValueError as error:
            raise ConfigError(f"--vocabulary: {error}") from error

    def save(self, folder: Path) -> None:
        """Write both vocabularies."""
        for name, subwords in zip(VOCABULARIES, self, strict=True):
            subwords.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> "Vocabularies":
        """Read what `save` wrote."""
        return cls(*(Subwords.load(folder / name) for name in VOCABULARIES))


VOCABULARIES = ("source.model", "target.model")
"""Files in a model's folder: the SentencePiece models of both languages."""


def pair_batches(config: Config, vocabularies: Vocabularies, texts: Bitext, longest: int = 0) -> PairBatches:
    """Batches of a bitext, without sentences of more than ``longest`` subwords unless that is 0."""
    encoded = [
        (vocabularies.source.encode(source), vocabularies.target.encode(target))
        for source, target in zip(*texts, strict=True)
    ]
    kept = [pair for pair in encoded if not longest or max(map(len, pair)) <= longest]
    sources, targets = zip(*kept, strict=True)
    return PairBatches(sources, targets, config.batch_steps, config.buckets)
