"""Captions without a captioner: of the nearest training picture, of any, and the most frequent words."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from experiments.datasets.captioned import Captioned
from experiments.image_captioning.data import words

Words = list[str]

THUMBNAIL, SHADES = 8, 4
"""Sides of a thumbnail, and steps of each colour of a histogram."""


def of_random(train: Sequence[Captioned], parts: Sequence[Captioned], seed: int) -> list[Words]:
    """A training caption for each picture, drawn at random."""
    captions = [caption for each in train for caption in each.captions]
    chosen = np.random.default_rng(seed).integers(len(captions), size=len(parts))
    return [words(captions[number]) for number in chosen]


def of_frequent(train: Sequence[Captioned], parts: Sequence[Captioned]) -> list[Words]:
    """The most frequent words, as many as the median caption has, the most frequent first."""
    captions = [words(caption) for each in train for caption in each.captions]
    length = int(np.median([len(caption) for caption in captions]))
    frequent = Counter(word for caption in captions for word in caption).most_common(length)
    return [[word for word, _ in frequent]] * len(parts)


def of_nearest(
    train: Sequence[Captioned],
    known: Float[np.ndarray, "train features"],
    features: Float[np.ndarray, "pictures features"],
) -> list[Words]:
    """The first caption of the training picture of the most similar features, by the cosine."""
    sides = [
        side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12) for side in (features, known)
    ]
    return [words(train[int((sides[1] @ row).argmax())].captions[0]) for row in sides[0]]


def raw_features(pictures: np.ndarray) -> Float[np.ndarray, "pictures features"]:
    """Thumbnails and colour histograms of equal weight, of pictures ``[pictures, side, side, 3]``.

    Precomputed features ``[pictures, regions, features]`` are averaged over regions.
    """
    if pictures.ndim == 3:
        return pictures.mean(axis=1)
    count, side = pictures.shape[:2]
    edges = np.linspace(0, side, THUMBNAIL + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(pictures.astype(float), edges, axis=1), edges, axis=2)
    thumbnails = sums.reshape(count, -1)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    codes = (pictures // (256 // SHADES)).reshape(count, -1, 3) @ np.array([SHADES**2, SHADES, 1])
    histograms = np.sqrt(np.stack([np.bincount(row, minlength=SHADES**3) for row in codes]))
    return np.hstack(
        [
            part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
            for part in (thumbnails, histograms)
        ]
    )
