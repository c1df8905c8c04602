"""Binary images, drawn from grey ones."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from experiments import datasets
from experiments.datasets import Splits
from experiments.datasets.mnist import Digit
from experiments.image_generation.config import Config
from lstmjax.training.batching import Buckets

THRESHOLD = 128
"""Static binarisation: pixels from here on are ink."""


class Batch(NamedTuple):
    """Binary images."""

    images: np.ndarray
    """float32 [batch, pixels] of 0 and 1."""
    there: np.ndarray
    """bool [batch]: false for rows that fill up the batch."""
    seed: np.uint32
    """Of the noise, in evaluation."""
    kl_weight: np.float32 = np.float32(1)
    """Of the KL in the training loss."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageBatches:
    """Batches of grey images whose pixels are drawn: ink, with the brightness as its probability."""

    brightness: UInt8[np.ndarray, "images pixels"]
    batch_size: int

    @functools.cached_property
    def _order(self) -> Buckets:
        count = len(self.brightness)
        return Buckets(np.zeros(count, np.int64), (self.batch_size,), np.arange(count))

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that contain every image once."""
        return self._order.steps_per_epoch

    def at(self, seed: int, step: int) -> Batch:
        """The training batch of a step, with pixels drawn for it."""
        return self._drawn(self._order.at(seed, step)[1], seed, step)

    def once(self) -> Iterator[Batch]:
        """Every image once, in order; with the same pixels each time, for a batch size."""
        for number, (_, items) in enumerate(self._order.once()):
            yield self._drawn(items, 0, number)

    def _drawn(self, items: np.ndarray, seed: int, number: int) -> Batch:
        random = np.random.default_rng((seed, number))
        brightness = self.brightness[items]
        images = np.zeros((self.batch_size, brightness.shape[1]), np.float32)
        images[: len(items)] = 255 * random.random(brightness.shape, np.float32) < brightness
        return Batch(images, np.arange(self.batch_size) < len(items), np.uint32(number))


def load(config: Config) -> Splits[Digit]:
    """The digits of a config."""
    return datasets.load("mnist", config.data_dir).limited(config.limit)


def brightness(config: Config, digits: Sequence[Digit]) -> UInt8[np.ndarray, "images pixels"]:
    """The probabilities of ink, times 255: those of the pixels, or only 0 and 1 for static binarisation."""
    pixels = np.stack([digit.pixels.ravel() for digit in digits])
    if config.binarisation == "static":
        return np.where(pixels >= THRESHOLD, 255, 0).astype(np.uint8)
    return pixels


def log_odds(brightness: UInt8[np.ndarray, "images pixels"]) -> Float[np.ndarray, " pixels"]:
    """The log odds of ink at each pixel, as if one more image were half ink."""
    ink = (brightness.sum(axis=0, dtype=np.float64) / 255 + 0.5) / (len(brightness) + 1)
    return np.log(ink / (1 - ink)).astype(np.float32)
