"""Frames of a story: handwritten digits of MNIST at half their size, which move over a small picture."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from experiments.datasets.mnist import Digit
from experiments.video_to_text.grammar import Story

SIDE = 32
"""Pixels of a side of a frame."""

Handwriting = Mapping[int, UInt8[np.ndarray, "images size size"]]
"""For each digit, its images, uint8, 0 is paper."""


def handwriting(digits: Sequence[Digit]) -> Handwriting:
    """The images of each digit, at half their size: means of 2 x 2 pixels.

    Raises:
      ValueError: a digit has no image.
    """
    pixels = np.stack([digit.pixels for digit in digits]).astype(np.float32)
    labels = np.array([digit.label for digit in digits])
    half = pixels.reshape(len(pixels), 14, 2, 14, 2).mean(axis=(2, 4)).round().astype(np.uint8)
    if missing := set(range(10)) - set(labels.tolist()):
        raise ValueError(f"handwriting: there is no image of the digits {sorted(missing)}.")
    return {digit: half[labels == digit] for digit in range(10)}


def render(
    rng: np.random.Generator, story: Story, images: Handwriting, frames: int
) -> UInt8[np.ndarray, "frames side side"]:
    """The frames of a story, each digit with an image drawn at random; where two overlap, the darker ink."""
    video = np.zeros((frames, SIDE, SIDE), np.uint8)
    for actor in story.actors:
        own = images[actor.digit]
        image = own[rng.integers(len(own))]
        size = len(image)
        corners = (actor.places(np.linspace(0, 1, frames)) * (SIDE - size)).round().astype(int)
        for frame, (top, left) in zip(video, corners.tolist(), strict=True):
            part = frame[top : top + size, left : left + size]
            np.maximum(part, image, out=part)
    return video
