"""Inks as the network reads them: normalised paths, with the classes of their labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments import datasets
from experiments.datasets import Splits
from experiments.datasets.ink import Ink
from experiments.handwriting_recognition.config import Config
from experiments.handwriting_recognition.model import frames_of
from experiments.handwriting_recognition.normalisation import normalise
from lstmjax.training.batching import PairBatches

EVALUATION_BUCKETS = 3
"""Number of lengths that inks are padded to in evaluation; each is compiled."""


class Source(NamedTuple):
    """What a task reads."""

    dataset: str
    """Its name in the table of data sets."""
    letters: str
    """The characters that labels consist of."""
    whole: bool
    """A label is one character, and an ink is that character: no CTC."""


LOWERCASE = "abcdefghijklmnopqrstuvwxyz"
SOURCES = {
    "words": Source("unipen-words", f'"{LOWERCASE.upper()}{LOWERCASE}', whole=False),
    "lowercase": Source("unipen-lowercase", LOWERCASE, whole=True),
    "digits": Source("unipen-digits", "0123456789", whole=True),
    "pendigits": Source("pendigits", "0123456789", whole=True),
}


def load(config: Config) -> Splits[Ink]:
    """The inks of a config's task."""
    return datasets.load(SOURCES[config.task].dataset, config.data_dir).limited(config.limit)


def classes_of(source: Source, text: str) -> np.ndarray:
    """The classes of a text, int32 ``[characters]``; with CTC the first letter is class 1."""
    return np.array([source.letters.index(each) for each in text], np.int32) + (not source.whole)


def text_of(source: Source, classes: Sequence[int]) -> str:
    """The text of classes; blanks are left out."""
    return "".join(source.letters[each - (not source.whole)] for each in classes if source.whole or each != 0)


def make_batches(config: Config, inks: Sequence[Ink], buckets: int = EVALUATION_BUCKETS) -> PairBatches:
    """Batches of inks: paths, and the classes of their labels."""
    source = SOURCES[config.task]
    paths = normalise(inks, straighten=not source.whole)
    targets = [classes_of(source, ink.label) for ink in inks]
    return PairBatches(paths, targets, config.batch_points, buckets)


def infeasible(batches: PairBatches) -> list[int]:
    """The inks that have fewer frames than CTC needs: one for each letter, and one between equal letters."""
    return [
        place
        for place, (path, target) in enumerate(zip(batches.sources, batches.targets, strict=True))
        if frames_of(len(path)) < len(target) + (target[1:] == target[:-1]).sum()
    ]
