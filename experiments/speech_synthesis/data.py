"""Phrases with the parameters of their sound, and how these are standardized."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments import datasets
from experiments.datasets import Splits
from experiments.datasets.asterisk import Prompt
from experiments.datasets.files import DataError
from experiments.speech_synthesis import alignment, vocoder
from experiments.speech_synthesis.alignment import Phrase
from experiments.speech_synthesis.config import Config
from experiments.speech_synthesis.trajectories import most_probable, with_dynamics
from experiments.speech_synthesis.vocoder import COEFFICIENTS, Speech

BUNDLE = 2
"""Frames of 5 ms that are predicted at every step of 10 ms (Zen et al. 2016, Interspeech)."""

STATIC = COEFFICIENTS + 2
"""Static features of a frame: the mel-cepstrum, the logarithm of F0, one band of aperiodicity."""

SMALLEST = 1e-3
"""The least standard deviation that features are divided by."""


class Spoken(NamedTuple):
    """A phrase as it was spoken."""

    name: str
    """Of its prompt."""
    phrase: Phrase
    speech: Speech
    """`BUNDLE` frames for each step of the phrase."""


def load(config: Config) -> Splits[Spoken]:
    """The phrases of a config, in the splits of their prompts.

    Raises:
      DataError: the data set, the alignment or the vocoder is missing, or they do not fit.
    """
    parts = datasets.load(config.dataset, config.data_dir).limited(config.limit)
    timed = alignment.read()
    return Splits(*(tuple(each for prompt in part for each in spoken(prompt, timed)) for part in parts))


def spoken(prompt: Prompt, timed: dict[str, list[alignment.Timed]]) -> list[Spoken]:
    """The phrases of a prompt; none if it is not aligned."""
    if prompt.name not in timed:
        return []
    steps = sum(each.steps for each in timed[prompt.name])
    if steps != len(prompt.samples) // alignment.STEP:
        raise DataError(f"{prompt.name} is aligned as {steps} steps, which is not its length: run `align`.")
    speech = vocoder.cached(prompt.samples)
    found = []
    for phrase in alignment.phrases(timed[prompt.name]):
        frames = slice(BUNDLE * phrase.start, BUNDLE * (phrase.start + sum(phrase.steps)))
        found.append(Spoken(prompt.name, phrase, Speech(*(values[frames] for values in speech))))
    return found


def static(speech: Speech) -> Float[np.ndarray, "frames static"]:
    """The static features of speech: mel-cepstrum, logarithm of F0, aperiodicity."""
    return np.hstack([speech.mel_cepstrum, speech.log_f0[:, None], speech.aperiodicity[:, :1]])


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What features and durations are standardized by, from the training split."""

    mean: tuple[float, ...]
    """Of the static features, and of their differences."""
    deviation: tuple[float, ...]
    spread: tuple[float, ...]
    """The standard deviation of each static feature within a phrase, the mean over phrases."""
    duration_mean: float
    """Steps of 10 ms."""
    duration_deviation: float

    @classmethod
    def of(cls, train: Sequence[Spoken]) -> "Statistics":
        """The statistics of a training split."""
        features = [static(each.speech) for each in train]
        both = np.concatenate([with_dynamics(each) for each in features]).astype(np.float64)
        durations = np.concatenate([each.phrase.steps[1:-1] for each in train])
        return cls(
            _floats(both.mean(axis=0)),
            _floats(np.maximum(both.std(axis=0), SMALLEST)),
            _floats(np.mean([each.std(axis=0) for each in features], axis=0)),
            float(durations.mean()),
            float(max(durations.std(), SMALLEST)),
        )

    @classmethod
    def read(cls, path: Path) -> "Statistics":
        """Read the statistics of a model."""
        values = json.loads(path.read_text("utf-8"))
        for name in ("mean", "deviation", "spread"):
            values[name] = tuple(values[name])
        return cls(**values)

    def write(self, path: Path) -> None:
        """Write the statistics beside a model."""
        path.write_text(json.dumps(dataclasses.asdict(self)) + "\n", "utf-8")


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)


def width(dynamics: bool) -> int:
    """Outputs for a frame: features, and whether there is voice."""
    return (3 if dynamics else 1) * STATIC + 1


def targets(speech: Speech, statistics: Statistics, dynamics: bool) -> Float[np.ndarray, "steps outputs"]:
    """The standardized features of the frames of each step, each followed by 1 for voice, else 0."""
    features = with_dynamics(static(speech))[:, : width(dynamics) - 1]
    size = features.shape[1]
    mean, deviation = np.array(statistics.mean[:size]), np.array(statistics.deviation[:size])
    both = np.hstack([(features - mean) / deviation, speech.voiced[:, None]])
    return both.reshape(-1, BUNDLE * (size + 1)).astype(np.float32)


def speech_of(outputs: Float[np.ndarray, "steps outputs"], statistics: Statistics, dynamics: bool) -> Speech:
    """The parameters that outputs of the acoustic network stand for, where voice is a logit."""
    frames = np.asarray(outputs).reshape(-1, width(dynamics))
    size = frames.shape[1] - 1
    mean, deviation = np.array(statistics.mean[:size]), np.array(statistics.deviation[:size])
    features = frames[:, :size] * deviation + mean
    if dynamics:
        features = most_probable(features, deviation**2)
    cepstrum, log_f0, aperiodicity = np.split(features, [COEFFICIENTS, COEFFICIENTS + 1], axis=1)
    return Speech(
        cepstrum.astype(np.float32), log_f0[:, 0].astype(np.float32), frames[:, size] > 0, aperiodicity
    )
