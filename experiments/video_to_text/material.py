"""What a config trains on and is tested on: moving digits, or a user's folder."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments import datasets
from experiments.common.text.vocabulary import Vocabulary
from experiments.video_to_text import folders, grammar
from experiments.video_to_text.config import Config
from experiments.video_to_text.data import (
    MovingDigits,
    digits_vocabulary,
    encode,
    vocabulary_of,
)
from experiments.video_to_text.folders import Captioned
from experiments.video_to_text.rendering import Handwriting, handwriting
from lstmjax.training.batching import PairBatches

Batches = MovingDigits | PairBatches


class TestSet(NamedTuple):
    """A test set."""

    batches: Batches
    references: Sequence[Sequence[str]]
    """The sentences that are right, for each of the items."""


class Material(NamedTuple):
    """All parts."""

    vocabulary: Vocabulary
    inputs: int
    """Size of the features of a frame; 0 for pictures."""
    kinds: Mapping[str, tuple[int, ...]]
    """Kinds of words, of which accuracies are reported."""
    train: Batches
    valid: Batches
    tests: Mapping[str, TestSet]
    images: Handwriting | None = None
    """The digits that the eye can learn to name."""


def load(config: Config) -> Material:
    """The material of a config."""
    if config.folder is None:
        return _digits(config)
    return _folder(config, folders.load(config.folder, config.frames))


def _digits(config: Config) -> Material:
    """Training and validation without the combinations that are held out; tests with them and without."""
    vocabulary = digits_vocabulary(config.split)
    train, valid, test = map(handwriting, datasets.load("mnist", config.data_dir))
    kinds = {
        kind: tuple(vocabulary.encode(words).tolist()) for kind, words in grammar.KINDS[config.split].items()
    }
    frames = config.fewest, config.frames
    usual = (vocabulary, config.digits, config.split)
    sizes = (frames, config.batch_size, config.videos)
    tests = {
        "test": MovingDigits(test, *usual, True, *sizes, part=1),
        "test_seen": MovingDigits(test, *usual, False, *sizes, part=2),
    }
    return Material(
        vocabulary,
        inputs=0,
        kinds=kinds,
        train=MovingDigits(train, *usual, False, *sizes, part=0, alone=config.alone_steps),
        valid=MovingDigits(valid, *usual, False, *sizes, part=0),
        tests={name: TestSet(batches, list(batches.references())) for name, batches in tests.items()},
        images=train,
    )


def _folder(config: Config, parts: datasets.Splits[Captioned]) -> Material:
    """Each caption of the training videos is an item; of the test, each video."""
    vocabulary = vocabulary_of(
        {word for video in parts.train for text in video.captions for word in text.split()}
    )
    features = parts.train[0].frames
    tests = TestSet(_pairs(config, vocabulary, parts.test, 1), [video.captions for video in parts.test])
    return Material(
        vocabulary,
        inputs=features.shape[1] if features.ndim == 2 else 0,
        kinds={},
        train=_pairs(config, vocabulary, parts.train),
        valid=_pairs(config, vocabulary, parts.valid),
        tests={"test": tests},
    )


def _pairs(
    config: Config, vocabulary: Vocabulary, videos: Sequence[Captioned], captions: int | None = None
) -> PairBatches:
    """Videos with their captions, or so many of them."""
    pairs = [(video.frames, text) for video in videos for text in video.captions[:captions]]
    sources, texts = zip(*pairs, strict=True)
    return PairBatches(
        sources, [encode(vocabulary, text) for text in texts], config.batch_size * config.frames, buckets=2
    )
