"""Pictures with captions as numbers: words, batches, and features in the place of pictures."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import datasets
from experiments.common.text.vocabulary import UNKNOWN, Vocabulary
from experiments.datasets import Splits, captioned, flickr8k, shapes, tuxpaint
from experiments.datasets.arrays import check_arrays, read_arrays
from experiments.datasets.captioned import Captioned, Pictures
from experiments.datasets.files import DataError
from experiments.image_captioning.config import Config
from lstmjax.training import ConfigError, distributed
from lstmjax.training.batching import Padded, PairBatches, Pairs

END, START, UNKNOWN_WORD = 0, 1, 2
"""Ids of the words that are no words: of the vocabulary's first three."""

SIDES = {"flickr8k": flickr8k.SIDE, "shapes": shapes.SIDE, "tuxpaint": tuxpaint.SIDE}
"""Pixels of a side of the pictures of each data set."""

MARGIN = 8
"""Pixels of a side of a user's own pictures that are cropped at random in training."""

MOST_BYTES = 4 << 30
"""Of a file of features."""


def words(caption: str) -> list[str]:
    """The words of a caption: lower case, without punctuation except within words.

    Example:
      >>> words("A man's tri-colored dog , running .")
      ['a', "man's", 'tri-colored', 'dog', 'running']
    """
    return re.findall(r"\w(?:[\w'-]*\w)?", caption.lower())


def load(config: Config) -> Splits[Captioned]:
    """The pictures of a config, or their features.

    Raises:
      DataError: a file is missing or damaged, or a picture has no features.
    """
    side = side_of(config)
    if config.crop > side:
        raise ConfigError(f"--crop {config.crop} is more than the {side} pixels of a side.")
    if config.folder is None:
        parts = datasets.load(config.dataset, config.data_dir).limited(config.limit)
    else:
        parts = captioned.load_folder(config.folder, side).limited(config.limit)
    if config.features is not None:
        return with_features(parts, config.features)
    return parts


def side_of(config: Config) -> int:
    """Pixels of a side of the pictures of a config, before they are cropped."""
    return SIDES[config.dataset] if config.folder is None else config.crop + MARGIN


def with_features(parts: Splits[Captioned], path: Path) -> Splits[Captioned]:
    """The features of a file in the place of the pictures."""
    arrays = read_arrays(path, MOST_BYTES)
    names = [each.name for part in parts for each in part]
    check_arrays(arrays, dict.fromkeys(names, ("f", 2)), str(path))
    if len({arrays[name].shape for name in names}) > 1:
        raise DataError(f"{path}: all pictures must have equally many regions and features.")
    return Splits(
        *(
            tuple(each._replace(picture=arrays[each.name].astype(np.float32)) for each in part)
            for part in parts
        )
    )


def learn_vocabulary(config: Config, train: Sequence[Captioned]) -> Vocabulary:
    """The words of the training captions that are not rare, after `END`, `START` and the unknown word."""
    counts = Counter(word for each in train for caption in each.captions for word in words(caption))
    common = sorted(word for word, count in counts.items() if count >= config.rare)
    return Vocabulary(["<end>", "<start>", UNKNOWN, *common])


class Batch(NamedTuple):
    """Pictures, each with a caption."""

    pictures: np.ndarray
    """uint8 ``[batch, crop, crop, 3]``, or features, float32 ``[batch, regions, features]``."""
    captions: Padded
    """Ids of words, each caption with `END` after it; rows that fill up a batch have length 0."""


class Batches(NamedTuple):
    """The batches of a split: each caption of each picture once an epoch."""

    pictures: Pictures
    pairs: PairBatches
    crop: int
    mirror: bool

    @classmethod
    def of(cls, config: Config, vocabulary: Vocabulary, part: Sequence[Captioned]) -> "Batches":
        """The batches of a config."""
        numbers, captions = [], []
        for number, each in enumerate(part):
            for caption in each.captions:
                ids = vocabulary.encode(words(caption)[: config.longest])
                numbers.append(np.array([number], np.int32))
                captions.append(np.append(ids, np.int32(END)))
        pairs = PairBatches(numbers, captions, config.batch_words, config.buckets)
        return cls(stacked(part), pairs, config.crop, config.mirror)

    def at(self, seed: int, step: int) -> Batch:
        """The training batch of a step, with pictures cropped and mirrored at random.

        Of several processes each reads the pictures of its own rows; the others are black.
        """
        pairs = self.pairs.at(seed, step)
        rng = np.random.default_rng((seed, step))
        pictures = self._chosen(pairs, distributed.own_rows(len(pairs.items)))
        if pictures.ndim == 4:
            pictures = augment(rng, pictures, self.crop, self.mirror)
        return Batch(pictures, pairs.target)

    def once(self) -> Iterator[Batch]:
        """Every caption once, with the middles of the pictures."""
        for pairs in self.pairs.once():
            yield Batch(middle(self._chosen(pairs), self.crop), pairs.target)

    def _chosen(self, pairs: Pairs, own: slice = slice(None)) -> np.ndarray:
        chosen = pairs.source.values[:, 0]
        read = self.pictures[chosen[own]]
        found = np.zeros((len(chosen), *read.shape[1:]), read.dtype)
        found[own] = read
        return found


def stacked(part: Sequence[Captioned]) -> Pictures:
    """The pictures of a split as one array."""
    return Pictures([each.picture for each in part])


def augment(rng: np.random.Generator, pictures: np.ndarray, crop: int, mirror: bool) -> np.ndarray:
    """A random part of each picture ``[batch, side, side, 3]``, mirrored or not."""
    room = pictures.shape[1] - crop + 1
    found = np.empty((len(pictures), crop, crop, 3), np.uint8)
    for number, (top, left) in enumerate(rng.integers(room, size=(len(pictures), 2))):
        found[number] = pictures[number, top : top + crop, left : left + crop]
    mirrored = rng.random(len(pictures)) < 0.5 * mirror
    found[mirrored] = found[mirrored, :, ::-1]
    return found


def middle(pictures: np.ndarray, crop: int) -> np.ndarray:
    """The middle of pictures ``[batch, side, side, 3]``; features ``[batch, regions, ...]`` unchanged."""
    if pictures.ndim == 3:
        return pictures
    start = (pictures.shape[1] - crop) // 2
    return pictures[:, start : start + crop, start : start + crop]
