"""Sequences with a label for each frame: spoken digits and proteins."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import datasets
from experiments.bidirectional_context.config import Config
from experiments.datasets import Splits
from experiments.datasets.audio import log_mel
from experiments.datasets.chains import AMINO_ACIDS, REDUCTION, STATES3, Chain, one_hot
from experiments.datasets.spoken_digits import RATE, Recording

BANDS = 26
"""Bands of the energies of a frame of sound."""


class Labelled(NamedTuple):
    """A sequence with a label for each frame."""

    inputs: np.ndarray
    """float32 [frames, features]."""
    labels: np.ndarray
    """int32 [frames]."""


def digits(parts: Splits[Recording]) -> Splits[Labelled]:
    """Log mel energies, standardized by the training split; each frame has the label of the whole digit.

    A recording is not standardized by its own mean, which would tell each frame of those after it.
    """
    energies = [[log_mel(each.samples, RATE, BANDS) for each in part] for part in parts]
    train = np.concatenate(energies[0])
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return Splits(
        *(
            tuple(
                Labelled((frames - mean) / deviation, np.full(len(frames), each.digit, np.int32))
                for frames, each in zip(own, part, strict=True)
            )
            for own, part in zip(energies, parts, strict=True)
        )
    )


def proteins(parts: Splits[Chain]) -> Splits[Labelled]:
    """One-hot amino acids and profiles of residues; the labels are the three states.

    Raises:
      ValueError: a state is unknown, or a chain has no profile.
    """
    return Splits(*(tuple(map(_residues, part)) for part in parts))


def _residues(chain: Chain) -> Labelled:
    if chain.profile is None or not chain.valid.all():
        raise ValueError(f"proteins: chain {chain.id} has no profile, or residues without a state.")
    states = np.array([STATES3.index(REDUCTION[state]) for state in chain.states], np.int32)
    return Labelled(np.hstack([one_hot(chain.sequence), chain.profile]), states)


class Source(NamedTuple):
    """A data set as it is used here."""

    dataset: str
    """Its name in the table of data sets."""
    features: int
    classes: Sequence[str]
    frame: str
    """What a frame is called."""
    label: Callable[[Splits[Any]], Splits[Labelled]]


SOURCES = {
    "digits": Source("spoken-digits", BANDS, "0123456789", "frame", digits),
    "protein": Source("protein-nr25", 2 * len(AMINO_ACIDS), STATES3, "residue", proteins),
}


def load(config: Config) -> Splits[Labelled]:
    """The labelled sequences of a config."""
    source = SOURCES[config.dataset]
    return source.label(datasets.load(source.dataset, config.data_dir).limited(config.limit))
